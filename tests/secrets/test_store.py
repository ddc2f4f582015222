import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from identitymesh.errors import (
    AudienceRefused,
    HostKeyMissing,
    KeyringConflict,
    KeyringMissing,
    MeshError,
    ProviderError,
    SecretBroken,
    SecretMissing,
    SecretRefused,
    StorageError,
    UsageError,
)
from identitymesh.redaction import MASKED, Secret
from identitymesh.secrets.audiences import AudienceUse
from identitymesh.secrets.initial import InitialPasswords
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.providers import Change, Provider
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.resolver import ConnectorSecrets, RunCredentials, connector_credentials
from identitymesh.secrets.rows import DATABASE
from identitymesh.secrets.store import SecretStore
from tests.secrets.conftest import ACTOR, Installation, make_installation, make_schema


def test_set_get_exists_list_delete(mesh: Installation) -> None:
    ref = parse("secret://hr/reader")
    assert not mesh.store.exists(ref)
    assert mesh.store.put(ref, Secret("hunter2"), actor=ACTOR, owner="HR", cadence_days=90) == "1"
    assert mesh.store.put(ref, Secret("hunter3"), actor=ACTOR) == "2"
    assert mesh.store.exists(ref)
    assert mesh.store.reveal(ref, actor=ACTOR).reveal() == b"hunter3"
    (listed,) = mesh.store.list()
    assert (listed.ref, listed.owner, listed.cadence_days, listed.current_version) == (ref.text, "HR", 90, "2")
    assert (listed.audience, listed.problem, listed.last_used_by) == ((), None, ACTOR)
    mesh.store.delete(ref, actor=ACTOR)
    assert not mesh.store.exists(ref)
    assert mesh.sql("SELECT * FROM secret") == []
    for action in (mesh.store.delete, mesh.store.reveal):
        with pytest.raises(SecretMissing, match="secret://hr/reader is not stored"):
            action(ref, actor=ACTOR)
    actions = [stored.record.action for stored in reversed(mesh.audit("secret.*"))]
    assert actions == ["secret.set", "secret.set", "secret.reveal", "secret.delete", "secret.reveal"]


def test_a_new_secret_goes_nowhere_until_it_is_allowed(mesh: Installation) -> None:
    ref = mesh.put()
    request = OpenRequest(ref, "hr", ("db.example:5432",), "setting password")
    with pytest.raises(AudienceRefused, match="may not be sent by connector hr to db") as refused:
        mesh.store.open(request, actor=ACTOR)
    assert "--allow-audience secret://hr/reader" in refused.value.hint
    mesh.allow(ref)
    assert mesh.store.open(request, actor=ACTOR).reveal() == b"hunter2"
    for other in (
        OpenRequest(ref, "hr", ("evil.example:5432",)),
        OpenRequest(ref, "hr", ("db.example:5432", "evil.example:443")),
        OpenRequest(ref, "crm", ("db.example:5432",)),
        OpenRequest(ref, "hr", ()),
    ):
        with pytest.raises(AudienceRefused):
            mesh.store.open(other, actor=ACTOR)


def test_what_is_empty_or_too_large_is_refused_and_a_mask_may_be_a_password(embedded: Installation) -> None:
    ref = parse("secret://a")
    for value in ("", "x" * 16385):
        with pytest.raises(SecretRefused):
            embedded.store.put(ref, Secret(value), actor=ACTOR)
    assert not embedded.store.exists(ref)
    embedded.put("secret://a", MASKED)
    assert embedded.store.reveal(ref, actor=ACTOR).reveal_text() == MASKED


