"""One contract for everything that guards a slot's identity."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from identitymesh.errors import HostKeyMissing, HostKeyUnsafe, KeyringBroken, KeyringError, KeyringExists
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of, seal_document
from identitymesh.secrets.keyring import DataKey, Document, KeyState, Slot, SlotState
from identitymesh.secrets.opentest import Attempt, try_in_fresh_process
from identitymesh.secrets.protectors import Means, Place, SlotClass, find_protector, known_types, traits_of
from identitymesh.secrets.slots import dpapi
from tests.house_rules.repository import ROOT
from tests.secrets.providers.keyvault import CLIENT, Azure
from tests.secrets.windows import Machine
from tests.servers.azure import Imds, StoredKey
from tests.servers.https import Answer
from tests.servers.process import need
from tests.servers.swtpm import SoftwareTpm

SLOT = "5b0c5a5e-6a1c-4c57-9d3f-1f9d1f0b7a10"
TYPES = ["azure-key-vault", "dpapi", "host-file", "passphrase", "recovery", "systemd-creds", "tpm2"]
GUARDED = ["azure-key-vault", "dpapi", "passphrase", "systemd-creds", "tpm2"]


@dataclass
class Case:
    """A protector at its place, and the same slot as another machine, name or person would try it."""

    type: str
    place: Place
    identity: Secret
    elsewhere: Callable[[Place], Place]

    def guard(self) -> Place:
        guarded = find_protector(self.type, self.place).guard(self.identity)
        return replace(self.place, guarded=guarded)

    def attempt(self, place: Place) -> tuple[Attempt, Document]:
        slots = (
            Slot(SLOT, self.type, "", SlotState.ACTIVE, recipient_of(self.identity), ""),
            Slot("r", "recovery", "", SlotState.ACTIVE, recipient_of(new_identity()), ""),
        )
        key = DataKey(1, KeyState.PRIMARY, "", Secret(bytes(32)))
        keyset = os.urandom(16)
        document = Document(str(uuid.uuid4()), "connectors", keyset, Secret(os.urandom(32)), 1, (key,), slots)
        return Attempt(self.type, seal_document(document), place), document


@pytest.fixture(autouse=True)
def _what_opens_is_forked() -> None:
    """Not here: the real process opens."""


@pytest.fixture(scope="module")
def chips() -> Iterator[tuple[SoftwareTpm, SoftwareTpm]]:
    one, two = SoftwareTpm.start(), SoftwareTpm.start()
    yield one, two
    one.stop()
    two.stop()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    found = Azure.start(tmp_path_factory.mktemp("azure"))
    yield found
    found.stop()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """DPAPI of a machine here and in the fresh process."""
    monkeypatch.setattr(dpapi, "system_calls", Machine)
    run = subprocess.run

    def with_stub(command: list[str], **options: object) -> object:
        options["env"] = {**options["env"], "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}  # type: ignore[dict-item]
        return run([sys.executable, "-m", "tests.secrets.windows"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", with_stub)


@pytest.fixture(params=TYPES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    identity = new_identity()
    host, other = tmp_path / "host", tmp_path / "other"
    host.mkdir(mode=0o700)
    other.mkdir(mode=0o700)
    place = Place(host, "connectors", slot=SLOT)
    away: Callable[[Place], Place] = lambda at: replace(at, host=other)  # noqa: E731 - one line for each kind
    if request.param == "recovery":
        place = replace(place, typed=identity)
        away = lambda at: replace(at, typed=new_identity())  # noqa: E731
    if request.param == "passphrase":
        place = replace(place, typed=Secret("a long passphrase of somebody"))
        away = lambda at: replace(at, typed=Secret("a long passphrase of somebodY"))  # noqa: E731
    if request.param == "systemd-creds":
        need("systemd-creds", "systemd")
        if os.geteuid() != 0:
            pytest.skip("systemd-creds encrypts as root alone")
        disk: Path = request.getfixturevalue("on_disk")  # systemd-creds keeps no key of a host in memory
        place = replace(place, means=Means(systemd_secret=disk / "secret"))
        away = lambda at: replace(at, means=Means(systemd_secret=disk / "other-secret"))  # noqa: E731
    if request.param == "tpm2":
        one, two = request.getfixturevalue("chips")
        place = replace(place, means=Means(tpm2_tcti=one.tcti))
        away = lambda at: replace(at, means=Means(tpm2_tcti=two.tcti))  # noqa: E731
    if request.param == "azure-key-vault":
        azure = request.getfixturevalue("azure")
        one, two = (azure.key_settings(azure.vault()) for _ in range(2))
        place = replace(place, means=Means(azure=one))
        away = lambda at: replace(at, means=Means(azure=two))  # noqa: E731
    if request.param == "dpapi":
        request.getfixturevalue("windows")
    return Case(request.param, place, identity, away)


def only(*types: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", types, indirect=True)


def test_every_type_is_known_and_says_what_it_is() -> None:
    assert list(known_types()) == TYPES
    classes = {slot_type: traits_of(slot_type).slot_class for slot_type in TYPES}
    assert classes["recovery"] is SlotClass.RECOVERY
    assert classes["passphrase"] is SlotClass.ATTENDED
    assert {classes[one] for one in TYPES if one not in ("recovery", "passphrase")} == {SlotClass.UNATTENDED}
    assert min(TYPES, key=lambda one: traits_of(one).strength) == "host-file"


def test_what_is_guarded_comes_back(case: Case) -> None:
    place = case.guard()
    protector = find_protector(case.type, place)
    assert protector.type == case.type
    assert protector.exists()
    assert protector.describe()
    assert protector.identity() == case.identity
    assert (place.guarded is not None) is (case.type in GUARDED)
    assert case.identity.reveal() not in (place.guarded or b"")


def test_a_fresh_process_opens_it(case: Case) -> None:
    attempt = case.attempt(case.guard())
    assert try_in_fresh_process([attempt]) == [None]


def test_a_fresh_process_does_not_open_it_elsewhere(case: Case) -> None:
    attempt = case.attempt(case.elsewhere(case.guard()))
    (problem,) = try_in_fresh_process([attempt])
    assert problem
    assert case.identity.reveal_text() not in problem


@only("azure-key-vault", "dpapi", "host-file", "passphrase", "systemd-creds", "tpm2")
def test_elsewhere_it_is_refused_in_words(case: Case) -> None:
    place = case.elsewhere(case.guard())
    with pytest.raises(KeyringError) as refused:
        find_protector(case.type, place).identity()
    assert refused.value.hint
    assert "connectors" in refused.value.message


@only("azure-key-vault", "dpapi", "host-file", "passphrase", "systemd-creds", "tpm2")
def test_missing_is_missing_and_nothing_is_made(case: Case) -> None:
    before = sorted(case.place.host.iterdir())
    protector = find_protector(case.type, case.place)
    assert not protector.exists()
    with pytest.raises(KeyringError):
        protector.identity()
    assert sorted(case.place.host.iterdir()) == before


@only(*GUARDED)
def test_every_tampering_is_refused(case: Case) -> None:
    place = case.guard()
    guarded = place.guarded or b""
    step = max(1, len(guarded) // 24)
    cut = [guarded[:size] for size in range(0, len(guarded), step)]
    flipped = [guarded[:at] + bytes([guarded[at] ^ 1]) + guarded[at + 1 :] for at in range(0, len(guarded) - 1, step)]
    for changed in [*cut, *flipped, b"", b"{}", b"[]", guarded * 200]:
        if b"".join(changed.split()) == b"".join(guarded.split()):
            continue
        try:
            found = find_protector(case.type, replace(place, guarded=changed)).identity()
        except KeyringError:
            continue
        # Bits that mean nothing (the rest of a last Base64 character) may change; the identity may not.
        assert found == case.identity


@only("azure-key-vault", "systemd-creds", "tpm2", "dpapi")
def test_moved_to_another_slot_or_keyring_it_does_not_open(case: Case) -> None:
    place = case.guard()
    with pytest.raises(KeyringError):
        find_protector(case.type, replace(place, keyring="application")).identity()
    if case.type != "systemd-creds":  # its name is that of the keyring, so that a unit can deliver it
        with pytest.raises(KeyringError):
            find_protector(case.type, replace(place, slot="other")).identity()


@only("host-file", "dpapi")
def test_what_is_there_is_never_replaced(case: Case) -> None:
    place = case.guard()
    with pytest.raises(KeyringExists):
        find_protector(case.type, case.place).guard(new_identity())
    assert find_protector(case.type, place).identity() == case.identity


def test_after_removing_nothing_is_left_on_this_host(case: Case) -> None:
    place = case.guard()
    protector = find_protector(case.type, place)
    protector.remove()
    protector.remove()
    assert list(case.place.host.iterdir()) == []


# Passphrases


@only("passphrase")
def test_a_short_passphrase_is_refused(case: Case) -> None:
    short = replace(case.place, typed=Secret("correct horse"))
    with pytest.raises(KeyringError, match="at least 20 characters"):
        find_protector("passphrase", short).guard(case.identity)


@only("passphrase")
def test_a_row_cannot_ask_for_years_of_work(case: Case) -> None:
    guarded = case.guard().guarded or b""
    for factor in (b"21", b"63", b"99"):
        dear = re.sub(rb"(-> scrypt \S+ )\d+", rb"\g<1>" + factor, guarded, count=1)
        with pytest.raises(KeyringBroken, match="more work than is sane"):
            find_protector("passphrase", replace(case.place, guarded=dear)).identity()
    other = pyrage.encrypt(case.identity.reveal(), [pyrage.x25519.Identity.generate().to_public()])
    with pytest.raises(KeyringBroken, match="not an age file for one passphrase"):
        find_protector("passphrase", replace(case.place, guarded=other)).identity()


@only("passphrase")
def test_the_ordinary_program_could_open_it(case: Case) -> None:
    guarded = case.guard().guarded or b""
    assert pyrage.passphrase.decrypt(guarded, "a long passphrase of somebody") == case.identity.reveal()


# systemd


@only("systemd-creds")
def test_a_null_key_is_refused(case: Case) -> None:
    command = ["systemd-creds", "encrypt", "--with-key=tpm2-absent", "--name=identitymesh-connectors", "-", "-"]
    null = subprocess.run(command, input=case.identity.reveal(), capture_output=True, check=True).stdout
    assert base64.b64decode(null)[:4].hex() == "058469da"
    with pytest.raises(KeyringBroken, match="not encrypted under a key of a host"):
        find_protector("systemd-creds", replace(case.place, guarded=null)).identity()


@only("systemd-creds")
def test_a_service_reads_what_was_delivered_to_it(case: Case, tmp_path: Path, on_disk: Path) -> None:
    place = case.guard()
    delivered = Path("/dev/shm") / f"im-{uuid.uuid4().hex}"  # in memory, as systemd does it
    delivered.mkdir(mode=0o700)
    try:
        file = delivered / "identitymesh-connectors"
        file.write_bytes(case.identity.reveal() + b"\n")
        file.chmod(0o400)
        at = place
        means = Means(credentials=delivered)  # without the host key: the protector must not ask systemd
        for guarded in (place.guarded, None):
            at = replace(place, guarded=guarded, means=means)
            assert find_protector("systemd-creds", at).identity() == case.identity
            assert try_in_fresh_process([case.attempt(at)]) == [None]
        file.chmod(0o444)
        with pytest.raises(HostKeyUnsafe, match="its mode is 0444"):
            find_protector("systemd-creds", at).identity()
        file.unlink()
        file.symlink_to(tmp_path)
        with pytest.raises(HostKeyUnsafe):
            find_protector("systemd-creds", at).identity()
        lasting = on_disk / "identitymesh-connectors"
        lasting.write_bytes(case.identity.reveal())
        lasting.chmod(0o400)
        with pytest.raises(HostKeyUnsafe, match="not in memory"):
            find_protector("systemd-creds", replace(at, means=Means(credentials=on_disk))).identity()
    finally:
        shutil.rmtree(delivered)


# TPM


@only("tpm2")
def test_a_chip_that_does_not_answer_is_named(case: Case) -> None:
    place = replace(case.guard(), means=Means(tpm2_tcti="swtpm:host=127.0.0.1,port=1"))
    with pytest.raises(KeyringError, match="the TPM of this host refuses"):
        find_protector("tpm2", place).identity()


@only("tpm2")
def test_a_chip_is_left_as_it_was(case: Case) -> None:
    place = case.guard()
    for _ in range(12):  # a chip has room for three transient objects and sessions or so
        assert find_protector("tpm2", place).identity() == case.identity
        with pytest.raises(KeyringError):
            find_protector("tpm2", replace(place, slot="x")).identity()


# Azure Key Vault


def key_of(case: Case, azure: Azure) -> list[StoredKey]:
    """The versions of the key that the case wraps with."""
    settings = case.place.means.azure
    assert settings is not None
    return next(vault.keys["identitymesh"] for vault in azure.vaults if settings.key_id.startswith(vault.url))


def refused(place: Place) -> KeyringError:
    with pytest.raises(KeyringError) as found:
        find_protector("azure-key-vault", place).identity()
    assert found.value.hint
    return found.value


@only("azure-key-vault")
def test_abuse_29_the_version_of_the_key_is_pinned(case: Case, azure: Azure) -> None:
    place = case.guard()
    vault = next(one for one in azure.vaults if one.keys.get("identitymesh") is key_of(case, azure))
    pinned = json.loads(place.guarded or b"")["key"]
    assert pinned == f"{vault.url}/keys/identitymesh/{vault.keys['identitymesh'][0].version}"
    newer = vault.make_key("identitymesh")
    assert find_protector("azure-key-vault", place).identity() == case.identity
    moved = json.dumps(json.loads(place.guarded or b"") | {"key": newer}).encode()
    refused(replace(place, guarded=moved))


@only("azure-key-vault")
def test_abuse_29_a_key_that_is_disabled_deleted_or_purged_opens_nothing_and_is_named(case: Case, azure: Azure) -> None:
    place = case.guard()
    (key,) = key_of(case, azure)
    vault = next(one for one in azure.vaults if one.keys.get("identitymesh") is key_of(case, azure))
    key.enabled = False
    assert "403" in refused(place).message
    key.enabled, key.expires = True, 1
    assert find_protector("azure-key-vault", place).identity() == case.identity  # it may not wrap any more, but unwrap
    with pytest.raises(KeyringError):
        find_protector("azure-key-vault", case.place).guard(case.identity)
    vault.gone_keys["identitymesh"] = vault.keys.pop("identitymesh")
    assert "no such key" in refused(place).message
    vault.gone_keys.clear()
    assert "no such key" in refused(place).message


@only("azure-key-vault")
def test_abuse_29_a_vault_that_is_away_or_refuses_is_named(case: Case, azure: Azure) -> None:
    place = case.guard()
    for vault in azure.vaults:
        vault.weather.answer = Answer(503, {"error": {"code": "Unavailable", "message": "no"}})
    try:
        assert "503" in refused(place).message
    finally:
        for vault in azure.vaults:
            vault.weather.answer = None
    vault = next(one for one in azure.vaults if one.keys.get("identitymesh") is key_of(case, azure))
    with vault.when(revoked={CLIENT}):
        assert "403" in refused(place).message
    assert find_protector("azure-key-vault", place).identity() == case.identity


@only("azure-key-vault")
def test_a_row_does_not_choose_whom_this_host_asks(case: Case, azure: Azure) -> None:
    place = case.guard()
    elsewhere = azure.vault()
    key = elsewhere.make_key("identitymesh")
    changed = json.dumps(json.loads(place.guarded or b"") | {"key": key}).encode()
    assert "another vault" in refused(replace(place, guarded=changed)).message
    assert elsewhere.asked == []


@only("azure-key-vault")
def test_a_fresh_process_has_the_identity_of_this_machine(
    case: Case, azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    imds = Imds(azure.entra, "this-machine")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", imds.url)
    assert case.place.means.azure is not None
    plain: dict[str, Any] = {
        "credential": "managed-identity",
        "client_id": "",
        "authority": "",
        "instance_discovery": True,
    }
    case.place = replace(case.place, means=Means(azure=replace(case.place.means.azure, **plain)))
    attempt = case.attempt(case.guard())
    asked = imds.asked
    assert try_in_fresh_process([attempt]) == [None]
    assert imds.asked > asked
    imds.stop()


@only("azure-key-vault")
def test_no_secret_of_a_keyring_opens_a_slot(case: Case) -> None:
    settings = case.place.means.azure
    assert settings is not None
    settings = replace(settings, client_secret_file=None, client_secret="secret://azure/client")
    with pytest.raises(KeyringError, match=r"azure_key_vault\.client_secret_file"):
        find_protector("azure-key-vault", replace(case.place, means=Means(azure=settings))).guard(case.identity)


# DPAPI


@only("dpapi")
def test_the_scope_is_recorded_and_used_exactly(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    place = case.guard()
    fields = json.loads(place.guarded or b"")
    assert fields["scope"] == "local-machine"
    for scope in ("current-user", "LOCAL-MACHINE", "", 4):
        changed = json.dumps(fields | {"scope": scope}).encode()
        with pytest.raises(KeyringBroken, match="known scope"):
            find_protector("dpapi", replace(place, guarded=changed)).identity()
    monkeypatch.setattr(dpapi, "system_calls", lambda: Machine(b"another machine"))
    with pytest.raises(KeyringError, match="the data is invalid"):
        find_protector("dpapi", place).identity()


@only("dpapi")
def test_the_entropy_is_a_private_file(case: Case) -> None:
    place = case.guard()
    (file,) = case.place.host.iterdir()
    assert (file.stat().st_mode & 0o777, len(file.read_bytes())) == (0o400, 32)
    file.chmod(0o444)
    with pytest.raises(HostKeyUnsafe):
        find_protector("dpapi", place).identity()
    file.unlink()
    with pytest.raises(HostKeyMissing, match="entropy"):
        find_protector("dpapi", place).identity()


def test_elsewhere_than_on_windows_dpapi_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="this is not windows"):
        find_protector("dpapi", Place(tmp_path, "connectors", slot=SLOT)).guard(new_identity())
    assert list(tmp_path.iterdir()) == []
