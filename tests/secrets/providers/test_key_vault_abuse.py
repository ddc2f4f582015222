"""What goes wrong with Azure Key Vault, and what is said then. Numbers are those of the list of abuse tests."""

import base64
import datetime as dt
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from identitymesh.errors import (
    ProviderDenied,
    ProviderError,
    ProviderMisconfigured,
    ProviderMismatch,
    ProviderRefused,
    ProviderUnavailable,
    SecretBroken,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.providers import assert_usable
from identitymesh.secrets.references import parse
from identitymesh.secrets.resolver import ConnectorSecrets, RunCredentials
from identitymesh.secrets.rotation import SWITCHED
from identitymesh.secrets.stores.azure_key_vault.entries import entry_name
from tests.house_rules.repository import ROOT
from tests.secrets.conftest import ACTOR
from tests.secrets.providers.contract import REF, asks
from tests.secrets.providers.keyvault import CLIENT, Azure, KeyVaultWorld
from tests.servers.azure import TENANT, Imds, Weather
from tests.servers.https import Answer, HttpsServer, Request

NAME = entry_name(REF.text)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    found = Azure.start(tmp_path_factory.mktemp("azure"))
    yield found
    found.stop()


@pytest.fixture
def world(azure: Azure) -> KeyVaultWorld:
    return azure.world()


@pytest.fixture
def imds(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    found = Imds(azure.entra, "this-machine")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", found.url)
    yield found
    found.stop()


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, azure: Azure) -> Callable[[str], Path]:
    """A program ``az`` that is logged in; answers the file that shows that it was called."""

    def make(resource: str) -> Path:
        folder, called = tmp_path / "bin", tmp_path / "called"
        folder.mkdir()
        token = azure.entra.issue("somebody", resource)["access_token"]
        program = folder / "az"
        answer = f'{{"accessToken": "{token}", "expiresOn": "2999-01-01 00:00:00.000000", "expires_on": 32472144000}}'
        program.write_text(f"#!/bin/sh\ntouch {called}\necho '{answer}'\n")
        program.chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return called

    return make


def given(world: KeyVaultWorld, **more: Any) -> Means:
    assert world.means.azure is not None
    return Means(azure=replace(world.means.azure, **more))


# Names and settings


def test_the_name_of_an_entry_is_the_one_that_is_documented(
    world: KeyVaultWorld, caplog: pytest.LogCaptureFixture
) -> None:
    ref = parse("secret://ad/svc/password")
    with caplog.at_level(logging.INFO, "identitymesh.secrets"):
        version = world.put("a value", ref)
    assert list(world.vault.secrets) == ["im-4dcca9e40db8d988ebd8f907f7449ec4"]
    (stored,) = world.vault.secrets["im-4dcca9e40db8d988ebd8f907f7449ec4"]
    assert stored.value == base64.b64encode(b"a value").decode()
    assert stored.tags == {
        "identitymesh-ref": ref.text,
        "identitymesh-installation": world.mesh.result.installation,
    }
    (record,) = [one for one in caplog.records if one.name == "identitymesh.secrets"]
    assert record.levelno == logging.INFO
    assert (record.__dict__["ref"], record.__dict__["entry"]) == (ref.text, "im-4dcca9e40db8d988ebd8f907f7449ec4")
    assert record.__dict__["version"] == version
    assert "a value" not in repr(record.__dict__)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "vault_uri"),
        ({"credential": "client-secret"}, "tenant_id"),
        ({"credential": "client-secret", "tenant_id": TENANT}, "client_id"),
        ({"credential": "client-secret", "tenant_id": TENANT, "client_id": CLIENT}, "client_secret"),
        ({"credential": "certificate", "tenant_id": TENANT, "client_id": CLIENT}, "certificate_file"),
        ({"credential": "workload-identity", "tenant_id": TENANT, "client_id": CLIENT}, "token_file"),
    ],
)
def test_half_a_configuration_is_refused_by_name(settings: dict[str, Any], missing: str) -> None:
    if missing != "vault_uri":
        settings = settings | {"vault_uri": "https://contoso-im.vault.azure.net/"}
    with pytest.raises(ProviderMisconfigured, match=rf"azure_key_vault\.{missing}, which is not set"):
        assert_usable("azure-key-vault", Means(azure=AzureKeyVaultSettings(**settings)))