def test_one_refused_or_broken_secret_stops_only_itself(mesh: Installation) -> None:
    good, broken, nobody = mesh.put("secret://a"), mesh.put("secret://b"), mesh.put("secret://c")
    requests = [mesh.allow(good), mesh.allow(broken), OpenRequest(nobody, "hr", ("db.example:5432",))]
    requests.append(OpenRequest(parse("secret://missing"), "hr", ("db.example:5432",)))
    mesh.sql("UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE ref = 'secret://a') WHERE ref = 'secret://b'")
    opened = list(mesh.store.open_many(requests, actor=ACTOR, run="r1").values())
    assert opened[0] == Secret("hunter2")
    assert [type(error) for error in opened[1:]] == [SecretBroken, AudienceRefused, SecretMissing]
    outcomes = {stored.record.subject: stored.record.outcome for stored in mesh.audit("secret.open")}
    assert outcomes == {
        "secret://a": "done",
        "secret://b": "failed",
        "secret://c": "refused",
        "secret://missing": "failed",
    }
    assert {stored.record.run for stored in mesh.audit("secret.open")} == {"r1"}


MOVES = {
    "another ref": "UPDATE secret SET ref = 'secret://other' WHERE ref = 'secret://hr/reader' AND version = 1",
    "another version": "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE version = 1) WHERE version = 2",
    "another keyring": "UPDATE secret SET keyring = 'application'",
    "another key id": "UPDATE secret SET key_id = 2",
    "another expiry": "UPDATE secret SET expires = 4102444800",
    "an expiry in the past": "UPDATE secret SET expires = 1",
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_a_moved_or_edited_row_does_not_open(mesh: Installation, move: str) -> None:
    ref = mesh.put()
    mesh.put()
    mesh.sql(move)
    mesh.sql("UPDATE secret_ledger SET ref = 'secret://other' WHERE 'secret://other' IN (SELECT ref FROM secret)")
    moved = parse(mesh.store.list()[0].ref)
    if moved != ref:
        mesh.sql("UPDATE secret_ledger SET current_version = '1'")
    with pytest.raises(SecretBroken):
        mesh.store.reveal(moved, actor=ACTOR)


def test_a_row_of_another_installation_does_not_open(embedded: Installation, tmp_path: Path) -> None:
    from identitymesh.storage.database import open_database

    other = make_installation(open_database(f"sqlite:///{tmp_path}/other.db"), tmp_path / "other-host")
    ref = embedded.put()
    other.put(value="attacker")
    sealed = other.sql("SELECT sealed FROM secret")[0][0]
    other.database.close()
    embedded.sql("UPDATE secret SET sealed = :sealed", sealed=sealed)
    with pytest.raises(SecretBroken, match="another installation or keyring"):
        embedded.store.reveal(ref, actor=ACTOR)


EDITS = {
    "widened": """UPDATE secret_ledger SET audience = '[["hr","evil.example:443"]]'""",
    "emptied": "UPDATE secret_ledger SET audience = '[]'",
    "unreadable": "UPDATE secret_ledger SET audience = 'x'",
    "odd": "UPDATE secret_ledger SET audience = '[1]'",
    "mac": "UPDATE secret_ledger SET audience_mac = (SELECT audience_mac FROM secret_ledger WHERE ref = 'secret://b')",
    "of another ref": "UPDATE secret_ledger SET "
    "audience = (SELECT audience FROM secret_ledger WHERE ref = 'secret://b'), "
    "audience_mac = (SELECT audience_mac FROM secret_ledger WHERE ref = 'secret://b')",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_audience_edited_in_the_database_is_noticed(mesh: Installation, edit: str) -> None:
    ref = mesh.put("secret://a")
    mesh.allow(mesh.put("secret://b"), "hr", "evil.example:443")
    mesh.allow(ref)
    mesh.sql(edit + " WHERE ref = 'secret://a'")
    request = OpenRequest(ref, "hr", ("evil.example:443",))
    with pytest.raises(AudienceRefused, match="edited outside"):
        mesh.store.open(request, actor=ACTOR)
    assert [listed.problem is None for listed in mesh.store.list()] == [False, True]
    # Planning does not build on it, and allowing starts from nobody.
    use = AudienceUse(ref, "hr", ("db.example:5432",))
    plan = mesh.store.audience.plan([use])
    assert (plan.grants, plan.conflicts[0].reason) == ((), "its audience was edited outside Identity Mesh")
    mesh.store.audience.write(mesh.store.audience.plan([use], allowed=[ref]).grants, ACTOR)
    with pytest.raises(AudienceRefused, match="may not be sent"):
        mesh.store.open(request, actor=ACTOR)


def test_apply_gives_the_first_connector_and_asks_for_the_second(mesh: Installation) -> None:
    ref, other = mesh.put(), parse("secret://missing")
    first = AudienceUse(ref, "hr", ("DB.example:5432", "login.example:443"))
    uses = [first, AudienceUse(ref, "crm", ("crm.example:443",)), AudienceUse(other, "hr", ())]
    plan = mesh.store.audience.plan(uses)
    assert [str(item) for item in plan.grants[0].added] == ["hr (db.example:5432)", "hr (login.example:443)"]
    assert [(conflict.ref, str(conflict.asked[0])) for conflict in plan.conflicts] == [(ref, "crm (crm.example:443)")]
    assert plan.missing == (other,)
    mesh.store.audience.write(plan.grants, ACTOR)
    assert mesh.store.audience.plan([first]).grants == ()
    moved = mesh.store.audience.plan([AudienceUse(ref, "hr", ("new.example:5432",))])
    assert "another place" in moved.conflicts[0].reason
    allowed = mesh.store.audience.plan([AudienceUse(ref, "hr", ("new.example:5432",)), *uses[1:]], allowed=[ref])
    assert not allowed.conflicts
    assert [str(item) for item in allowed.grants[0].removed] == ["hr (db.example:5432)", "hr (login.example:443)"]
    mesh.store.audience.write(allowed.grants, ACTOR)
    assert len(mesh.audit("secret.audience")) == 2
    with pytest.raises(KeyringConflict):
        mesh.store.audience.write(plan.grants, ACTOR)


def test_two_writers_of_one_ref_take_turns(mesh: Installation) -> None:
    ref = parse("secret://hr/reader")
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda n: mesh.store.put(ref, Secret(f"value {n}"), actor=ACTOR), range(24)))
    assert sorted(map(int, versions)) == list(range(1, 25))
    assert mesh.store.list()[0].current_version == "24"
    assert all(result.ok and result.opened == 24 for result in mesh.store.verify(actor=ACTOR))


