"""Slots, joining, the recovery key and rotation on real keyrings, on both databases."""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest

from identitymesh.errors import (
    Busy,
    HostKeyMissing,
    HostKeyWrong,
    KeyringBroken,
    KeyringError,
    KeyringRolledBack,
    KeyringSubstituted,
    LeaseLost,
    MeshError,
    RotationIncomplete,
    SlotRefused,
    UsageError,
)
from identitymesh.redaction import Secret
from identitymesh.secrets import opentest
from identitymesh.secrets.age import new_identity, recipient_of, seal_document
from identitymesh.secrets.custody import adding, joining, removing, rotation
from identitymesh.secrets.custody.changes import check_removal
from identitymesh.secrets.custody.rotation import rotate
from identitymesh.secrets.custody.service import KeyCustody
from identitymesh.secrets.custody.station import Station
from identitymesh.secrets.custody.status import Status, TrialResult
from identitymesh.secrets.keyring import CONNECTORS, KEYRINGS, Document, KeyState, SlotState
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import parse
from identitymesh.secrets.rows import RotationRow, SealedRow
from identitymesh.secrets.sealing import seal
from identitymesh.secrets.slots.host_file import HostFile
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.custody import SqlCustodyRows
from tests.secrets.conftest import ACTOR, Installation


def station(mesh: Installation, host: Path | None = None, here: str = "test host") -> Station:
    return Station(SqlCustodyRows(mesh.database), host or mesh.host, ACTOR, here)


def keys(mesh: Installation, host: Path | None = None, here: str = "test host") -> KeyCustody:
    return KeyCustody(station(mesh, host, here))


def silent(_shown: object) -> None:
    """Nobody reads it."""


def join(mesh: Installation, host: Path, here: str, **more: str) -> KeyCustody:
    joined = keys(mesh, host, here)
    joined.join("recovery", mesh.result.recovery_key, **more)
    return joined


def fill(mesh: Installation, count: int = 7) -> dict[str, str]:
    """Secrets of both keyrings, one with a history."""
    values = {f"secret://s/{number}": f"value {number}" for number in range(count)}
    for ref, value in values.items():
        mesh.allow(mesh.put(ref, value, keyring="application" if ref.endswith("3") else "connectors"))
    mesh.put("secret://s/0", "older")
    mesh.put("secret://s/0", values["secret://s/0"])
    return values


def opened(mesh: Installation, host: Path | None = None) -> dict[str, str]:
    """Every value, the way a connector gets it: the audience is asked."""
    store = SecretStore(mesh.rows, host or mesh.host)
    refs = [row[0] for row in mesh.sql("SELECT ref FROM secret_ledger ORDER BY ref")]
    requests = [OpenRequest(parse(ref), "hr", ("db.example:5432",)) for ref in refs]
    found = store.open_many(requests, actor=ACTOR)
    return {request.ref.text: _text(value) for request, value in found.items()}


def _text(value: Secret | MeshError) -> str:
    if isinstance(value, MeshError):
        raise value
    return value.reveal_text()


def data_keys(mesh: Installation, name: str = "connectors") -> list[tuple[int, KeyState]]:
    return [(key.id, key.state) for key in station(mesh).open(name).data_keys]


def slots(status: Status, name: str = "connectors") -> dict[str, str]:
    (found,) = [one for one in status.keyrings if one.keyring == name]
    return {f"{slot.type} {slot.label}".strip(): slot.state for slot in found.slots}


# Status and open-test


def test_status_says_what_there_is(mesh: Installation) -> None:
    found = keys(mesh).status()
    assert found.sheet_verified
    one = found.keyrings[0]
    assert (one.keyring, one.generation, one.problem, one.anchor_generation) == ("connectors", 1, None, 1)
    assert one.fingerprint == mesh.result.fingerprint
    assert [
        (slot.type, slot.slot_class, slot.state, slot.here) for slot in sorted(one.slots, key=lambda s: s.type)
    ] == [
        ("host-file", "unattended", "active", True),
        ("recovery", "recovery", "active", False),
    ]
    assert one.weakest == "host-file"
    assert all(slot.opened and slot.opened_by == "test host" for slot in one.slots)