@pytest.mark.parametrize(
    "uri", ["http://a.vault.azure.net", "https://u:p@a.vault.azure.net", "https://a/secrets", "a.vault.azure.net"]
)
def test_a_vault_uri_is_https_and_nothing_else(uri: str) -> None:
    with pytest.raises(ValueError, match="must be https://host"):
        AzureKeyVaultSettings(vault_uri=uri)


def test_a_missing_library_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['azure'] = None\n"
        "from identitymesh.secrets.providers import assert_usable\n"
        "from identitymesh.secrets.protectors import Means\n"
        "from identitymesh.secrets.azure.settings import AzureKeyVaultSettings as S\n"
        "try: assert_usable('azure-key-vault', Means(azure=S(vault_uri='https://a.vault.azure.net')))\n"
        "except Exception as error: print(type(error).__name__, error, error.hint)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT / 'src'}"}
    ).stdout
    assert said.startswith("ProviderMisconfigured")
    assert "identitymesh[azure]" in said


# 56: whom the login is shown to


def test_abuse_56_a_challenge_for_another_resource_is_given_no_token(world: KeyVaultWorld) -> None:
    issued = world.azure.entra.issued
    told = f'Bearer authorization="{world.azure.entra.server.url}/{TENANT}", resource="https://vault.azure.net"'
    store = world.store()
    with world.vault.when(challenge=told):
        for _again in range(2):  # the second request after a rejected challenge is refused as the first
            with pytest.raises(ProviderMismatch, match="token of another resource; none was asked for or sent"):
                store.put(REF, Secret("hunter2"), actor=ACTOR)
    assert world.azure.entra.issued == issued
    assert not any("authorization" in request.headers or request.body for request in world.vault.asked)


def test_abuse_56_no_redirect_is_followed(world: KeyVaultWorld) -> None:
    world.put("before")
    elsewhere = HttpsServer(lambda _request: Answer(body={"value": "ZXZpbA=="}), world.azure.authority.issue())
    for status in (301, 302, 307, 308):
        target = {"Location": f"{elsewhere.url}/secrets/{NAME}"}
        with (
            world.vault.when(answer=Answer(status, headers=target)),
            pytest.raises(ProviderMisconfigured, match=f"redirect \\({status}\\), which is not followed"),
        ):
            world.get()
    elsewhere.stop()
    assert elsewhere.asked == []


def test_abuse_56_a_list_that_goes_on_elsewhere_is_not_followed(world: KeyVaultWorld) -> None:
    world.put("before")
    elsewhere = world.azure.vault()
    page = Answer(body={"value": [], "nextLink": f"{elsewhere.url}/secrets?api-version=7.5"})
    provider = world.provider()
    provider.list(world.mesh.rows)
    with world.vault.when(answers=deque([page])), pytest.raises(ProviderMismatch, match="another host"):
        provider.list(world.mesh.rows)
    assert elsewhere.asked == []


def test_abuse_56_a_token_of_one_vault_is_never_shown_to_another(azure: Azure) -> None:
    worlds = [azure.world(), azure.world()]
    for world in worlds:
        world.put("value")
        world.get()
    for world in worlds:
        shown = [
            request.headers["authorization"] for request in world.vault.asked if "authorization" in request.headers
        ]
        assert shown
        resources = {azure.entra.grants[token.removeprefix("Bearer ")].resource for token in shown}
        assert resources == {world.vault.resource}


def test_a_value_is_not_sent_before_the_challenge_was_answered(world: KeyVaultWorld) -> None:
    world.put("canary")
    without_token = [request for request in world.vault.asked if "authorization" not in request.headers]
    assert without_token
    assert not any(request.body for request in without_token)


