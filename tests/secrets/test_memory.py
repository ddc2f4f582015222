"""What a store keeps open is used while nothing changed, and for no moment longer."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from identitymesh.errors import (
    AnchorBroken,
    AudienceRefused,
    HostKeyMissing,
    HostKeyUnsafe,
    HostKeyWrong,
    KeyringBroken,
    KeyringError,
    KeyringRolledBack,
    KeyringSubstituted,
    SecretBroken,
    SecretError,
    SecretMissing,
)
from identitymesh.redaction import Secret
from identitymesh.secrets import age, memory
from identitymesh.secrets.custody.rotation import rotate
from identitymesh.secrets.custody.station import Station
from identitymesh.secrets.openings import OpenRequest, judge_usual
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.tables.secrets import keyring_slot
from tests.secrets.conftest import ACTOR, Installation

VALUE = Secret("hunter2")


@pytest.fixture(params=["rested", "just written"])
def rested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose times can be relied on, and files where the content is compared too."""
    monkeypatch.setattr(memory, "RESTED_NS", -1_000_000_000 if request.param == "rested" else 10**18)


@pytest.fixture
def asked(mesh: Installation) -> OpenRequest:
    request = mesh.allow(mesh.put())
    assert mesh.store.open(request, actor=ACTOR) == VALUE
    return request


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keyrings that are opened through a slot from now on."""
    seen: list[str] = []
    original = age.open_age

    def counted(sealed: bytes, identity: Secret, keyring: str) -> Secret:
        seen.append(keyring)
        return original(sealed, identity, keyring)

    monkeypatch.setattr("identitymesh.secrets.keyrings.open_age", counted)
    return seen


def usual(mesh: Installation, request: OpenRequest) -> bool:
    """Whether one statement and what is open already are enough."""
    return judge_usual(request, mesh.rows.find(request.ref.text), mesh.store._memory) is not None


@pytest.mark.usefixtures("rested")
def test_a_keyring_is_opened_once(mesh: Installation, asked: OpenRequest, openings: list[str]) -> None:
    before = len(mesh.audit("secret.open"))
    for _ in range(3):
        assert usual(mesh, asked)
        assert mesh.store.open(asked, actor=ACTOR) == VALUE
        assert mesh.store.open_many([asked], actor=ACTOR)[asked] == VALUE
        assert mesh.store.reveal(asked.ref, actor=ACTOR) == VALUE
    assert openings == []
    assert len(mesh.audit("secret.open")) == before + 6


def test_an_opening_is_recorded_whichever_way_it_went(mesh: Installation, asked: OpenRequest) -> None:
    mesh.store.open(asked, actor=ACTOR, run="r1")
    mesh.store.prepare([asked], actor=ACTOR, run="r1")
    one, two = mesh.audit("secret.open")[:2]
    assert (one.record.payload, one.record.outcome, one.record.run) == (
        two.record.payload, two.record.outcome, two.record.run,
    )  # fmt: skip
    assert mesh.store.list()[0].last_used_by == "hr"


Damage = Callable[[Installation], object]


def _write(path: Path, content: bytes, mode: int) -> None:
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)


def _sql(statement: str) -> Damage:
    return lambda mesh: mesh.sql(statement)


def _key(mesh: Installation) -> Path:
    return mesh.host / "connectors.key"


def _anchor(mesh: Installation) -> Path:
    return mesh.host / "connectors.anchor"


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _generation(mesh: Installation) -> None:
    _anchor(mesh).write_text(_anchor(mesh).read_text().replace('"generation": 1', '"generation": 2'))


def _keyset(mesh: Installation) -> None:
    text = _anchor(mesh).read_text()
    at = text.index('"keyset": "') + 11
    _anchor(mesh).write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])


DAMAGES: dict[str, tuple[Damage, type[KeyringError | SecretError]]] = {
    "keyring row damaged": (_sql("UPDATE keyring SET sealed = substr(sealed, 1, 900)"), KeyringBroken),
    "generation edited": (_sql("UPDATE keyring SET generation = generation + 1"), KeyringBroken),
    "other keyring in its place": (
        _sql("UPDATE keyring SET sealed = (SELECT k.sealed FROM keyring k WHERE k.name = 'application')"),
        KeyringSubstituted,
    ),
    "audience edited": (
        _sql("UPDATE secret_ledger SET audience = replace(audience, 'hr', 'xx')"), AudienceRefused,
    ),
    "audience widened": (
        _sql("UPDATE secret_ledger SET audience = replace(audience, ']]', '],[\"hr\",\"evil:1\"]]')"), AudienceRefused,
    ),
    "value damaged": (_sql("UPDATE secret SET sealed = substr(sealed, 1, 100)"), SecretBroken),
    "key id edited": (_sql("UPDATE secret SET key_id = 7"), SecretBroken),
    "value of another version": (_sql("UPDATE secret SET version = 2"), SecretMissing),
    "secret deleted": (_sql("DELETE FROM secret_ledger"), SecretMissing),
    "value deleted": (_sql("DELETE FROM secret"), SecretMissing),
    "expiry edited": (_sql("UPDATE secret SET expires = 1"), SecretBroken),
    "anchor missing": (lambda mesh: _anchor(mesh).unlink(), AnchorBroken),
    "anchor empty": (lambda mesh: _anchor(mesh).write_text(""), AnchorBroken),
    "anchor too open": (lambda mesh: _anchor(mesh).chmod(0o644), AnchorBroken),
    "anchor of a newer keyring": (_generation, KeyringRolledBack),
    "anchor of another keyring": (_keyset, KeyringSubstituted),
    "anchor a link": (lambda mesh: _linked(_anchor(mesh)), AnchorBroken),
    "key missing": (lambda mesh: _key(mesh).unlink(), HostKeyMissing),
    "key empty": (lambda mesh: _write(_key(mesh), b"", 0o400), HostKeyUnsafe),
    "key too open": (lambda mesh: _key(mesh).chmod(0o440), HostKeyUnsafe),
    "key with a second name": (lambda mesh: os.link(_key(mesh), mesh.host / "second"), HostKeyUnsafe),
    "key a link": (lambda mesh: _linked(_key(mesh)), HostKeyUnsafe),
    "key of another host": (
        lambda mesh: _write(_key(mesh), age.new_identity().reveal() + b"\n", 0o400), HostKeyWrong,
    ),
    "folder open to others": (lambda mesh: mesh.host.chmod(0o777), HostKeyUnsafe),
    "list of slots damaged": (lambda mesh: (mesh.host / "connectors.slots").write_text("{"), HostKeyUnsafe),
}  # fmt: skip


@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize("name", DAMAGES)
def test_what_changed_is_noticed_by_a_store_that_has_it_open(mesh: Installation, asked: OpenRequest, name: str) -> None:
    assert usual(mesh, asked)
    damage, error = DAMAGES[name]
    damage(mesh)
    with pytest.raises(error) as warm:
        mesh.store.open(asked, actor=ACTOR)
    fresh = Installation(mesh.database, mesh.host, mesh.result)
    with pytest.raises(error) as cold:
        fresh.store.open(asked, actor=ACTOR)
    assert str(warm.value) == str(cold.value)
    assert not usual(mesh, asked)
    assert mesh.audit("secret.open")[0].record.outcome != "done"


@pytest.mark.usefixtures("rested")
def test_another_place_is_refused_although_the_audience_is_known(mesh: Installation, asked: OpenRequest) -> None:
    elsewhere = OpenRequest(asked.ref, "hr", ("evil.example:5432",))
    with pytest.raises(AudienceRefused, match=r"evil\.example"):
        mesh.store.open(elsewhere, actor=ACTOR)


@pytest.mark.usefixtures("rested")
def test_a_rotation_elsewhere_is_followed(mesh: Installation, asked: OpenRequest, openings: list[str]) -> None:
    rotate(Station(SqlCustodyRows(mesh.database), mesh.host, ACTOR, "here"), "connectors")
    del openings[:]
    assert mesh.store.open(asked, actor=ACTOR) == VALUE
    assert "connectors" in openings
    mesh.store.put(asked.ref, Secret("second"), actor=ACTOR)
    assert mesh.store.open(asked, actor=ACTOR) == Secret("second")
    assert usual(mesh, asked)


def test_an_anchor_that_is_rewritten_at_once_is_read(
    mesh: Installation, asked: OpenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of files move in steps: within one, only the content tells."""
    monkeypatch.setattr(memory, "_trace", lambda _path: (0,) * 8)
    monkeypatch.setattr(memory, "RESTED_NS", 2**63)
    mesh.store.open(asked, actor=ACTOR)
    assert usual(mesh, asked)
    _keyset(mesh)
    with pytest.raises(KeyringSubstituted):
        mesh.store.open(asked, actor=ACTOR)