def test_status_without_a_key_says_why_and_shows_the_hints(mesh: Installation) -> None:
    (mesh.host / "connectors.key").unlink()
    one, two = keys(mesh).status().keyrings
    assert "is missing" in (one.problem or "")
    assert one.hint
    assert len(one.slots) == 2
    assert two.problem is None
    results = keys(mesh).open_test()
    assert [(one.keyring, one.problem is None) for one in results] == [("connectors", False), ("application", True)]


def test_status_on_a_host_that_has_not_joined_says_how(mesh: Installation, tmp_path: Path) -> None:
    for one in keys(mesh, tmp_path / "new", "new").status().keyrings:
        assert one.problem == f"this host has not joined the keyring {one.keyring}"
        assert "identitymesh keys join" in one.hint
        assert one.anchor_problem is None
        assert len(one.slots) == 2


def test_open_test_tries_each_slot_in_reach_and_what_is_typed(mesh: Installation) -> None:
    mesh.sql("UPDATE keyring_slot SET opened = NULL")
    assert [(one.type, one.problem) for one in keys(mesh).open_test()] == [("host-file", None)] * 2
    typed = keys(mesh).open_test("recovery", mesh.result.recovery_key)
    assert [(one.type, one.problem) for one in typed] == [("recovery", None)] * 2
    wrong: Sequence[TrialResult] = keys(mesh).open_test("recovery", new_identity())
    assert all("not sealed to the slot" in (one.problem or "") for one in wrong)
    assert mesh.sql("SELECT count(*) FROM keyring_slot WHERE opened IS NULL")[0][0] == 0


# Adding


def test_a_slot_is_pending_until_a_fresh_process_opened_it(mesh: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Secret] = []
    monkeypatch.setattr(adding, "try_in_fresh_process", lambda attempts: ["the disk is gone" for _one in attempts])
    with pytest.raises(KeyringBroken, match="does not open in a fresh process: the disk is gone"):
        keys(mesh).add("passphrase", ["connectors"], "desk", shown.append)
    assert slots(keys(mesh).status())["passphrase desk"] == "pending"
    with pytest.raises(HostKeyWrong, match="still pending"):
        keys(mesh, mesh.host.parent / "n", "n").join("passphrase", shown[0])
    monkeypatch.undo()
    (added,) = keys(mesh).add("passphrase", ["connectors"], "desk", shown.append)
    assert not added.already
    assert slots(keys(mesh).status()) == {
        "host-file test host": "active",
        "recovery": "active",
        "passphrase desk": "active",
    }
    assert len(shown) == 2
    assert len(shown[1].reveal_text().replace("-", "")) == 30
    (again,) = keys(mesh).add("passphrase", ["connectors"], "desk", shown.append)
    assert again.already
    assert len(shown) == 2
    opened_through = keys(mesh).open_test("passphrase", shown[1])
    assert [one.problem for one in opened_through] == [None]
    assert shown[1].reveal() not in repr(mesh.audit()).encode()


def test_slots_are_added_while_all_others_are_away(mesh: Installation) -> None:
    """Only their public recipients are needed: neither the recovery key nor another host takes part."""
    before = station(mesh).open("connectors")
    keys(mesh).add("passphrase", ["connectors"], None, silent)
    after = station(mesh).open("connectors")
    assert set(before.recipients()) < set(after.recipients())
    assert mesh.sql("SELECT count(*) FROM slot_guard")[0][0] == 1