# 57: which login


def test_abuse_57_a_managed_identity_that_fails_is_not_replaced_by_a_login_of_the_cli(
    world: KeyVaultWorld, imds: Imds, az: Callable[[str], Path]
) -> None:
    called = az(world.vault.resource)
    imds.broken = 400
    means = given(world, credential="managed-identity", client_id="", authority="", instance_discovery=True)
    with pytest.raises(ProviderUnavailable, match="ManagedIdentityCredential") as refused:
        world.store(means=means).put(REF, Secret("value"), actor=ACTOR)
    assert "no other one was tried" in refused.value.hint
    assert not called.exists()
    imds.broken = None
    world.store(means=means).put(REF, Secret("value"), actor=ACTOR)
    assert {grant.client for grant in world.azure.entra.grants.values() if grant.resource == world.vault.resource} == {
        "somebody",
        "this-machine",
    }
    assert not called.exists()


def test_abuse_57_the_cli_is_used_when_it_is_chosen(world: KeyVaultWorld, az: Callable[[str], Path]) -> None:
    called = az(world.vault.resource)
    world.store(means=given(world, credential="cli", tenant_id="")).put(REF, Secret("value"), actor=ACTOR)
    assert called.exists()


def test_default_takes_the_first_that_is_there(world: KeyVaultWorld, imds: Imds) -> None:
    world.store(means=given(world, credential="default")).put(REF, Secret("value"), actor=ACTOR)
    assert imds.asked > 0


