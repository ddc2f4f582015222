"""Secrets move from the database to a vault and back, and nothing of them is lost on any way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyrage import x25519

from identitymesh.errors import (
    Busy,
    KeyringConflict,
    LeaseLost,
    MeshError,
    MigrationRefused,
    ProviderDenied,
    ProviderError,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
    UsageError,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.bundles import Bundles
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.migration import service
from identitymesh.secrets.migration import work as working
from identitymesh.secrets.migration.copying import Pace
from identitymesh.secrets.providers import Change, Provider
from identitymesh.secrets.references import parse
from identitymesh.secrets.rows import DATABASE
from identitymesh.secrets.stores.openbao import session as sessions
from identitymesh.storage.secrets import SqlSecretTransaction
from tests.secrets.conftest import ACTOR
from tests.secrets.migration.conftest import Move, asks, token_file
from tests.servers.https import Answer, Request

THERE = ("database", "openbao")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ATTEMPTS", 3)
    monkeypatch.setattr(sessions, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(working, "BATCH", 4)


class Interrupt(Exception):
    """The process is gone."""


def stop_at(phase: str, after: int = 0) -> Callable[[str, str, int, int | None], None]:
    def progress(now: str, _subject: str, done: int, _total: int | None) -> None:
        if now == phase and done >= after:
            raise Interrupt

    return progress


class TestTheWay:
    def test_there_drain_and_scrub(self, move: Move) -> None:
        move.fill(30)
        move.store().put(parse("secret://smtp"), Secret("mail"), actor=ACTOR, keyring="application")
        report = move.migrations().run(*THERE)
        assert (report.state, report.versions, report.copied, report.verified) == ("drain", 30, 30, 30)
        assert (move.provider(), move.wrong(), move.sealed()) == ("openbao", {}, 30)
        assert move.migrations().scrub().state == "done"
        assert (move.provider(), move.wrong(), move.sealed(), move.state()) == ("openbao", {}, 0, None)
        assert move.store().reveal(parse("secret://smtp"), actor=ACTOR) == Secret("mail")
        steps = [one.record.payload["step"] for one in reversed(move.mesh.audit("secret.migrate"))]
        assert steps == ["begin", "cut-over", "scrub", "done"]

    def test_a_secret_that_becomes_one_of_the_application_meanwhile_is_not_scrubbed(self, move: Move) -> None:
        move.fill(10)
        move.migrations().run(*THERE)
        ref = parse("secret://hr/0009")  # of the last batch

        def moved(phase: str, _subject: str, done: int, _total: int | None) -> None:
            if phase == "deleting" and not done:
                move.store().delete(ref, actor=ACTOR)
                move.store().put(ref, Secret("mail"), actor=ACTOR, keyring="application")

        move.migrations().scrub(progress=moved)
        assert move.store().reveal(ref, actor=ACTOR) == Secret("mail")
        del move.values[ref.text]
        assert move.wrong() == {}

    def test_there_and_back_again_with_what_was_set_meanwhile(self, move: Move) -> None:
        move.fill(10)
        move.migrations().run(*THERE)
        move.put("secret://hr/0003", "set in the vault")
        move.put("secret://hr/new", "born in the vault")
        move.store().delete(parse("secret://hr/0004"), actor=ACTOR)
        del move.values["secret://hr/0004"]
        report = move.migrations().back()
        assert (report.source, report.target, report.state) == ("openbao", "database", "drain")
        assert (move.provider(), move.wrong()) == ("database", {})
        move.migrations().scrub()
        assert (move.wrong(), move.live(), move.state()) == ({}, set(), None)
        assert move.sealed() >= 10

    def test_back_and_forth_again(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(6)
        move.migrations().run(*THERE)
        for turn, provider in enumerate(("database", "openbao", "database")):
            move.put("secret://hr/0001", f"turn {turn}")
            move.migrations().back()
            assert (move.provider(), move.wrong()) == (provider, {})
        move.migrations().scrub()
        assert (move.wrong(), move.live()) == ({}, set())

    def test_an_abort_leaves_nothing_at_the_target(self, move: Move) -> None:
        move.fill(10)
        with pytest.raises(Interrupt):
            move.migrations().run(*THERE, stop_at("verifying", 4))
        assert (move.state(), len(move.live())) == ("verify", 10)
        assert move.migrations().abort().state == "done"
        assert (move.provider(), move.wrong(), move.live(), move.state()) == ("database", {}, set(), None)
        move.migrations().run(*THERE)
        assert (move.provider(), move.wrong()) == ("openbao", {})

    def test_nothing_to_move_is_moved_too(self, embedded_move: Move) -> None:
        move = embedded_move
        report = move.migrations().run(*THERE)
        assert (report.state, report.versions, move.provider()) == ("drain", 0, "openbao")
        move.migrations().scrub()
        move.put("secret://hr/first", "value")
        assert (move.wrong(), move.live()) == ({}, {"hr/first"})

    def test_a_purge_leaves_no_deleted_version(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(5)
        move.migrations().run(*THERE)
        move.migrations().back()
        move.migrations().scrub(purge=True)
        assert (move.server.kv, move.wrong()) == ({}, {})


class TestWhileItRuns:
    def test_what_is_set_deleted_and_born_during_the_copy_arrives(self, move: Move) -> None:
        move.fill(12)
        done: list[int] = []

        def meddle(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "verifying" and not done:
                done.append(1)
                move.put("secret://hr/0000", "set after it was copied")
                move.put("secret://hr/born", "after the copy began")
                move.store().delete(parse("secret://hr/0001"), actor=ACTOR)
                del move.values["secret://hr/0001"]

        move.migrations().run(*THERE, meddle)
        assert (move.provider(), move.wrong()) == ("openbao", {})
        assert "hr/0001" not in move.live()

    def test_what_operators_set_at_the_source_during_the_copy_arrives(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(6)
        move.migrations().run(*THERE)
        move.migrations().scrub()
        done: list[int] = []

        def meddle(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "verifying" and not done:
                done.append(1)
                move.server.write("identitymesh/hr/0002", {"value": "by an operator"})
                move.values["secret://hr/0002"] = "by an operator"

        move.migrations().run("openbao", "database", meddle)
        assert (move.provider(), move.wrong()) == ("database", {})

    def test_what_a_run_prepared_before_the_cut_over_opens_after_it(self, move: Move) -> None:
        move.fill(3, allowed=True)
        ref = parse("secret://hr/0001")
        early = move.store().prepare([asks(ref)], actor=ACTOR)[asks(ref)]
        move.migrations().run(*THERE)
        move.migrations().scrub()
        assert early.open() == Secret("value 1")

    def test_what_is_deleted_and_set_again_after_it_was_verified_arrives(self, move: Move) -> None:
        move.fill(3)
        ref = parse("secret://hr/0001")
        again: list[int] = []

        def meddle(phase: str, _subject: str, done: int, total: int | None) -> None:
            if phase == "verifying" and done == total and not again:
                again.append(1)
                move.store().delete(ref, actor=ACTOR)
                move.put(ref.text, "set again")

        move.migrations().run(*THERE, meddle)
        assert again
        assert (move.provider(), move.wrong()) == ("openbao", {})
        move.migrations().scrub()
        assert move.wrong() == {}

    def test_an_abort_that_looked_before_the_cut_over_is_too_late(
        self, embedded_move: Move, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        move = embedded_move
        move.fill(3)
        looked, over = threading.Event(), threading.Event()
        told: list[MeshError] = []

        def stands_still(*_: object) -> None:
            looked.set()
            assert over.wait(60)

        def abort() -> None:
            try:
                move.migrations().abort()
            except MeshError as error:
                told.append(error)

        late = threading.Thread(target=abort)

        def progress(phase: str, _subject: str, done: int, total: int | None) -> None:
            if phase == "verifying" and done == total and not looked.is_set():
                late.start()
                assert looked.wait(60)

        monkeypatch.setattr(service, "check_free", stands_still)
        try:
            move.migrations().run(*THERE, progress)
        finally:
            over.set()
            late.join()
        assert [type(one) for one in told] == [LeaseLost]
        assert (move.state(), move.provider(), move.wrong()) == ("drain", "openbao", {})

    def test_a_provider_is_not_chosen_while_the_first_value_is_stored(
        self, move: Move, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        choose = SqlSecretTransaction.set_provider
        first = threading.Thread(target=lambda: move.put("secret://hr/first", "value"))

        def slowly(transaction: SqlSecretTransaction, name: str) -> None:
            first.start()
            first.join(1)  # it waits for us; where it did not, it is long over
            choose(transaction, name)

        monkeypatch.setattr(SqlSecretTransaction, "set_provider", slowly)
        assert move.store().settle_provider("openbao", actor=ACTOR) == []
        first.join()
        assert (move.provider(), move.wrong()) == ("openbao", {})

    def test_a_bundle_that_comes_in_across_the_cut_over_is_refused_whole(
        self, embedded_move: Move, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        move = embedded_move
        move.fill(3)
        bundles, key = Bundles(move.rows, move.store(), ACTOR), x25519.Identity.generate()
        sealed = bundles.export([str(key.to_public())], None).sealed
        move.put("secret://hr/0001", "set since")
        source = type(move.store().providers.of(CONNECTORS, DATABASE))
        put = source.put

        def slowly(self: Provider, *given: Any, **more: Any) -> Change:
            if move.provider() == DATABASE:
                move.migrations().run(*THERE)
            return put(self, *given, **more)

        monkeypatch.setattr(source, "put", slowly)
        with pytest.raises(KeyringConflict, match="the provider of secrets changed meanwhile"):
            bundles.bring(sealed, Secret(str(key)), on_conflict="replace", dry_run=False)
        assert (move.provider(), move.wrong()) == ("openbao", {})

    def test_a_rotation_at_work_is_waited_for_and_carried_on_at_the_target(
        self, move: Move, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(working, "ROTATION_WAIT", timedelta(seconds=0.2))
        move.fill(4)
        ref = parse("secret://hr/0002")
        rotations = move.rotations()
        rotations.begin(ref, Secret("new"), at_server=False, retire_days=7, actor=ACTOR)
        with pytest.raises(Busy, match="secret://hr/0002 is being rotated"):
            move.migrations().run(*THERE)
        assert (move.provider(), move.wrong()) == ("database", {})
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        with SqlRotations(move) as transaction:
            found = transaction.rotation(ref.text)
            assert found is not None
            transaction.put_rotation(replace(found, changed=long_ago))
        move.migrations().run(*THERE)
        assert (move.provider(), move.wrong()) == ("openbao", {})
        moved = move.rotations().find(ref)
        assert moved is not None
        move.rotations().switch(moved, ACTOR)
        move.values[ref.text] = "new"
        assert move.wrong() == {}
        store = move.store()
        store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
        assert store.open_version(asks(ref), moved.old_version, actor=ACTOR) == Secret("value 2")

    def test_a_rotation_given_up_meanwhile_leaves_no_pending_value(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(2)
        ref = parse("secret://hr/0001")
        rotation = move.rotations().begin(ref, Secret("given up"), at_server=False, retire_days=7, actor=ACTOR)

        def give_up(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "verifying" and move.rotations().find(ref):
                move.rotations().drop(rotation, "refused", ACTOR)

        move.migrations().run(*THERE, give_up)
        assert move.wrong() == {}
        versions = move.server.kv["identitymesh/hr/0001"].versions.values()
        assert not any("given up" in str(one.data) for one in versions)

    def test_sets_and_openings_beside_every_way_lose_nothing(self, move: Move) -> None:  # noqa: C901 - three at once
        """database → vault → database, scrubbed each time, while others open and set without a pause."""
        move.fill(24, allowed=True)
        refs = sorted(move.values)
        stop = threading.Event()
        wrong: list[str] = []
        counts = [0, 0]

        def writer(mine: list[str]) -> None:
            store, turn = move.store(), 0
            while not stop.is_set():
                turn += 1
                ref = mine[turn % len(mine)]
                value = f"{ref} {turn}"
                move.put(ref, value, store)
                got = store.reveal(parse(ref), actor=ACTOR).reveal_text()
                if got != value:
                    wrong.append(f"{ref}: {got} instead of {value}")
                counts[0] += 1
                time.sleep(0.005)

        def reader() -> None:
            store = move.store()
            while not stop.is_set():
                opened = store.open_many([asks(parse(ref)) for ref in refs[::3]], actor=ACTOR)
                wrong.extend(repr(answer) for answer in opened.values() if isinstance(answer, MeshError))
                counts[1] += len(opened)

        def guarded(task: Callable[..., None], *arguments: Any) -> None:
            try:
                task(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                wrong.append(repr(error))

        tasks: list[tuple[Any, ...]] = [(writer, refs[0::2]), (writer, refs[1::2]), (reader,)]
        threads = [threading.Thread(target=guarded, args=task) for task in tasks]
        for thread in threads:
            thread.start()
        try:
            for source, target in (THERE, THERE[::-1], THERE):
                move.migrations().run(source, target)
                move.migrations().scrub()
                assert move.provider() == target
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert (wrong, move.wrong()) == ([], {})
        assert all(count > 3 for count in counts)


def SqlRotations(move: Move) -> Any:  # noqa: N802 - reads like the class that it opens
    return move.rows.write()


class TestDrain:
    def test_what_the_target_lost_comes_from_the_source_and_is_counted(self, move: Move) -> None:
        move.fill(4, allowed=True)
        move.migrations().run(*THERE)
        del move.server.kv["identitymesh/hr/0002"]
        assert move.wrong() == {}
        status = move.migrations().status()
        assert status is not None
        assert status.fallbacks == 1
        assert move.mesh.audit("secret.reveal")[0].record.payload.get("from") in {None, "database"}
        with pytest.raises(MigrationRefused, match="secret://hr/0002"):
            move.migrations().scrub()
        assert move.sealed() == 4
        move.put("secret://hr/0002", "set again")
        move.migrations().scrub()
        assert move.wrong() == {}

    @pytest.mark.parametrize("answer", [Answer(503, {"errors": ["Vault is sealed"]}), Answer(403, {"errors": []})])
    def test_only_not_found_is_looked_for_elsewhere(self, embedded_move: Move, answer: Answer) -> None:
        move = embedded_move
        move.fill(1)
        move.migrations().run(*THERE)
        move.server.fault = lambda _request: answer
        with pytest.raises(ProviderError):
            move.store().reveal(parse("secret://hr/0000"), actor=ACTOR)
        status = move.migrations().status()
        assert status is not None
        assert status.fallbacks == 0

    def test_a_value_set_since_is_not_hidden_by_an_older_one(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(1)
        move.migrations().run(*THERE)
        move.put("secret://hr/0000", "newer")
        del move.server.kv["identitymesh/hr/0000"]
        assert "is not in openbao" in move.wrong()["secret://hr/0000"]

    def test_a_run_from_before_the_cut_over_is_waited_for(self, move: Move) -> None:
        from identitymesh.storage.leases import SqlLeases

        move.fill(1)
        leases = SqlLeases(move.mesh.database)
        lease = leases.acquire("run:7", "plan of ada")
        move.mesh.sql(
            "INSERT INTO run (id, command, mode, state, actor, started_at, summary)"
            " VALUES (7, 'run', 'full', 'running', 'ada', :at, '{}')",
            at=datetime.now(UTC) if move.mesh.database.dialect == "postgresql" else f"{datetime.now(UTC):%F %T.%f}",
        )
        move.migrations().run(*THERE)
        with pytest.raises(Busy, match="run 7 began before the cut over"):
            move.migrations().scrub()
        leases.release(lease)
        move.migrations().scrub()
        assert move.wrong() == {}


class TestPlan:
    def test_it_writes_nothing_and_says_what_it_would_meet(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(7)
        move.put("secret://hr/large", "x" * 4000)
        move.server.write("identitymesh/hr/0001", {"value": "left over"})
        before = {path: entry.current for path, entry in move.server.kv.items()}
        plan = move.migrations(writes_per_second=4.0).plan(*THERE)
        assert (plan.secrets, plan.versions, plan.present, plan.largest_bytes) == (8, 8, 1, 4000)
        assert plan.seconds >= 2.0
        assert plan.problems == []
        assert {path: entry.current for path, entry in move.server.kv.items()} == before
        assert move.state() is None

    def test_abuse_60_61_what_stands_in_the_way_is_found_before_anything_is_written(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(3)
        move.server.write("identitymesh/hr/0001", {"value": "x"}, {"installation": "another"})
        with pytest.raises(MigrationRefused, match="secret://hr/0001: its name at openbao"):
            move.migrations().run(*THERE)
        assert (move.state(), move.provider()) == (None, "database")
        move.mesh.sql("UPDATE secret SET sealed = :junk WHERE ref = 'secret://hr/0002'", junk=b"junk")
        assert "secret://hr/0002" in str(move.migrations().plan(*THERE).problems)

    def test_abuse_61_a_value_too_large_for_others_is_found_in_the_plan(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(2)
        move.migrations().run(*THERE)
        move.migrations().scrub()
        move.server.write("identitymesh/hr/0001", {"value": "x" * 20_000})
        (problem,) = move.migrations().plan("openbao", "database").problems
        assert "20000 bytes" in problem

    def test_a_token_that_may_not_write_is_found_in_the_plan(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(2)
        reader = move.server.token(rules={"secret/data/": ("read",), "secret/metadata/": ("read", "list")})
        assert move.means.openbao is not None
        assert move.means.openbao.token_file is not None
        token_file(move.means.openbao.token_file.parent, reader)
        (problem,) = move.migrations().plan(*THERE).problems
        assert "create, update on secret/data" in problem

    @pytest.mark.parametrize(
        ("source", "target", "error", "words"),
        [
            ("openbao", "database", UsageError, "the secrets are in database"),
            ("database", "database", UsageError, "both providers are database"),
            ("database", "nonsense", ProviderMisconfigured, "unknown provider"),
        ],
    )
    def test_a_wrong_pair_is_refused(
        self, embedded_move: Move, source: str, target: str, error: type[MeshError], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            embedded_move.migrations().run(source, target)
        assert embedded_move.state() is None


def deny(_request: Request) -> Answer:
    return Answer(403, {"errors": ["permission denied"]})


TROUBLES: dict[str, tuple[Answer, type[MeshError]]] = {
    "the identity is revoked": (Answer(403, {"errors": ["permission denied"]}), ProviderDenied),
    "it is full": (Answer(413, {"errors": ["no space left on device"]}), ProviderRefused),
    "its storage fails": (Answer(500, {"errors": ["no space left on device"]}), ProviderUnavailable),
    "it is sealed": (Answer(503, {"errors": ["Vault is sealed"]}), ProviderUnavailable),
    "it is throttled": (Answer(429, {"errors": []}), ProviderUnavailable),
    "the vault is deleted": (Answer(404, {"errors": ['no handler for route "secret/x"']}), ProviderMisconfigured),
    "the line breaks": (Answer(cut=True), ProviderUnavailable),
}


class TestTrouble:
    @pytest.mark.parametrize("phase", ["/metadata/", "/data/"])
    @pytest.mark.parametrize(("answer", "error"), TROUBLES.values(), ids=TROUBLES.keys())
    def test_it_stops_with_the_reason_and_carries_on_when_that_is_over(
        self, embedded_move: Move, answer: Answer, error: type[MeshError], phase: str
    ) -> None:
        move = embedded_move
        move.fill(12)
        seen: list[str] = []

        def fault(request: Request) -> Answer | None:
            if request.method == "POST" and phase in request.path:
                seen.append(request.path)
            return answer if len(seen) > 5 and phase in request.path else None

        move.server.fault = fault
        with pytest.raises(error) as failed:
            move.migrations().run(*THERE)
        assert failed.value.hint
        assert (move.provider(), move.wrong(), move.state()) == ("database", {}, "copy")
        move.server.fault = lambda _request: None
        report = move.migrations().run(*THERE)
        assert (report.resumed, move.provider(), move.wrong()) == (True, "openbao", {})

    def test_a_name_taken_by_others_after_the_plan_stops_it(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(4)

        def take(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "copying":
                move.server.write("identitymesh/hr/0003", {"value": "x"}, {"installation": "another"})

        with pytest.raises(ProviderError, match="belongs to another installation"):
            move.migrations().run(*THERE, take)
        assert (move.provider(), move.wrong(), move.state()) == ("database", {}, "copy")
        move.migrations().abort()
        assert (move.live(), move.state()) == ({"hr/0003"}, None)

    def test_a_target_that_gives_back_another_value_is_found(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(2)

        def spoil(request: Request) -> Answer | None:
            for entry in move.server.kv.values():
                for version in entry.versions.values():
                    if request.method == "GET" and version.data.get("value") == "value 1":
                        version.data["value"] = "spoiled"
            return None

        move.server.fault = spoil
        with pytest.raises(MigrationRefused, match="secret://hr/0001: openbao does not give back"):
            move.migrations().run(*THERE)
        assert (move.provider(), move.wrong()) == ("database", {})

    def test_a_secret_that_stops_opening_at_the_source_is_named_and_stays(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(3)

        def break_one(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "copying":
                move.mesh.sql("UPDATE secret SET sealed = :junk WHERE ref = 'secret://hr/0001'", junk=b"junk")

        with pytest.raises(MigrationRefused, match="1 secrets do not open in database: secret://hr/0001"):
            move.migrations().run(*THERE, break_one)
        assert move.provider() == "database"

    def test_while_the_target_is_down_after_the_cut_over_nothing_is_lost(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(3)
        move.migrations().run(*THERE)
        move.server.sealed = True
        for call in (move.migrations().scrub, move.migrations().back):
            with pytest.raises(ProviderUnavailable, match="sealed"):
                call()
        assert move.sealed() == 3
        move.server.sealed = False
        move.migrations().back()
        assert (move.provider(), move.wrong()) == ("database", {})


class TestFence:
    def test_a_second_one_is_refused_while_the_first_works(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(6)
        found: list[MeshError] = []

        def second(phase: str, _subject: str, _done: int, _total: int | None) -> None:
            if phase == "copying" and not found:
                with pytest.raises(Busy) as busy:
                    move.migrations().run(*THERE)
                found.append(busy.value)
                with pytest.raises(Busy) as busy:
                    move.migrations().abort()
                found.append(busy.value)

        move.migrations().run(*THERE, second)
        assert len(found) == 2
        assert "process" in str(found[0])
        assert move.wrong() == {}

    def test_who_was_taken_over_changes_nothing_any_more(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(9)

        def overtaken(phase: str, _subject: str, done: int, _total: int | None) -> None:
            if phase == "copying" and done == 4:
                later = datetime.now(UTC) + timedelta(minutes=5)
                move.migrations(clock=lambda: later).run(*THERE)

        with pytest.raises(LeaseLost):
            move.migrations().run(*THERE, overtaken)
        assert (move.provider(), move.state(), move.wrong()) == ("openbao", "drain", {})

    def test_another_pair_waits_for_the_open_one(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(2)
        move.migrations().run(*THERE)
        with pytest.raises(Busy, match="database to openbao is open, in the state drain"):
            move.migrations().run("openbao", "database")

    @pytest.mark.parametrize("call", ["abort", "back", "scrub"])
    def test_without_one_there_is_nothing_to_end(self, embedded_move: Move, call: str) -> None:
        with pytest.raises(UsageError, match="no migration of secrets is open"):
            getattr(embedded_move.migrations(), call)()

    def test_what_does_not_fit_the_state_names_what_does(self, embedded_move: Move) -> None:
        move = embedded_move
        move.fill(4)
        with pytest.raises(Interrupt):
            move.migrations().run(*THERE, stop_at("copying", 4))
        for call in (move.migrations().back, move.migrations().scrub):
            with pytest.raises(UsageError) as refused:
                call()
            assert "--abort" in refused.value.hint
        move.migrations().run(*THERE)
        with pytest.raises(UsageError) as refused:
            move.migrations().abort()
        assert "--back" in refused.value.hint


def test_the_pace_is_kept_by_all_threads_together() -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = Pace(10.0, clock=lambda: now[0], sleep=sleep)
    for _ in range(4):
        pace.wait()
    assert slept == pytest.approx([0.0, 0.1, 0.2, 0.3])
    Pace(0.0, sleep=sleep).wait()
    assert len(slept) == 4


def test_no_value_is_in_the_rows_of_a_migration(embedded_move: Move) -> None:
    move = embedded_move
    move.put("secret://hr/canary", "canary-93")
    with pytest.raises(Interrupt):
        move.migrations().run(*THERE, stop_at("verifying"))
    for table in ("secret_migration", "secret_migration_item", "audit"):
        assert "canary-93" not in repr(move.mesh.sql(f"SELECT * FROM {table}"))