def opened(mesh: Installation) -> list[tuple[str, bool]]:
    rows = mesh.sql("SELECT opened_by, opened FROM keyring_slot WHERE keyring = 'connectors' AND type = 'host-file'")
    return [(by, str(moment).startswith("2020")) for by, moment in rows]


def test_the_last_opening_of_a_slot_is_written_once_an_hour(
    mesh: Installation, asked: OpenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)

    def age() -> None:
        with mesh.database.write() as connection:
            connection.execute(update(keyring_slot).values(opened=long_ago, opened_by="somebody"))

    store = SecretStore(mesh.rows, mesh.host, here="this host")
    age()
    store.open(asked, actor=ACTOR)
    assert opened(mesh) == [("this host", False)]
    age()
    store.open(asked, actor=ACTOR)
    assert opened(mesh) == [("somebody", True)], "this store has said so within the hour"
    monkeypatch.setattr(memory, "TELL_SECONDS", 0.0)
    store.open(asked, actor=ACTOR)
    assert opened(mesh) == [("this host", False)], "and says it again later, though nothing was opened anew"
    mesh.sql("UPDATE keyring_slot SET opened_by = 'another'")
    SecretStore(mesh.rows, mesh.host, here="this host").open(asked, actor=ACTOR)
    assert opened(mesh) == [("another", False)], "somebody has said so within the hour"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_slot_that_is_being_written_is_in_nobodys_way(mesh: Installation, asked: OpenRequest) -> None:
    mesh.sql("UPDATE keyring_slot SET opened = NULL")
    store = SecretStore(mesh.rows, mesh.host, here="this host")
    with mesh.database.write() as busy:
        busy.execute(update(keyring_slot).values(opened_by="busy"))
        assert store.open(asked, actor=ACTOR) == VALUE
    assert opened(mesh)[0][0] == "busy"