def test_what_is_stored_during_a_deletion_stays(mesh: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = parse("secret://hr/reader")
    mesh.store.put(ref, Secret("old"), actor=ACTOR)
    provider = mesh.store.providers.of(CONNECTORS, DATABASE)
    delete = type(provider).delete

    def slowly(self: Provider, ref: SecretReference, *, purge: bool = False) -> Change:
        mesh.store.put(ref, Secret("new"), actor=ACTOR)
        return delete(self, ref, purge=purge)

    monkeypatch.setattr(type(provider), "delete", slowly)
    with pytest.raises(KeyringConflict, match="another value was stored while it was deleted"):
        mesh.store.delete(ref, actor=ACTOR)
    assert mesh.store.reveal(ref, actor=ACTOR).reveal_text() == "new"


def test_an_expired_password_that_was_stored_again_meanwhile_stays(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, again = parse("secret://initial/crm/1"), parse("secret://initial/crm/2")
    for ref in (late, again):
        mesh.store.put(ref, Secret("old"), actor=ACTOR)
    mesh.sql("UPDATE secret_ledger SET expires = '2001-01-01 00:00:00'")
    delete = SecretStore.delete

    def slowly(store: SecretStore, ref: SecretReference, **given: Any) -> None:
        if ref == again and not stored:
            stored.append(store.put(ref, Secret("new"), actor=ACTOR))
        delete(store, ref, **given)

    stored: list[str] = []
    monkeypatch.setattr(SecretStore, "delete", slowly)
    InitialPasswords(mesh.rows, mesh.store, ACTOR, timedelta(days=1), lambda: datetime.now(UTC)).remove_expired()

    assert stored
    assert not mesh.store.exists(late)
    assert mesh.store.reveal(again, actor=ACTOR).reveal_text() == "new"


def test_one_bad_row_never_breaks_the_list_or_verify(mesh: Installation) -> None:
    for name in "abcd":
        mesh.put(f"secret://{name}")
    mesh.sql("UPDATE secret_ledger SET ref = 'No Reference' WHERE ref = 'secret://a'")
    mesh.sql("UPDATE secret_ledger SET keyring = 'nowhere' WHERE ref = 'secret://b'")
    mesh.sql("UPDATE secret SET sealed = :junk WHERE ref = 'secret://c'", junk=b"junk")
    assert len(mesh.store.list()) == 4
    results = {result.ref: result for result in mesh.store.verify(actor=ACTOR)}
    assert {ref: result.ok for ref, result in results.items()} == {
        "No Reference": False,
        "secret://a": False,  # its value is there, its ledger row is not
        "secret://b": False,
        "secret://c": False,
        "secret://d": True,
    }
    (record,) = mesh.audit("secret.verify")
    assert (record.record.outcome, record.record.payload["checked"]) == ("failed", 5)


def test_a_lost_version_is_named(mesh: Installation) -> None:
    ref = mesh.put()
    mesh.sql("UPDATE secret_ledger SET current_version = '9'")
    assert not mesh.store.exists(ref)
    with pytest.raises(SecretMissing, match="version 9"):
        mesh.store.reveal(ref, actor=ACTOR)
    assert not mesh.store.verify(actor=ACTOR)[0].ok
    mesh.sql("UPDATE secret_ledger SET current_version = 'x'';--'")
    with pytest.raises(SecretMissing):
        mesh.store.reveal(ref, actor=ACTOR)


def test_each_secret_is_in_one_keyring(mesh: Installation) -> None:
    ref = mesh.put("secret://smtp", keyring="application")
    assert mesh.store.list()[0].keyring == "application"
    with pytest.raises(UsageError, match="is in the keyring application"):
        mesh.put("secret://smtp", keyring="connectors")
    with pytest.raises(UsageError, match="no keyring"):
        mesh.put("secret://x", keyring="other")
    assert mesh.store.put(ref, Secret("again"), actor=ACTOR) == "2"
    (mesh.host / "connectors.key").unlink()  # as on a host for the web alone
    assert mesh.store.reveal(ref, actor=ACTOR) == Secret("again")
    with pytest.raises(HostKeyMissing):
        mesh.put("secret://x")


def test_nothing_is_released_when_it_cannot_be_recorded(mesh: Installation) -> None:
    request = mesh.allow(mesh.put())
    mesh.sql("ALTER TABLE audit RENAME TO audit_gone")
    with pytest.raises(StorageError):
        mesh.store.open_many([request], actor=ACTOR)
    with pytest.raises(StorageError):
        mesh.store.reveal(request.ref, actor=ACTOR)
    with pytest.raises(StorageError):
        mesh.put("secret://new")
    mesh.sql("ALTER TABLE audit_gone RENAME TO audit")
    assert not mesh.store.exists(parse("secret://new"))
    assert mesh.store.list()[0].last_used is None


def test_a_run_records_all_openings_before_the_first_value(mesh: Installation) -> None:
    refs = [mesh.put(f"secret://s{n}", f"value {n}") for n in range(3)]
    needs = [ConnectorSecrets(f"c{n}", {"password": ref}, (f"h{n}.example:1",)) for n, ref in enumerate(refs)]
    for need, ref in zip(needs[:2], refs, strict=False):
        mesh.store.audience.allow(ref, need.connector, need.endpoints, ACTOR)
    credentials = RunCredentials(mesh.store, actor=ACTOR, run="run-1")
    credentials.prepare(needs)
    assert [stored.record.subject for stored in mesh.audit("secret.open")] == [ref.text for ref in reversed(refs)]
    source = credentials.source(needs[0])
    assert source("password") == Secret("value 0")
    assert len(mesh.audit("secret.open")) == 3
    mesh.put("secret://s0", "rotated")
    assert source("password") == Secret("rotated")  # a reconnect is answered from the store, and recorded
    assert len(mesh.audit("secret.open")) == 4
    assert credentials.source(needs[1])("password") == Secret("value 1")
    with pytest.raises(AudienceRefused):
        credentials.source(needs[2])("password")
    with pytest.raises(SecretMissing, match="names no secret"):
        source("token")
    credentials.close()
    direct = connector_credentials(mesh.store, "c1", needs[1].fields, needs[1].endpoints, actor=ACTOR)
    assert direct("password") == Secret("value 1")


def test_last_use_is_kept(mesh: Installation) -> None:
    mesh.store.open(mesh.allow(mesh.put()), actor=ACTOR, run="r")
    (listed,) = mesh.store.list()
    assert (listed.last_used_version, listed.last_used_by) == ("1", "hr")
    assert listed.last_used is not None


def test_the_setting_chooses_the_provider_only_while_nothing_is_stored(mesh: Installation) -> None:
    assert mesh.store.settle_provider("database", actor=ACTOR) == []
    with pytest.raises(ProviderError, match="unknown provider of secrets 'dpapi'"):
        mesh.store.settle_provider("dpapi", actor=ACTOR)
    ref = mesh.put()
    mesh.sql("UPDATE installation SET provider = 'dpapi'")
    for action in (
        mesh.put,
        lambda: mesh.store.reveal(ref, actor=ACTOR),
        lambda: mesh.store.exists(ref),
        lambda: mesh.store.settle_provider("database", actor=ACTOR),
    ):
        with pytest.raises(ProviderError, match="unknown provider"):
            action()
    assert not mesh.store.verify(actor=ACTOR)[0].ok
    mesh.put("secret://smtp", keyring="application")  # these are always in the database


def test_a_database_without_installation_has_no_secrets(tmp_path: Path) -> None:
    from identitymesh.storage.database import open_database
    from identitymesh.storage.secrets import SqlSecretRows

    database = open_database(f"sqlite:///{tmp_path}/new.db")
    make_schema(database)
    store = SecretStore(SqlSecretRows(database), tmp_path / "host")
    with pytest.raises(KeyringMissing, match="no keyring yet") as missing:
        store.put(parse("secret://a"), Secret("x"), actor=ACTOR)
    assert "identitymesh init" in missing.value.hint
    assert not (tmp_path / "host").exists()
    database.close()


def spellings(canary: bytes) -> list[bytes]:
    return [
        canary,
        base64.b64encode(canary).rstrip(b"="),
        base64.b64encode(b"x" + canary)[2:-4],
        canary.hex().encode(),
        canary.hex().upper().encode(),
        quote(canary).encode(),
        json.dumps(canary.decode()).encode(),
    ]


def test_no_value_is_in_the_database_files(embedded: Installation, tmp_path: Path) -> None:
    canary = "Canary/pa ss+Wörd%7"
    ref = embedded.put(value=canary, description="nothing to see")
    embedded.store.open(embedded.allow(ref), actor=ACTOR)
    embedded.put(value=canary)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mesh.db", "mesh.db-wal"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert [form for form in spellings(canary.encode()) if form in content] == [], path
    recovery = embedded.result.recovery_key.reveal()
    assert [path for path in files if recovery in path.read_bytes()] == []


def test_errors_of_openings_are_the_products_own(mesh: Installation) -> None:
    request = mesh.allow(mesh.put())
    mesh.sql("DELETE FROM secret")
    (answer,) = mesh.store.open_many([request], actor=ACTOR).values()
    assert isinstance(answer, MeshError)
    assert answer.hint