def test_a_workload_identity_logs_in_with_its_federated_token(world: KeyVaultWorld, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.federated.token")
    world.store(means=given(world, credential="workload-identity", token_file=token)).put(
        REF, Secret("value"), actor=ACTOR
    )
    (form,) = [one.body for one in world.azure.entra.server.asked if b"a.federated.token" in one.body]
    assert b"client_secret" not in form


def test_a_certificate_logs_in_and_its_key_stays_here(world: KeyVaultWorld, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "identitymesh")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path / "client.pem"
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    file.chmod(0o644)
    means = given(world, credential="certificate", certificate_file=file)
    with pytest.raises(ProviderMisconfigured, match=r"azure_key_vault\.certificate_file: .* its mode is 0644"):
        world.store(means=means).put(REF, Secret("value"), actor=ACTOR)
    file.chmod(0o400)
    world.store(means=means).put(REF, Secret("value"), actor=ACTOR)
    assert not any(b"PRIVATE" in request.body for request in world.azure.entra.server.asked)


def test_the_client_secret_may_be_of_the_application_and_never_of_the_vault(world: KeyVaultWorld) -> None:
    ref = parse("secret://azure/client")
    means = given(world, client_secret=ref.text, client_secret_file=None)
    plain = world.azure.installation("plain")
    plain.store.put(ref, Secret("a-client-secret"), actor=ACTOR, keyring="application")
    plain.sql("UPDATE installation SET provider = 'azure-key-vault'")
    world.store(plain, means).put(REF, Secret("value"), actor=ACTOR)
    (login,) = plain.audit("secret.login")
    assert login.record.subject == ref.text
    plain.sql("UPDATE secret_ledger SET keyring = 'connectors' WHERE ref = :ref", ref=ref.text)
    with pytest.raises(ProviderMisconfigured, match="what opens a vault cannot come from the vault"):
        world.store(plain, means).put(REF, Secret("value"), actor=ACTOR)


def test_a_wrong_client_secret_is_refused_in_words(world: KeyVaultWorld, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-secret")
    wrong.chmod(0o400)
    with pytest.raises(ProviderDenied, match="AADSTS7000215") as refused:
        world.store(means=given(world, client_secret_file=wrong)).put(REF, Secret("value"), actor=ACTOR)
    assert "not-the-secret" not in str(refused.value)


# 58: patience


def test_abuse_58_a_busy_vault_is_waited_for_as_it_asks(world: KeyVaultWorld) -> None:
    world.put("value")
    store = world.store()
    store.reveal(REF, actor=ACTOR)
    busy = [Answer(429, {"error": {"code": "Throttled", "message": "slow down"}}, {"Retry-After": "1"})] * 2
    began = time.monotonic()
    with world.vault.when(answers=deque(busy)):
        assert store.reveal(REF, actor=ACTOR) == Secret("value")
    assert time.monotonic() - began >= 2


def test_abuse_58_a_wait_that_is_too_long_is_told_at_once(world: KeyVaultWorld) -> None:
    world.put("value")
    store = world.store()
    store.reveal(REF, actor=ACTOR)
    before = len(world.vault.asked)
    busy = Answer(429, {"error": {"code": "Throttled", "message": "slow down"}}, {"Retry-After": "600"})
    with world.vault.when(answer=busy), pytest.raises(ProviderUnavailable, match="Retry-After: 600"):
        store.reveal(REF, actor=ACTOR)
    assert len(world.vault.asked) - before == 1


@pytest.mark.parametrize("status", [429, 503, 500])
def test_abuse_58_no_storm_is_answered_with_a_storm(world: KeyVaultWorld, status: int) -> None:
    refs = [parse(f"secret://hr/{number}") for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        writer = world.store()
        list(pool.map(lambda ref: writer.put(ref, Secret("value"), actor=ACTOR), refs))
    store = world.store()
    for ref in refs:
        store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
    before = len(world.vault.asked)
    with world.vault.when(answer=Answer(status, {"error": {"code": "Throttled", "message": "no"}})):
        opened = store.open_many(asks(*refs), actor=ACTOR)
    assert {type(answer) for answer in opened.values()} == {ProviderUnavailable}
    assert len(world.vault.asked) - before <= 4  # one asks, three times again; the others take its word


def test_abuse_58_half_a_list_is_no_list(world: KeyVaultWorld) -> None:
    world.fill(60)
    provider = world.provider()
    assert len(provider.list(world.mesh.rows)) == 60
    with world.vault.when(cut_after=1), pytest.raises(ProviderUnavailable):
        provider.list(world.mesh.rows)
    assert len(provider.list(world.mesh.rows)) == 60


def test_a_vault_that_was_deleted_is_named(azure: Azure) -> None:
    world = azure.world()
    version = world.put("value")
    world.vault.stop()
    azure.vaults.remove(world.vault)
    with pytest.raises(ProviderUnavailable, match="Azure Key Vault https://127") as failed:
        world.get()
    assert "azure_key_vault.vault_uri" in failed.value.hint
    assert world.ledger() == (version, None)


def test_an_authority_that_is_not_trusted_gets_nothing(world: KeyVaultWorld) -> None:
    with pytest.raises(ProviderUnavailable, match="certificate is not trusted"):
        world.store(means=given(world, ca_file=None)).put(REF, Secret("value"), actor=ACTOR)
    assert world.vault.asked == []


def test_an_identity_that_is_revoked_in_the_middle(world: KeyVaultWorld) -> None:
    refs = [parse(f"secret://hr/{number}") for number in range(3)]
    for ref in refs:
        world.put("value", ref)
    store = world.store()
    for ref in refs:
        store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
    assert list(store.open_many(asks(*refs), actor=ACTOR).values()) == [Secret("value")] * 3
    with world.denied():
        answers = list(store.open_many(asks(*refs), actor=ACTOR).values())
    assert {type(answer) for answer in answers} == {ProviderDenied}
    assert "Key Vault Secrets User" in next(one.hint for one in answers if isinstance(one, ProviderError))
    assert list(store.open_many(asks(*refs), actor=ACTOR).values()) == [Secret("value")] * 3


# 59: soft delete


def test_abuse_59_a_deleted_name_is_recovered_and_set(world: KeyVaultWorld) -> None:
    old = world.put("one")
    world.store().delete(REF, actor=ACTOR)
    assert list(world.vault.gone) == [NAME]
    with world.vault.when(settle=2):  # neither a deletion nor a recovery is seen at once
        world.put("two")
    assert world.get() == b"two"
    assert old in {one.version for one in world.vault.secrets[NAME]}
    with world.vault.when(settle=2):
        world.store().delete(REF, actor=ACTOR)
        world.put("three")
    assert world.get() == b"three"


def test_abuse_59_a_purge_is_for_ever_and_its_gap_is_waited_for(world: KeyVaultWorld) -> None:
    world.put("one")
    with world.vault.when(settle=2):
        world.store().delete(REF, actor=ACTOR, purge=True)
        assert world.vault.gone == {}
        world.put("two")
    assert [one.value for one in world.vault.secrets[NAME]] == [base64.b64encode(b"two").decode()]


def test_abuse_59_purge_protection_is_said(world: KeyVaultWorld) -> None:
    world.put("one")
    with world.vault.when(purge_protection=True), pytest.raises(ProviderDenied, match="purge is not allowed"):
        world.store().delete(REF, actor=ACTOR, purge=True)
    world.store().delete(REF, actor=ACTOR)
    assert not world.store().exists(REF)


def test_abuse_59_a_deleted_name_of_another_installation_is_not_recovered(world: KeyVaultWorld) -> None:
    theirs = world.store(world.make_other())
    theirs.put(REF, Secret("theirs"), actor=ACTOR)
    theirs.delete(REF, actor=ACTOR)
    with pytest.raises(ProviderMismatch, match="belongs to another installation"):
        world.put("ours")
    assert list(world.vault.gone) == [NAME]


# 60: whose entry it is


def test_abuse_60_an_entry_of_another_ref_is_neither_set_nor_deleted(world: KeyVaultWorld) -> None:
    other = parse("secret://hr/other")
    world.put("mine")
    world.put("theirs", other)
    world.exchange(REF.text, other.text)
    entries = {name: [one.version for one in versions] for name, versions in world.vault.secrets.items()}
    with pytest.raises(ProviderMismatch, match="is tagged as secret://hr/other"):
        world.put("again")
    with pytest.raises(ProviderMismatch):
        world.store().delete(REF, actor=ACTOR)
    assert entries == {name: [one.version for one in versions] for name, versions in world.vault.secrets.items()}


@pytest.mark.parametrize("lost", ["identitymesh-ref", "identitymesh-installation"])
def test_abuse_60_half_of_our_tags_is_not_none_of_them(world: KeyVaultWorld, lost: str) -> None:
    world.put("mine")
    tags = world.vault.secrets[NAME][-1].tags
    assert tags is not None
    del tags[lost]
    with pytest.raises(ProviderMismatch):
        world.get()


def test_a_version_with_copied_tags_is_followed_even_of_a_rotated_one(world: KeyVaultWorld) -> None:
    world.put("old")
    rotations = world.rotations()
    rotation = rotations.begin(REF, Secret("new"), at_server=False, retire_days=1, actor=ACTOR)
    assert rotations.switch(rotation, ACTOR).state == SWITCHED
    tags = dict(world.vault.secrets[NAME][-1].tags or {})
    assert "identitymesh-pending" in tags
    world.vault.set_outside(NAME, base64.b64encode(b"by the portal").decode(), tags)
    assert world.get() == b"by the portal"


def test_what_is_not_base64_is_refused_without_showing_it(world: KeyVaultWorld) -> None:
    world.put("mine")
    world.vault.set_outside(NAME, "pässword!")
    with pytest.raises(SecretBroken, match="is not Base64") as refused:
        world.get()
    assert "ssword!" not in str(refused.value) + refused.value.hint.replace("password", "")


def test_a_disabled_version_is_said_and_set_over(world: KeyVaultWorld) -> None:
    world.put("one")
    world.vault.secrets[NAME][-1].enabled = False
    with pytest.raises(SecretBroken, match="the current version is disabled"):
        world.get()
    world.put("two")
    assert world.get() == b"two"


def test_an_answer_that_repeats_the_value_is_not_repeated(
    world: KeyVaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("before")
    echo = Answer(400, {"error": {"code": "BadParameter", "message": "canary-1 Y2FuYXJ5LTE= is no good"}})
    store = world.store()
    store.reveal(REF, actor=ACTOR)
    with world.vault.when(denied={"set"}), pytest.raises(ProviderDenied):
        store.put(REF, Secret("canary-1"), actor=ACTOR)
    monkeypatch.setattr(world.vault, "_set", lambda _name, _document: echo)
    with pytest.raises(ProviderRefused, match="BadParameter") as refused:
        store.put(REF, Secret("canary-1"), actor=ACTOR)
    assert "canary" not in str(refused.value)
    assert "Y2FuYXJ5" not in str(refused.value)


# While a run is under way


def test_a_password_that_is_changed_in_the_vault_is_used_after_the_first_refusal(world: KeyVaultWorld) -> None:
    world.put("old")
    store = world.store()
    store.audience.allow(REF, "hr", ["db.example:5432"], ACTOR)
    needs = ConnectorSecrets("hr", {"password": REF}, ("db.example:5432",))
    run = RunCredentials(store, actor=ACTOR, run="1")
    run.prepare([needs])
    assert run.source(needs)("password") == Secret("old")
    assert not run.renewed(needs)
    world.set_outside(REF.text, b"new")
    assert run.renewed(needs)
    assert run.source(needs)("password") == Secret("new")
    assert not run.renewed(needs)  # the same one is not sent twice, so no account is locked


# Serving stale


def test_nothing_is_served_stale_unless_somebody_asked_for_it(world: KeyVaultWorld) -> None:
    world.put("value")
    store = world.store()
    store.reveal(REF, actor=ACTOR)
    with world.outage(0), pytest.raises(ProviderUnavailable):
        store.reveal(REF, actor=ACTOR)


def test_what_is_served_stale_is_young_enough_and_seen(world: KeyVaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("value")
    store = world.store(means=given(world, serve_stale_seconds=900))
    store.reveal(REF, actor=ACTOR)
    with world.outage(0):
        assert store.reveal(REF, actor=ACTOR) == Secret("value")
        newest = world.mesh.audit("secret.reveal")[0]
        assert newest.record.payload["stale_seconds"] >= 1
    with world.denied(), pytest.raises(ProviderDenied):  # who may not read any more gets nothing
        store.reveal(REF, actor=ACTOR)
    later = time.monotonic() + 901
    monkeypatch.setattr("identitymesh.secrets.stores.azure_key_vault.provider.time.monotonic", lambda: later)
    with world.outage(0), pytest.raises(ProviderUnavailable):
        store.reveal(REF, actor=ACTOR)


def test_a_quarter_of_an_hour_is_the_most() -> None:
    with pytest.raises(ValueError, match="must be at most 900"):
        AzureKeyVaultSettings(serve_stale_seconds=901)


# Doing several things at once


def test_fifty_are_asked_for_on_several_connections_at_once(
    world: KeyVaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [parse(f"secret://hr/{number}") for number in range(50)]
    writer = world.store()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda ref: writer.put(ref, Secret(ref.text), actor=ACTOR), refs))
    store = world.store()
    for ref in refs:
        store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
    store.reveal(refs[0], actor=ACTOR)
    weather = _Counting(delay=0.05)
    real = world.vault._unauthorised

    def after(request: Request, now: Weather) -> Answer | None:
        with weather.lock:
            weather.inside -= 1
        return real(request, now)

    monkeypatch.setattr(world.vault, "_unauthorised", after)
    before, world.vault.weather = len(world.vault.asked), weather
    opened = store.open_many(asks(*refs), actor=ACTOR)
    assert [answer.reveal_text() for answer in opened.values() if isinstance(answer, Secret)] == [r.text for r in refs]
    assert len(world.vault.asked) - before == 50  # one request for each, and no challenge again
    assert 4 <= weather.most <= 16


class _Counting(Weather):
    """How many requests are in the house at once."""

    lock = threading.Lock()
    inside = 0
    most = 0

    def before(self) -> Answer | None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        return super().before()
