"""A chunk is sent while another is recorded and a third is marked: what a kill, a failure and a lost lease leave."""

from __future__ import annotations

import gc
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from identitymesh.errors import CredentialRefused, DatabaseLocked, LeaseLost, MeshError
from identitymesh.runs import exports
from identitymesh.runs.contract import Result
from identitymesh.storage.exports import SqlExports
from identitymesh.storage.tables import mesh as m
from tests.forks import Forks
from tests.servers.slapd import Branch

from .directories import firm
from .overlapping import CHUNK
from .world import World

PEOPLE = 22
DOWN = CredentialRefused("the login does not count any more")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "CHUNK", CHUNK)
    monkeypatch.setattr(exports, "LARGEST_CHUNK", CHUNK)


@pytest.fixture
def forks() -> Iterator[Forks]:
    running = Forks("tests.engine.overlapping")
    yield running
    running.stop()


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "identitymesh.db")) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("moment", ["recording", "marking"])
def test_a_kill_with_two_chunks_in_flight_loses_nothing_and_doubles_nobody(
    moment: str, forks: Forks, tmp_path: Path, branch: Branch
) -> None:
    with firm(tmp_path, branch) as company:
        people = {f"{number:02}" for number in range(PEOPLE)}
        company.hire(*sorted(people))

        status, _ = forks({"folder": str(tmp_path), "moment": moment})

        assert status == -signal.SIGKILL
        marked = rows(tmp_path, "SELECT status, count(*) FROM account WHERE kind IS NOT NULL GROUP BY status")
        left = PEOPLE - CHUNK if moment == "recording" else PEOPLE - 2 * CHUNK
        assert dict(marked) == {"sending": 2 * CHUNK, "idle": left - 2 * CHUNK}
        there = set(company.entries())
        assert there <= people
        assert len(there) >= 2 * CHUNK + 2, "more was there than was recorded"

        assert company.run().state == "done"
        assert set(company.entries()) == people
        assert company.run().row_count == 0
        told = rows(tmp_path, "SELECT subject, outcome FROM audit WHERE action = 'account.create'")
        assert Counter(told) == Counter((str(number), "done") for number in range(1, PEOPLE + 1))
        sequence = [number for (number,) in rows(tmp_path, "SELECT sequence FROM audit ORDER BY sequence")]
        assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))


@pytest.mark.usefixtures("small")
def test_every_call_finds_its_mark_committed(both: World) -> None:
    both.hire_many(PEOPLE)
    met: list[str] = []

    def look(operation: str, key: str) -> None:
        if operation == "create":
            query = select(m.account.c.status).where(m.account.c.correlate == key)
            with both.database.read() as connection:
                met.append(str(connection.scalar(query)))

    both.crm.before = look

    assert both.run().state == "done"
    assert met == ["sending"] * PEOPLE


@pytest.mark.usefixtures("small")
def test_a_chunk_is_sent_while_the_one_before_it_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hire_many(PEOPLE)
    sending, made = threading.Event(), SqlExports.record
    seen: list[bool] = []
    recorded = 0

    def record(store: SqlExports, results: Sequence[Result], *more: Any) -> None:
        nonlocal recorded
        recorded += len(results)
        if recorded == 2 * CHUNK:  # the first chunk that has another one marked already
            seen.append(sending.wait(30))
        made(store, results, *more)

    monkeypatch.setattr(SqlExports, "record", record)
    world.crm.before = lambda operation, _: (
        sending.set() if operation == "create" and len(world.crm.objects) == 2 * CHUNK else None
    )

    assert world.run().state == "done"
    assert seen == [True]
    assert len(world.accounts()) == PEOPLE


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("error", [DatabaseLocked, LeaseLost])
def test_when_a_chunk_cannot_be_recorded_the_next_is_the_last_that_is_sent(
    both: World, monkeypatch: pytest.MonkeyPatch, error: Callable[[str], MeshError]
) -> None:
    both.hire_many(PEOPLE)
    made, failed = SqlExports.record, threading.Event()

    def record(*given: Any) -> None:
        if len(both.crm.objects) >= 2 * CHUNK:
            failed.set()
            raise error("not now")
        made(*given)

    def wait(operation: str, _: str) -> None:
        if operation == "create" and len(both.crm.objects) == 2 * CHUNK:
            assert failed.wait(30)

    both.crm.before = wait
    with monkeypatch.context() as patched:
        patched.setattr(SqlExports, "record", record)
        try:
            assert both.run().exports[0].error_code == "lease-lost"
        except DatabaseLocked:
            assert error is DatabaseLocked

    sent = len(both.crm.objects)
    assert 2 * CHUNK <= sent <= 3 * CHUNK, "the chunk that was marked, or a part of it, and none after"
    both.crm.before = None
    assert both.run().state == "done"
    assert len(both.accounts()) == PEOPLE
    assert [operation for operation, _ in both.crm.calls] == ["create"] * PEOPLE


@pytest.mark.usefixtures("small")
def test_a_slow_target_has_no_chunk_marked_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hire_many(PEOPLE)
    monkeypatch.setattr(exports, "BRISK", -1.0)
    most = 0

    def look(operation: str, _: str) -> None:
        nonlocal most
        if operation == "create":
            with world.database.read() as connection:
                query = select(m.account.c.identity_id).where(m.account.c.status == "sending")
                most = max(most, len(connection.execute(query).all()))

    world.crm.before = look

    assert world.run().state == "done"
    assert most == CHUNK


@pytest.mark.usefixtures("small")
def test_what_was_marked_ahead_is_put_back_when_the_target_cannot_be_used(both: World) -> None:
    both.hire_many(PEOPLE)

    def down(operation: str, _: str) -> None:
        if operation == "create" and len(both.crm.objects) == 2 * CHUNK + 1:
            raise DOWN

    both.crm.before = down

    report = both.run()

    assert report.exports[0].error_code == DOWN.code
    assert report.exports[0].done == {"create": 2 * CHUNK + 1}
    with both.database.read() as connection:
        assert set(connection.scalars(select(m.account.c.status))) == {"idle"}
    both.crm.before = None
    assert both.run().exports[0].done == {"create": PEOPLE - 2 * CHUNK - 1}
    assert len(both.accounts()) == PEOPLE


@pytest.mark.usefixtures("small")
def test_the_collector_rests_while_a_chunk_is_sent_and_has_its_turn_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hire_many(PEOPLE)
    while_sending: list[bool] = []
    between: list[bool] = []
    made = exports._Desk.record

    def record(*given: Any) -> None:  # called between two chunks, in the thread that sends
        between.append(gc.isenabled())
        made(*given)

    monkeypatch.setattr(exports._Desk, "record", record)
    world.crm.before = lambda operation, _: while_sending.append(gc.isenabled()) if operation == "create" else None

    assert world.run().state == "done"
    assert while_sending == [False] * PEOPLE
    assert between == [True] * len(between)
    assert len(between) >= PEOPLE // CHUNK
