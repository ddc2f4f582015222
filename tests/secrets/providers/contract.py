"""One contract for all providers of secrets. A provider's test module subclasses it with a fixture ``world``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import pytest

from identitymesh.errors import MeshError, ProviderMismatch, SecretMissing, SecretRefused
from identitymesh.redaction import MASKED, Secret
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.providers import PINNED, Provider, Wanted
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.rotation import RotationRow, Rotations
from identitymesh.secrets.sealing import MAX_VALUE_BYTES
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.rotations import SqlRotationRows
from identitymesh.storage.tables.base import metadata
from identitymesh.storage.tables.continuity import secret_rotation
from tests.secrets.conftest import ACTOR, Installation

MANY = 10_000
REF = parse("secret://hr/reader")

VALUES = {
    "text": b"hunter2",
    "umlauts and a key": "pässwörd 🗝 \u202e".encode(),
    "not text": bytes(range(256)),
    "zeros": b"\x00" * 33,
    "line ends": b"\nvalue\r\n\n",
    "looks like Base64": b"aHVudGVyMg==",
    "a mask": MASKED.encode(),
    "as large as may be": b"\xff" * MAX_VALUE_BYTES,
}


@dataclass
class World:
    """One installation whose secrets a provider keeps, and what may happen to that provider.

    ``outage(after)``: after so many more requests nothing answers. ``denied()``: the login may do nothing any more.
    ``exchange(a, b)``: what stands where ``a`` belongs is what was stored for ``b``. ``lose(ref)``: the entry is
    gone. ``fill(count)`` stores many, ``secret://many/0`` and so on, as fast as it can. Of versions that were made
    ``tells_apart`` seconds after each other the provider knows which came first.
    """

    mesh: Installation
    name: str
    outage: Callable[[int], AbstractContextManager[None]]
    denied: Callable[[], AbstractContextManager[None]]
    exchange: Callable[[str, str], None]
    lose: Callable[[str], None]
    fill: Callable[[int], None]
    outage_error: type[MeshError]
    denied_error: type[MeshError]
    exchange_error: type[MeshError] = ProviderMismatch
    means: Means = NO_MEANS
    many: int = MANY
    tells_apart: float = 0.0
    stores: list[SecretStore] = field(default_factory=list)

    def __post_init__(self) -> None:
        metadata.create_all(self.mesh.database.engine, tables=[secret_rotation])
        self.mesh.sql("UPDATE installation SET provider = :name", name=self.name)

    def store(self, mesh: Installation | None = None, means: Means | None = None) -> SecretStore:
        """As a new process would have it: without connections, logins or anything in memory."""
        mesh = mesh or self.mesh
        self.stores.append(SecretStore(mesh.rows, mesh.host, means or self.means))
        return self.stores[-1]

    def provider(self) -> Provider:
        return self.store().providers.find(self.name)

    def rotations(self) -> Rotations:
        return Rotations(SqlRotationRows(self.mesh.database), self.store())

    def get(self, ref: SecretReference = REF) -> bytes:
        return self.store().reveal(ref, actor=ACTOR).reveal()

    def put(self, value: str, ref: SecretReference = REF) -> str:
        return self.store().put(ref, Secret(value), actor=ACTOR)

    def ledger(self, ref: SecretReference = REF) -> tuple[str | None, str | None]:
        ((current, pending),) = self.mesh.sql(
            "SELECT current_version, pending_version FROM secret_ledger WHERE ref = :ref", ref=ref.text
        )
        return current, pending


def asks(*refs: SecretReference) -> list[OpenRequest]:
    return [OpenRequest(ref, "hr", ("db.example:5432",), "setting password") for ref in refs]


class ProviderContract:
    """What every provider keeps."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        raise NotImplementedError

    def test_set_get_exists_list_delete(self, world: World) -> None:
        store = world.store()
        assert not store.exists(REF)
        version = store.put(REF, Secret("hunter2"), actor=ACTOR, owner="HR")
        assert 0 < len(version) <= 64
        assert store.exists(REF)
        assert world.get() == b"hunter2"
        assert world.provider().list(world.mesh.rows) == [REF.text]
        (listed,) = store.list()
        assert (listed.ref, listed.owner, listed.current_version, listed.problem) == (REF.text, "HR", version, None)
        store.delete(REF, actor=ACTOR)
        assert not store.exists(REF)
        assert world.provider().list(world.mesh.rows) == []
        with pytest.raises(SecretMissing):
            world.get()
        actions = [stored.record.action for stored in reversed(world.mesh.audit("secret.*"))]
        assert [one for one in actions if one != "secret.login"] == [
            "secret.set",
            "secret.reveal",
            "secret.delete",
            "secret.reveal",
        ]

    def test_what_was_deleted_can_be_set_again(self, world: World) -> None:
        world.put("one")
        for value in ("two", "three"):
            world.store().delete(REF, actor=ACTOR)
            world.put(value)
            assert world.get() == value.encode()
            assert world.provider().list(world.mesh.rows) == [REF.text]

    def test_each_set_is_a_version_and_each_version_opens(self, world: World) -> None:
        versions = [world.put(value) for value in ("one", "two", "three")]
        assert len(set(versions)) == 3
        known = world.provider().versions(world.mesh.rows, [REF.text, "secret://nobody"])
        assert {ref: set(found) for ref, found in known.items()} == {REF.text: set(versions)}
        assert world.get() == b"three"
        store = world.store()
        store.audience.allow(REF, "hr", ["db.example:5432"], ACTOR)
        (request,) = asks(REF)
        for version, value in zip(versions, (b"one", b"two", b"three"), strict=True):
            assert store.open_version(request, version, actor=ACTOR).reveal() == value
        with pytest.raises(SecretMissing):
            store.open_version(request, "0" * 32, actor=ACTOR)
        assert world.provider().exists(world.mesh.rows, Wanted(REF.text, versions[0]))
        assert not world.provider().exists(world.mesh.rows, Wanted(REF.text, "0" * 32))

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_every_byte_comes_back(self, world: World, value: bytes) -> None:
        world.store().put(REF, Secret(value), actor=ACTOR)
        assert world.get() == value

    def test_one_byte_too_many_is_refused_and_changes_nothing(self, world: World) -> None:
        version = world.put("before")
        for value in (b"x" * (MAX_VALUE_BYTES + 1), b""):
            with pytest.raises(SecretRefused):
                world.store().put(REF, Secret(value), actor=ACTOR)
        assert world.get() == b"before"
        assert world.provider().versions(world.mesh.rows, [REF.text]) == {REF.text: [version]}

    def test_ten_thousand_are_listed(self, world: World) -> None:
        world.fill(world.many)
        found = world.provider().list(world.mesh.rows)
        assert list(found) == sorted(f"secret://many/{number}" for number in range(world.many))

    def test_a_survey_says_what_would_be_met(self, world: World) -> None:
        world.put("value")
        gone, new = parse("secret://hr/gone"), parse("secret://hr/new")
        world.put("value", gone)
        world.store().delete(gone, actor=ACTOR)
        found = world.provider().survey(world.mesh.rows, [REF.text, gone.text, new.text])
        assert list(found.present) == [REF.text]
        assert set(found.deleted) <= {gone.text}
        assert list(found.foreign) == []

    def test_concurrent_sets_lose_nothing(self, world: World) -> None:
        store = world.store()
        refs = [parse(f"secret://own/{number}") for number in range(6)]

        def work(number: int) -> list[str]:
            mine = [store.put(refs[number], Secret(f"own {number}"), actor=ACTOR)]
            return mine + [store.put(REF, Secret(f"{number}.{turn}"), actor=ACTOR) for turn in range(3)]

        with ThreadPoolExecutor(6) as pool:
            written = [version for found in pool.map(work, range(6)) for version in found[1:]]
        assert len(set(written)) == 18
        assert set(world.provider().versions(world.mesh.rows, [REF.text])[REF.text]) == set(written)
        assert world.get().decode() in {f"{number}.{turn}" for number in range(6) for turn in range(3)}
        first = world.ledger()
        assert first[0] in written
        assert world.get() == world.get()
        assert world.ledger() == first
        assert [world.get(ref) for ref in refs] == [f"own {number}".encode() for number in range(6)]

    def test_an_outage_is_said_in_words_and_changes_nothing(self, world: World) -> None:
        version = world.put("before")
        with world.outage(0):
            for call in (
                lambda: world.put("after"),
                world.get,
                lambda: world.store().delete(REF, actor=ACTOR),
                lambda: world.provider().list(world.mesh.rows),
            ):
                with pytest.raises(world.outage_error) as failed:
                    call()
                assert failed.value.hint
                assert "hunter" not in str(failed.value)
        assert world.ledger() == (version, None)
        assert world.get() == b"before"
        world.put("after")
        assert world.get() == b"after"

    def test_an_outage_in_the_middle_fails_what_it_hits_and_nothing_else(self, world: World) -> None:
        refs = [parse(f"secret://hr/{number:02}") for number in range(24)]
        for ref in refs:
            world.put(ref.text, ref)
        store = world.store()
        for ref in refs:
            store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
        with world.outage(7):
            try:
                opened = dict(store.open_many(asks(*refs), actor=ACTOR))
            except world.outage_error as error:
                opened = dict.fromkeys(asks(*refs), error)
        errors = [answer for answer in opened.values() if isinstance(answer, MeshError)]
        assert errors
        assert {type(error) for error in errors} == {world.outage_error}
        for request, answer in opened.items():
            assert isinstance(answer, MeshError) or answer.reveal_text() == request.ref.text
        again = world.store().open_many(asks(*refs), actor=ACTOR)
        assert [answer.reveal_text() for answer in again.values() if isinstance(answer, Secret)] == [
            ref.text for ref in refs
        ]

    def test_permission_denied_is_said_in_words_and_changes_nothing(self, world: World) -> None:
        version = world.put("before")
        with world.denied():
            for call in (lambda: world.put("after"), world.get):
                with pytest.raises(world.denied_error) as failed:
                    call()
                assert failed.value.hint
        assert world.ledger() == (version, None)
        assert world.get() == b"before"

    def test_abuse_60_an_entry_that_names_another_ref_is_refused(self, world: World) -> None:
        other = parse("secret://hr/other")
        world.put("mine")
        world.put("theirs", other)
        world.exchange(REF.text, other.text)
        with pytest.raises(world.exchange_error, match=REF.text) as refused:
            world.get()
        assert refused.value.hint
        assert "theirs" not in str(refused.value)
        assert world.get(other) == b"theirs"
        store = world.store()
        for ref in (REF, other):
            store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
        one, two = store.open_many(asks(REF, other), actor=ACTOR).values()
        assert isinstance(one, world.exchange_error)
        assert two == Secret("theirs")

    def test_an_entry_that_is_gone_is_missing_and_names_the_ref(self, world: World) -> None:
        world.put("value")
        world.lose(REF.text)
        with pytest.raises(SecretMissing, match=REF.text):
            world.get()
        assert not world.store().exists(REF)
        world.put("again")
        assert world.get() == b"again"

    def test_verify_opens_everything_and_finds_what_is_wrong(self, world: World) -> None:
        for number in range(5):
            world.put("value", parse(f"secret://hr/{number}"))
        assert all(result.ok for result in world.store().verify(actor=ACTOR))
        world.lose("secret://hr/3")
        assert [result.ref for result in world.store().verify(actor=ACTOR) if not result.ok] == ["secret://hr/3"]

    def test_a_pending_version_is_used_by_nobody_before_it_is_switched_to(self, world: World) -> None:
        world.put("old")
        rotation = self._begin(world, "new")
        assert world.get() == b"old"
        world.rotations().switch(rotation, ACTOR)
        assert world.get() == b"new"
        (retired,) = world.rotations().retire(REF, ACTOR)
        assert retired.versions == (rotation.old_version,)
        assert world.provider().versions(world.mesh.rows, [REF.text]) == {REF.text: [rotation.new_version]}
        assert world.get() == b"new"

    def test_a_dropped_version_is_gone_and_the_old_one_in_use(self, world: World) -> None:
        world.put("old")
        rotation = self._begin(world, "new")
        world.rotations().drop(rotation, "refused by the server", ACTOR)
        assert world.get() == b"old"
        assert rotation.new_version not in world.provider().versions(world.mesh.rows, [REF.text])[REF.text]
        assert world.ledger()[1] is None

    def test_a_version_that_is_on_its_way_into_the_ledger_is_not_retired(self, world: World) -> None:
        """A vault has it before the transaction that names it."""
        old = world.put("old")
        time.sleep(world.tells_apart)
        world.put("current")
        store = world.store()
        with world.mesh.rows.read() as view:
            session = store.session(view)
        change = store.providers.find(world.name).put(REF, Secret("coming"), "connectors", session, pending=True)
        (retired,) = world.rotations().retire(REF, ACTOR)
        with world.mesh.rows.write() as transaction:
            row = transaction.lock_ledger(REF.text)
            assert row is not None
            transaction.put_ledger(replace(row, current_version=change.record(transaction)))
        assert list(retired.versions) == [old]
        assert world.get() == b"coming"

    def _begin(self, world: World, value: str) -> RotationRow:
        return world.rotations().begin(REF, Secret(value), at_server=False, retire_days=7, actor=ACTOR)

    def test_no_value_is_anywhere_in_the_database(self, world: World) -> None:
        world.put("canary-7f3a")
        world.get()
        with world.mesh.database.read() as connection:
            dump = [
                repr(list(connection.exec_driver_sql(f"SELECT * FROM {table}")))
                for table in ("secret", "secret_ledger", "audit", "installation", "keyring")
            ]
        assert not any(shape in text for text in dump for shape in ("canary-7f3a", "Y2FuYXJ5LTdmM2"))