def test_two_who_add_at_once_both_succeed(mesh: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys(mesh)
    original = adding._store_pending
    done: list[str] = []

    def slow(*arguments: object) -> None:
        if not done:
            done.append("x")
            first.add("passphrase", ["connectors"], "one", silent)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(adding, "_store_pending", slow)
    first.add("passphrase", ["connectors"], "two", silent)
    assert {"passphrase one", "passphrase two"} <= set(slots(first.status()))


def test_two_who_add_the_key_file_of_one_host_at_once_leave_it_there(
    mesh: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "chip"
    host.mkdir(mode=0o700)
    for name in KEYRINGS:
        shutil.copy(mesh.host / f"{name}.anchor", host)

    class Chip(Station):
        """A host that has another way in, and no key file yet."""

        def open(self, name: str) -> Document:
            return station(mesh).open(name)

    chip = Chip(SqlCustodyRows(mesh.database), host, ACTOR, "chip")
    original, arrived = adding._store_pending, threading.Barrier(2)

    def together(*arguments: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            arrived.wait(1)
        original(*arguments)

    monkeypatch.setattr(adding, "_store_pending", together)
    with ThreadPoolExecutor(2) as pool:
        adds = [pool.submit(adding.add_slots, chip, "host-file", ["connectors"], "chip", silent) for _ in range(2)]
    added = [one for add in adds for one in add.result()]
    assert sorted(one.already for one in added) == [False, True]
    assert len({one.id for one in added}) == 1
    (slot,) = [one for one in station(mesh).open("connectors").slots if one.label == "chip"]
    assert slot.recipient == recipient_of(HostFile(host, "connectors").identity())


def test_a_slot_that_came_into_use_meanwhile_is_not_taken_for_one_that_was_left(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove, guard = adding.prove, adding.guard
    steps: list[str] = []

    def second_begins(*arguments: Any) -> None:
        if not steps:
            steps.append("begun")
            keys(mesh).add("passphrase", ["connectors"], "mine", silent)
        prove(*arguments)

    def first_ends(*arguments: Any) -> Any:
        if steps == ["begun"]:
            steps.append("ended")
            (slot,) = [one for one in station(mesh).open("connectors").slots if one.label == "mine"]
            adding.store_active(station(mesh), station(mesh).open("connectors"), [slot.id])
        return guard(*arguments)

    monkeypatch.setattr(adding, "prove", second_begins)
    monkeypatch.setattr(adding, "guard", first_ends)
    keys(mesh).add("passphrase", ["connectors"], "mine", silent)
    active = [one for one in station(mesh).open("connectors").slots if one.label == "mine"]
    assert steps == ["begun", "ended"]
    assert [one.state for one in active] == [SlotState.ACTIVE, SlotState.ACTIVE]


def test_a_slot_that_was_removed_before_it_came_into_use_is_not_said_to_be_there(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove = adding.prove

    def then_removed(*arguments: Any) -> None:
        prove(*arguments)
        keys(mesh).remove("mine", [])

    monkeypatch.setattr(adding, "prove", then_removed)
    with pytest.raises(KeyringBroken, match="the new slot was removed before it came into use"):
        keys(mesh).add("passphrase", ["connectors"], "mine", silent)


def test_a_host_whose_slot_was_removed_while_it_joined_is_told(
    mesh: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = opentest.open_in_fresh_process

    def then_removed(*arguments: Any) -> None:
        proven(*arguments)
        keys(mesh).remove("another", [])

    monkeypatch.setattr(joining, "open_in_fresh_process", then_removed)
    with pytest.raises(KeyringBroken, match="the slot of this host was removed before it came into use"):
        join(mesh, tmp_path / "another", "another")


@pytest.mark.parametrize(
    ("slot_type", "error"), [("recovery", SlotRefused), ("null", KeyringBroken), ("dpapi", KeyringError)]
)
def test_what_cannot_be_added_changes_nothing(embedded: Installation, slot_type: str, error: type[MeshError]) -> None:
    def everything() -> tuple[object, ...]:
        files = [one for one in embedded.host.iterdir() if one.suffix != ".lock"]  # which are empty
        return embedded.sql("SELECT * FROM keyring"), sorted(files)

    before = everything()
    with pytest.raises(error):
        keys(embedded).add(slot_type, [], None, silent)
    assert everything() == before


# Removing


def test_the_last_of_each_kind_stays(mesh: Installation, tmp_path: Path) -> None:
    before = mesh.sql("SELECT * FROM keyring ORDER BY name")
    found = keys(mesh).status().keyrings[0]
    by_type = {slot.type: slot.id for slot in found.slots}
    with pytest.raises(SlotRefused, match="last recovery slot") as refused:
        keys(mesh).remove(by_type["recovery"], [])
    assert "replace-recovery" in refused.value.hint
    with pytest.raises(SlotRefused, match="opens without a person"):
        keys(mesh).remove(by_type["host-file"], [])
    with pytest.raises(UsageError, match="no keyring has a slot"):
        keys(mesh).remove("nowhere", [])
    assert mesh.sql("SELECT * FROM keyring ORDER BY name") == before
    join(mesh, tmp_path / "two", "two")
    with pytest.raises(SlotRefused, match="this host opens it through that slot alone"):
        keys(mesh).remove("test host", [])


def test_fewer_than_two_slots_are_never_left(embedded: Installation) -> None:
    document = station(embedded).open("connectors")
    only = replace(document, slots=tuple(slot for slot in document.slots if slot.type == "recovery"))
    with pytest.raises(SlotRefused):
        check_removal(only, [])


def test_an_evicted_host_reads_nothing_that_is_stored_later(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    evicted = tmp_path / "evicted"
    join(mesh, evicted, "evicted")
    assert opened(mesh, evicted) == values
    old = Document.secret_hash(station(mesh).open("connectors"))
    removed = keys(mesh).remove("evicted", [])
    assert [slot.label for found in removed.slots.values() for slot in found] == ["evicted", "evicted"]
    assert [report.keyring for report in removed.rotations] == list(KEYRINGS)
    assert opened(mesh) == values
    assert station(mesh).open("connectors").secret_hash() != old
    assert data_keys(mesh) == [(2, KeyState.PRIMARY)]
    # It still reaches the database.
    for action in (lambda: opened(mesh, evicted), lambda: rotate(station(mesh, evicted, "evicted"), "connectors")):
        with pytest.raises(HostKeyWrong, match="opens none of its slots"):
            action()
    with pytest.raises(HostKeyWrong):
        keys(mesh, evicted, "evicted").add("passphrase", ["connectors"], None, silent)
    # What it can do, and what the others say: it knows the public recipients.
    document = station(mesh).open("connectors")
    forged = replace(document, keyset_secret=Secret(os.urandom(32)), generation=document.generation + 1)
    put(mesh, forged)
    with pytest.raises(KeyringSubstituted):
        station(mesh).open("connectors")


def put(mesh: Installation, document: Document, name: str | None = None) -> None:
    mesh.sql(
        "UPDATE keyring SET sealed = :sealed, generation = :generation WHERE name = :name",
        sealed=seal_document(document),
        generation=document.generation,
        name=name or document.keyring,
    )


def test_other_hosts_follow_two_removals_that_they_slept_through(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    for name in ("sleeper", "one", "two"):
        join(mesh, tmp_path / name, name)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "sleeper", kept)
    first = mesh.sql("SELECT sealed, generation FROM keyring WHERE name = 'connectors'")[0]
    keys(mesh).remove("one", [])
    middle = mesh.sql("SELECT sealed, generation FROM keyring WHERE name = 'connectors'")[0]
    keys(mesh).remove("two", [])
    assert len(station(mesh).open("connectors").endorsements) == 2
    assert opened(mesh, tmp_path / "sleeper") == values
    # Who has followed does not go back, by any step.
    last = mesh.sql("SELECT sealed, generation FROM keyring WHERE name = 'connectors'")[0]
    for older in (first, middle):
        mesh.sql("UPDATE keyring SET sealed = :s, generation = :g WHERE name = 'connectors'", s=older[0], g=older[1])
        with pytest.raises((KeyringSubstituted, KeyringRolledBack)):
            station(mesh, tmp_path / "sleeper").open("connectors")
    mesh.sql("UPDATE keyring SET sealed = :s, generation = :g WHERE name = 'connectors'", s=last[0], g=last[1])
    assert opened(mesh, kept) == values  # from the first keyring in one step


BREAKS: dict[str, Callable[[Document], Document]] = {
    "no endorsement": lambda d: replace(d, endorsements=()),
    "the first is missing": lambda d: replace(d, endorsements=d.endorsements[1:]),
    "another order": lambda d: replace(d, endorsements=d.endorsements[::-1]),
    "an edited word": lambda d: replace(
        d, endorsements=(replace(d.endorsements[0], mac=bytes(32)), *d.endorsements[1:])
    ),
    "another next": lambda d: replace(
        d, endorsements=(*d.endorsements[:1], replace(d.endorsements[1], next_secret_sha256="0" * 64))
    ),
    "another generation": lambda d: replace(
        d, endorsements=(replace(d.endorsements[0], generation=d.endorsements[0].generation + 1), *d.endorsements[1:])
    ),
    "another secret at the end": lambda d: replace(d, keyset_secret=Secret(bytes(range(32)))),
}


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS.keys())
def test_a_chain_with_a_broken_link_leads_nowhere(
    embedded: Installation, tmp_path: Path, change: Callable[[Document], Document]
) -> None:
    for name in ("sleeper", "one", "two"):
        join(embedded, tmp_path / name, name)
    keys(embedded).remove("one", [])
    keys(embedded).remove("two", [])
    put(embedded, change(station(embedded).open("connectors")))
    with pytest.raises(KeyringSubstituted, match="not made by whoever made"):
        station(embedded, tmp_path / "sleeper").open("connectors")


def test_two_keyrings_swapped_or_rolled_back_after_changes_are_named(embedded: Installation) -> None:
    keys(embedded).rotate([])
    old = {name: station(embedded).open(name) for name in KEYRINGS}
    keys(embedded).rotate([])
    put(embedded, old["connectors"])
    with pytest.raises(KeyringRolledBack, match="this host has seen"):
        station(embedded).open("connectors")
    put(embedded, replace(old["application"], generation=99), "connectors")
    with pytest.raises(KeyringError):
        station(embedded).open("connectors")


def test_audiences_follow_and_an_edited_one_stays_refused(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    join(mesh, tmp_path / "two", "two")
    mesh.sql("UPDATE secret_ledger SET audience = '[]' WHERE ref = 'secret://s/1'")
    keys(mesh).remove("two", [])
    del values["secret://s/1"]
    problems = {row.ref: row.problem for row in mesh.store.list()}
    assert {ref for ref, problem in problems.items() if problem} == {"secret://s/1"}
    mesh.sql("DELETE FROM secret_ledger WHERE ref = 'secret://s/1'")
    assert opened(mesh) == values


# The recovery key


def test_a_new_recovery_key_takes_the_place_of_the_old_one_in_both(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    shown: list[removing.NewRecovery] = []
    reports = keys(mesh).replace_recovery(shown.append)
    assert [report.keyring for report in reports] == list(KEYRINGS)
    (new,) = shown
    assert new.fingerprint == keys(mesh).status().keyrings[0].fingerprint != mesh.result.fingerprint
    with pytest.raises(HostKeyWrong):
        join(mesh, tmp_path / "old", "old")
    report = keys(mesh, tmp_path / "new", "new").join("recovery", new.recovery_key, fingerprint=new.fingerprint)
    assert report.verified
    assert opened(mesh, tmp_path / "new") == values
    for name in KEYRINGS:
        sealed = mesh.sql("SELECT sealed FROM keyring WHERE name = :n", n=name)[0][0]
        identity = pyrage.x25519.Identity.from_str(new.recovery_key.reveal_text())
        assert pyrage.decrypt(bytes(sealed), [identity])


def test_when_the_new_recovery_key_cannot_be_shown_nothing_changes(mesh: Installation) -> None:
    def announce(_new: object) -> None:
        raise BrokenPipeError

    before = mesh.sql("SELECT * FROM keyring ORDER BY name")
    with pytest.raises(BrokenPipeError):
        keys(mesh).replace_recovery(announce)
    assert mesh.sql("SELECT * FROM keyring ORDER BY name") == before


def test_of_two_who_replace_the_recovery_key_at_once_one_key_stays(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = opentest.open_in_fresh_process
    shown: list[removing.NewRecovery] = []

    def slowly(*arguments: Any) -> None:
        proven(*arguments)
        monkeypatch.setattr(removing, "open_in_fresh_process", proven)
        keys(mesh).replace_recovery(shown.append)

    monkeypatch.setattr(removing, "open_in_fresh_process", slowly)
    keys(mesh).replace_recovery(shown.append)
    for name in KEYRINGS:
        left = [one.recipient for one in station(mesh).open(name).slots if one.type == "recovery"]
        assert left == [recipient_of(shown[0].recovery_key)]


def test_a_replacement_that_was_interrupted_makes_no_second_key(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[removing.NewRecovery] = []
    monkeypatch.setattr(removing, "rotate", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        keys(mesh).replace_recovery(shown.append)
    monkeypatch.undo()
    assert len(keys(mesh).replace_recovery(shown.append)) == 2
    assert len(shown) == 1
    assert keys(mesh).status().keyrings[0].fingerprint == shown[0].fingerprint


# Joining


def test_a_new_host_joins_with_the_recovery_key(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    host = tmp_path / "new"
    report = keys(mesh, host, "new").join(
        "recovery", mesh.result.recovery_key, fingerprint=mesh.result.fingerprint.upper()
    )
    assert (report.verified, report.secrets, list(report.broken), report.already) == (True, 9, [], False)
    assert opened(mesh, host) == opened(mesh) == values
    assert {path.name for path in host.iterdir() if not path.name.startswith(".")} == {
        *(f"{name}.{kind}" for name in KEYRINGS for kind in ("key", "anchor")),
        "recovery-sheet",
    }
    assert {(host / f"{name}.key").stat().st_mode & 0o777 for name in KEYRINGS} == {0o400}
    again = keys(mesh, host, "new").join("recovery", mesh.result.recovery_key)
    assert again.already
    assert again.verified
    assert len(station(mesh).open("connectors").slots) == 3
    assert [stored.record.payload["through"] for stored in mesh.audit("keyring.join")] == ["recovery"] * 2


def test_without_a_fingerprint_the_trust_is_recorded_as_unverified(mesh: Installation, tmp_path: Path) -> None:
    joined = join(mesh, tmp_path / "new", "new")
    assert not joined.status().sheet_verified
    assert keys(mesh).status().sheet_verified
    joined.join("recovery", mesh.result.recovery_key, fingerprint=mesh.result.fingerprint)
    assert joined.status().sheet_verified


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        ("fingerprint", KeyringSubstituted),
        ("wrong key", HostKeyWrong),
        ("no key", KeyringError),
        ("one character", KeyringError),
        ("installation", KeyringSubstituted),
        ("forged", KeyringSubstituted),
    ],
)
def test_a_join_that_is_refused_changes_nothing(
    mesh: Installation, tmp_path: Path, prepare: str, error: type[MeshError]
) -> None:
    fill(mesh)
    key, options = mesh.result.recovery_key, {}
    if prepare == "fingerprint":
        options = {"fingerprint": "0000-0000-0000-0000-0000"}
    if prepare == "wrong key":
        key = new_identity()
    if prepare == "no key":
        key = Secret("")
    if prepare == "one character":
        text = key.reveal_text()
        key = Secret(text[:30] + ("Q" if text[30] != "Q" else "P") + text[31:])
    if prepare == "installation":
        mesh.sql("UPDATE installation SET id = 'another'")
    if prepare == "forged":
        document = station(mesh).open("connectors")
        stolen = tuple(replace(one, secret=Secret(bytes(32))) for one in document.data_keys)
        put(mesh, replace(document, data_keys=stolen, keyset_secret=Secret(bytes(32))))
    before = mesh.sql("SELECT * FROM keyring ORDER BY name")
    with pytest.raises(error) as refused:
        keys(mesh, tmp_path / "new", "new").join("recovery", key, **options)
    if prepare == "wrong key":
        assert "this recovery key opens none of its slots" in str(refused.value)
        assert "recovery sheet" in refused.value.hint
    assert mesh.sql("SELECT * FROM keyring ORDER BY name") == before
    assert not (tmp_path / "new").exists()


def test_a_host_joins_through_a_passphrase(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    shown: list[Secret] = []
    keys(mesh).add("passphrase", [], "desk", shown.append)
    assert len(shown) == 1
    joined = keys(mesh, tmp_path / "new", "new")
    with pytest.raises(KeyringError, match="does not open this slot"):
        joined.join("passphrase", Secret("x" * 30))
    joined.join("passphrase", shown[0])
    assert opened(mesh, tmp_path / "new") == values
    with pytest.raises(HostKeyWrong, match="no slot of the type tpm2"):
        keys(mesh, tmp_path / "other", "other").join("tpm2", None)


def test_a_host_that_lost_its_key_keeps_its_anchor(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    keys(mesh).rotate([])
    for name in KEYRINGS:
        (mesh.host / f"{name}.key").unlink()
    with pytest.raises(HostKeyMissing):
        opened(mesh)
    keys(mesh).join("recovery", mesh.result.recovery_key)
    assert opened(mesh) == values


# Rotation


def test_every_value_moves_to_the_new_key_and_the_old_one_goes(mesh: Installation) -> None:
    values = fill(mesh)
    before = dict(mesh.sql("SELECT ref || version, sealed FROM secret"))
    seen: list[tuple[str, str, int, int | None]] = []
    report = rotate(station(mesh), "connectors", lambda *step: seen.append(step), batch=2)
    assert (report.key, report.resealed, report.verified, report.resumed) == (2, 8, 8, False)
    assert data_keys(mesh) == [(2, KeyState.PRIMARY)]
    assert data_keys(mesh, "application") == [(1, KeyState.PRIMARY)]
    after = dict(mesh.sql("SELECT ref || version, sealed FROM secret"))
    assert [ref for ref, sealed in after.items() if before[ref] == sealed] == ["secret://s/31"]
    assert opened(mesh) == values
    assert mesh.sql("SELECT * FROM keyring_rotation") == []
    assert ("sealing again", "connectors", 0, 8) in seen
    assert seen[-1] == ("verifying", "connectors", 8, 8)
    states = [stored.record.payload["state"] for stored in reversed(mesh.audit("keyring.rotate"))]
    assert states == ["prepared", "promoted", "retired"]
    rotate(station(mesh), "connectors")
    assert data_keys(mesh) == [(3, KeyState.PRIMARY)]


def test_a_value_that_does_not_open_keeps_the_old_key_and_is_named(mesh: Installation) -> None:
    values = fill(mesh)
    sealed = mesh.sql("SELECT sealed FROM secret WHERE ref = 'secret://s/2'")[0][0]
    junk = bytes(sealed)[:-1] + bytes([bytes(sealed)[-1] ^ 1])
    mesh.sql("UPDATE secret SET sealed = :junk WHERE ref = 'secret://s/2'", junk=junk)
    with pytest.raises(
        RotationIncomplete, match="1 stored values do not open: secret://s/2; the old key stays"
    ) as held:
        rotate(station(mesh), "connectors")
    assert "keys rotate connectors" in held.value.hint
    assert data_keys(mesh) == [(1, KeyState.RETIRING), (2, KeyState.PRIMARY)]
    status = keys(mesh).status().keyrings[0].rotation
    assert status is not None
    assert (status.state, status.working, status.done, status.total) == ("verify", False, 7, 8)
    mesh.sql("UPDATE secret SET sealed = :sealed WHERE ref = 'secret://s/2'", sealed=sealed)
    report = rotate(station(mesh), "connectors")
    assert (report.resumed, report.resealed) == (True, 1)
    assert data_keys(mesh) == [(2, KeyState.PRIMARY)]
    assert opened(mesh) == values


def test_an_expired_value_is_sealed_again_like_others(embedded: Installation) -> None:
    """Expiry says when a value may not be used any more; it does not stop the custody of it."""
    fill(embedded)
    document = station(embedded).open("connectors")
    row = next(iter(station_rows(embedded, "connectors")))
    past = replace(row, expires=1)
    sealed = seal(rotation.opened_value(row, document), document.primary(), rotation._context(past))
    embedded.sql(
        "UPDATE secret SET expires = 1, sealed = :s WHERE ref = :r AND version = :v", s=sealed, r=row.ref, v=row.version
    )
    assert rotate(station(embedded), "connectors").resealed == 8


def station_rows(mesh: Installation, name: str) -> Sequence[SealedRow]:
    with SqlCustodyRows(mesh.database).read() as view:
        return view.sealed_after(name, ("", 0), 100)


def test_a_rotation_that_another_command_began_in_this_moment_is_carried_on(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(mesh).add("passphrase", ["connectors"], "gone", silent)
    look = Station.open
    removed: list[str] = []

    def then_removed(self: Station, name: str) -> Document:
        document = look(self, name)
        if not removed:
            removed.append("gone")
            keys(mesh).remove("gone", ["connectors"])
        return document

    monkeypatch.setattr(removing, "rotate", lambda *_: None)  # killed before it went on
    monkeypatch.setattr(Station, "open", then_removed)

    report = rotate(station(mesh), "connectors")

    assert report.resumed
    assert keys(mesh).status().keyrings[0].problem is None
    assert "passphrase gone" not in slots(keys(mesh).status())


def test_the_second_of_two_says_who_rotates(mesh: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(mesh)
    said: list[str] = []

    def second(phase: str, *_rest: object) -> None:
        if not said:
            with pytest.raises(Busy) as busy:
                rotate(station(mesh), "connectors")
            said.append(busy.value.message)

    rotate(station(mesh), "connectors", second)
    assert f"{ACTOR}, process {os.getpid()} on test host rotates its keys" in said[0]


def test_who_was_taken_over_changes_nothing_any_more(mesh: Installation) -> None:
    values = fill(mesh)
    other = replace(station(mesh), clock=lambda: station(mesh).clock() + timedelta(minutes=5), here="other")
    taken: list[int] = []

    def taken_over(phase: str, *_rest: object) -> None:
        if not taken:
            taken.append(rotate(other, "connectors").key)

    with pytest.raises(LeaseLost):
        rotate(station(mesh), "connectors", taken_over)
    assert taken == [2]
    assert data_keys(mesh) == [(2, KeyState.PRIMARY)]
    assert opened(mesh) == values


def test_a_new_value_wins_over_its_reseal(mesh: Installation) -> None:
    values = fill(mesh)
    done: list[str] = []

    def set_in_between(phase: str, *_rest: object) -> None:
        if not done:
            done.append(phase)
            mesh.put("secret://s/1", "newer")
            mesh.store.delete(parse("secret://s/2"), actor=ACTOR)
            mesh.allow(mesh.put("secret://s/2", "made again"))

    rotate(station(mesh), "connectors", set_in_between, batch=3)
    assert opened(mesh) == values | {"secret://s/1": "newer", "secret://s/2": "made again"}
    assert {row[0] for row in mesh.sql("SELECT key_id FROM secret WHERE keyring = 'connectors'")} == {2}


def test_a_writer_that_slept_through_the_promotion_seals_again(
    mesh: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(mesh)
    from identitymesh.secrets.stores import database as provider

    original = provider.DatabaseProvider.put
    slept: list[str] = []

    def asleep(self: provider.DatabaseProvider, *arguments: object) -> object:
        if not slept:
            slept.append("x")
            rotate(station(mesh), "connectors")
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(provider.DatabaseProvider, "put", asleep)
    mesh.put("secret://s/1", "late")
    assert {row[0] for row in mesh.sql("SELECT key_id FROM secret WHERE keyring = 'connectors'")} == {2}


def test_slots_are_added_during_a_rotation(mesh: Installation, tmp_path: Path) -> None:
    values = fill(mesh)
    done: list[str] = []

    def add(phase: str, *_rest: object) -> None:
        if not done:
            done.append(phase)
            join(mesh, tmp_path / "new", "new")

    rotate(station(mesh), "connectors", add)
    assert data_keys(mesh) == [(2, KeyState.PRIMARY)]
    assert opened(mesh, tmp_path / "new") == values


def test_who_worked_on_a_rotation_that_is_over_cannot_touch_the_next_one(mesh: Installation) -> None:
    rows, now = SqlCustodyRows(mesh.database), datetime.now(UTC)
    late = RotationRow(CONNECTORS, "verify", "asked", "", 2, now, "somebody", 1, now)
    with rows.write() as transaction:
        assert transaction.insert_rotation(replace(late, new_key=3))
        assert not transaction.hold_rotation(late)
        assert not transaction.move_rotation(late, fence=1)
        assert not transaction.delete_rotation(late)
        assert transaction.hold_rotation(replace(late, new_key=3))