def _threads_of_ours() -> int:
    """Threads of this process without those of a vault that lives in it, which has one for each connection."""
    return sum("process_request_thread" not in one.name for one in threading.enumerate())


@dataclass
class VaultWorld(World):
    """A vault besides: ``set_outside(ref, value)`` as its operators would, without a tag of ours; answers the version.

    ``other`` is another installation with its own database, that uses the same vault.
    """

    set_outside: Callable[[str, bytes], str] = lambda _ref, _value: ""
    other: Callable[[], Installation] | None = None

    def make_other(self) -> Installation:
        assert self.other is not None
        other = self.other()
        other.sql("UPDATE installation SET provider = :name", name=self.name)
        return other

    def pin(self) -> None:
        self.mesh.sql("UPDATE secret_ledger SET follow = :pinned", pinned=PINNED)


class VaultContract(ProviderContract):
    """What every provider outside of the product's database keeps besides."""

    @pytest.fixture
    def world(self) -> Iterator[VaultWorld]:
        raise NotImplementedError

    def test_nothing_is_stored_in_the_database(self, world: VaultWorld) -> None:
        world.put("value")
        assert world.mesh.sql("SELECT * FROM secret") == []

    def test_application_secrets_stay_in_the_database(self, world: VaultWorld) -> None:
        world.store().put(parse("secret://smtp"), Secret("value"), actor=ACTOR, keyring="application")
        assert world.get(parse("secret://smtp")) == b"value"
        assert world.provider().list(world.mesh.rows) == []
        assert [ref for (ref,) in world.mesh.sql("SELECT ref FROM secret")] == ["secret://smtp"]

    def test_what_its_operators_set_is_followed_and_noted(self, world: VaultWorld) -> None:
        before = world.put("ours")
        version = world.set_outside(REF.text, b"theirs")
        assert world.get() == b"theirs"
        assert world.ledger() == (version, None)
        (noted,) = world.mesh.audit("secret.follow")
        assert noted.record.subject == REF.text
        assert noted.record.payload == {"version": version, "replaced": before, "outside": True}
        assert world.get() == b"theirs"
        assert len(world.mesh.audit("secret.follow")) == 1
        world.put("ours again")
        assert world.get() == b"ours again"

    def test_a_pinned_ref_stays_with_the_version_of_the_ledger(self, world: VaultWorld) -> None:
        before = world.put("ours")
        world.pin()
        world.set_outside(REF.text, b"theirs")
        assert world.get() == b"ours"
        assert world.ledger() == (before, None)

    def test_while_a_rotation_is_open_nobody_follows(self, world: VaultWorld) -> None:
        world.put("old")
        rotation = self._begin(world, "new")
        world.set_outside(REF.text, b"theirs")
        assert world.get() == b"old"
        world.rotations().switch(rotation, ACTOR)
        assert world.get() == b"theirs"

    def test_a_pending_version_of_a_killed_rotation_is_passed_over(self, world: VaultWorld) -> None:
        before = world.put("old")
        store = world.store()
        with world.mesh.rows.read() as view:
            session = store.session(view)
        # Written to the vault; the kill comes before the ledger is told.
        store.providers.find(world.name).put(REF, Secret("new"), "connectors", session, pending=True)
        assert world.get() == b"old"
        assert world.ledger() == (before, None)

    def test_a_version_of_a_killed_set_is_followed(self, world: VaultWorld) -> None:
        world.put("old")
        store = world.store()
        with world.mesh.rows.read() as view:
            session = store.session(view)
        store.providers.find(world.name).put(REF, Secret("new"), "connectors", session)
        assert world.get() == b"new"
        (noted,) = world.mesh.audit("secret.follow")
        assert noted.record.payload["outside"] is False

    def test_two_installations_on_one_vault_do_not_touch_each_other(self, world: VaultWorld) -> None:
        other = world.make_other()
        world.put("ours")
        theirs = world.store(other)
        assert world.provider().list(other.rows) == [REF.text]
        assert theirs.providers.find(world.name).list(other.rows) == []
        refused: MeshError | None = None
        try:
            theirs.put(REF, Secret("theirs"), actor=ACTOR)
        except ProviderMismatch as error:
            refused = error
        if refused is None:  # each has a place of its own in the vault
            assert theirs.reveal(REF, actor=ACTOR) == Secret("theirs")
        else:
            assert REF.text in str(refused)
            assert refused.hint
        assert world.get() == b"ours"
        assert world.provider().versions(world.mesh.rows, [REF.text])[REF.text] == [world.ledger()[0]]

    def test_fifty_are_asked_for_together(self, world: VaultWorld) -> None:
        refs = [parse(f"secret://hr/{number}") for number in range(50)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda ref: world.store().put(ref, Secret(ref.text), actor=ACTOR), refs))
        store = world.store()
        before = _threads_of_ours()
        opened = store.prepare(asks(*refs), actor=ACTOR)
        assert len(opened) == 50
        assert _threads_of_ours() <= before + 16
        assert len(world.mesh.audit("secret.open")) == 50
