"""Another run, another host, a dead process, a database that fails: how a run ends, and that the next one repairs."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Connection

from identitymesh import lease as leases
from identitymesh.audit import Record
from identitymesh.errors import (
    Busy,
    DatabaseLocked,
    DatabaseUnreachable,
    DiskFull,
    ExitCode,
    LeaseLost,
    ObjectRefused,
)
from identitymesh.pipeline.importing import stage
from identitymesh.redaction import Secret
from identitymesh.runs import exports
from identitymesh.runs.reports import Progress
from identitymesh.storage import database as database_module
from identitymesh.storage import leases as leases_module
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r
from tests.servers.postgresql import PostgresDatabase
from tests.servers.process import private_folder

from .world import World, silent


def at_page(world: World, number: int, action: Callable[[], object]) -> Progress:
    """Progress that does something once, when that many pages were read and are stored, all of new people."""
    pages = 0

    def progress(phase: str, subject: str, done: int, total: int | None) -> None:
        nonlocal pages
        if phase == "import":
            pages += 1
            if pages == number:
                ended = time.monotonic() + 30
                while len(stored_keys(world)) < done:  # a page is stored while the next is read
                    assert time.monotonic() < ended
                    time.sleep(0.005)
                action()

    return progress


def run_with(world: World, progress: Progress) -> Any:
    return world.engine.run(delta=False, connectors=(), progress=progress)


def stored_keys(world: World) -> set[str]:
    with world.database.read() as connection:
        return set(connection.scalars(select(m.connector_object.c.key).where(m.connector_object.c.connector == "hr")))


def put_lease(world: World, name: str, **values: Any) -> None:
    """A lease that somebody else holds, a minute long unless told otherwise."""
    row = {
        "name": name,
        "holder": "somebody",
        "fence": 7,
        "until": datetime.now(UTC) + timedelta(minutes=1),
        "host": "elsewhere",
        "pid": 4711,
        "purpose": "a run",
        **values,
    }
    with world.database.write() as connection:
        connection.execute(r.lease.delete().where(r.lease.c.name == name))
        connection.execute(r.lease.insert(), row)


def free_leases(world: World) -> bool:
    """Whether nobody living holds any lease."""
    with world.database.read() as connection:
        rows = connection.execute(select(r.lease)).all()
    return all(row.until <= datetime.now(UTC) or leases_module._dead(row) for row in rows)


# -- leases ------------------------------------------------------------------------


def test_a_second_run_is_told_who_runs_and_leaves_nothing_behind(both: World) -> None:
    both.hire_many(20)
    both._lease = 0.6
    other = both.another_engine()
    raised: list[Busy] = []
    waited: list[str] = []

    def second() -> None:
        def told(phase: str, subject: str, done: int, total: int | None) -> None:
            if phase == "waiting":
                waited.append(subject)

        try:
            other.run(delta=False, connectors=(), progress=told)
        except Busy as error:
            raised.append(error)

    def meanwhile() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    report = run_with(both, at_page(both, 2, meanwhile))

    assert report.state == "done"
    assert f"process {os.getpid()} on " in str(raised[0])
    assert "free in" in raised[0].hint
    assert raised[0].exit_code is ExitCode.BUSY
    assert waited, "it was told what it waits for"
    assert len(both.engine.runs(10)) == 1, "nothing was recorded of the second"
    assert free_leases(both)


def test_a_run_whose_lease_was_taken_over_writes_nothing_more(both: World) -> None:
    both.hire_many(20)

    with pytest.raises(LeaseLost, match="lost its lease on mesh"):
        run_with(both, at_page(both, 1, lambda: put_lease(both, "mesh")))

    assert stored_keys(both) == {f"p{number:04}" for number in range(7)}, "the page before, and none after"
    assert both.crm.objects == {}
    told = both.engine.runs(1)[0]
    assert (told.state, told.error_code) == ("failed", "lease-lost")
    put_lease(both, "mesh", until=datetime.now(UTC))
    assert both.run().state == "done"
    assert len(both.accounts()) == 20


def test_an_export_whose_lease_was_taken_over_records_nothing_and_the_next_run_finds_out(both: World) -> None:
    both.hire_many(5)

    def taken(operation: str, _: str) -> None:
        if operation == "create" and len(both.crm.objects) == 2:
            put_lease(both, "export:crm", until=datetime.now(UTC) + timedelta(seconds=0.5))

    both.crm.before = taken

    report = both.run()

    assert report.state == "problems"
    assert report.exports[0].error_code == "lease-lost"
    both.crm.before = None
    assert both.run().state == "done"
    assert [operation for operation, _ in both.crm.calls] == ["create"] * 5
    assert len(both.accounts()) == 5


def test_an_export_that_loses_its_lease_tells_what_it_had_recorded_before(
    both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "CHUNK", 2)
    monkeypatch.setattr(exports, "BRISK", 0.0)
    both.hire_many(6)

    def taken(operation: str, key: str) -> None:
        if operation == "create" and key == "p0001":
            raise ObjectRefused("no ones")
        if operation == "create" and key == "p0003":
            put_lease(both, "export:crm", until=datetime.now(UTC) + timedelta(seconds=0.5))

    both.crm.before = taken

    report = both.run()

    (exported,) = report.exports
    assert (exported.done, exported.parked, exported.error_code) == ({"create": 1}, 1, "lease-lost")
    assert [(one.subject, one.code) for one in report.issues] == [("p0001", "object-refused"), ("", "lease-lost")]
    assert exported.left == 5


def test_an_export_that_stood_still_for_longer_than_its_lease_lives_sends_nothing_more(
    both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.hire_many(5)

    def stands_still(operation: str, _: str) -> None:
        if operation == "create" and len(both.crm.objects) == 2:
            real = leases.uptime
            monkeypatch.setattr(leases, "uptime", lambda: real() + 60)
            put_lease(both, "export:crm", until=datetime.now(UTC) + timedelta(seconds=0.5))

    both.crm.before = stands_still

    report = both.run()

    assert report.exports[0].error_code == "lease-lost"
    assert len(both.crm.objects) == 3, "the one that was on its way, and no other"
    both.crm.before = None
    monkeypatch.undo()
    assert both.run().state == "done"
    assert [operation for operation, _ in both.crm.calls] == ["create"] * 5
    assert len(both.accounts()) == 5


def test_the_lease_of_a_dead_process_is_taken_over_at_once_and_its_run_is_marked(both: World) -> None:
    both.hire_many(3)
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()

    gone = {"host": socket.gethostname(), "pid": dead.pid, "until": datetime.now(UTC) + timedelta(hours=1)}
    with both.database.write() as connection:
        row = {"command": "run", "mode": "full", "state": "running", "actor": "x", "definition_version": 1}
        connection.execute(r.run.insert(), {**row, "started_at": datetime.now(UTC), "summary": "{}"})
    for name in ("mesh", "run:1", "export:crm"):
        put_lease(both, name, **gone)

    report = both.run()

    assert report.state == "done"
    assert report.notes == ["run 1 had ended without a word; this run carries on from there"]
    assert [one.state for one in both.engine.runs(5)] == ["done", "abandoned"]
    assert free_leases(both)


def test_a_run_that_still_exports_is_not_buried(both: World) -> None:
    both.hire_many(3)
    states: list[str] = []

    def meanwhile(operation: str, _: str) -> None:
        if operation == "create" and not states:
            both._lease = 0.3
            both.another_engine().plan(delta=True, connectors=["hr"], progress=silent)
            states.extend(one.state for one in both.engine.runs(5))

    both.crm.before = meanwhile

    assert both.run().state == "done"
    assert states == ["done", "running"]


def test_a_lease_of_another_host_is_waited_for_until_it_runs_out(both: World) -> None:
    both.hire_many(3)
    put_lease(both, "mesh", until=datetime.now(UTC) + timedelta(seconds=1))
    waited: list[str] = []

    def told(phase: str, subject: str, done: int, total: int | None) -> None:
        if phase == "waiting":
            waited.append(subject)

    report = both.engine.run(delta=False, connectors=(), progress=told)

    assert report.state == "done"
    assert "process 4711 on elsewhere" in waited[0]


def test_a_page_is_stored_while_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_again = threading.Event()
    pages: list[int] = []

    def watched(entries: Sequence[Any], *rest: Any) -> Any:
        pages.append(len(entries))
        if len(pages) == 2:
            read_again.set()
        return stage(entries, *rest)

    waited: list[bool] = []

    def at_first_insert(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO connector_object") and not waited:
            waited.append(read_again.wait(30))

    monkeypatch.setattr("identitymesh.runs.imports.stage", watched)
    with World(tmp_path) as world:
        world.apply()
        world.hire_many(20)
        event.listen(world.database.engine, "before_cursor_execute", at_first_insert)

        assert world.run().state == "done"

        assert waited == [True]
        assert len(world.accounts()) == 20


# -- the product's database --------------------------------------------------------


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A SQLite world that waits half a second for a locked database, and whose leases live a second."""
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.5)
    with World(tmp_path, lease=1.0) as made:
        made.apply()
        yield made


def test_a_locked_database_ends_the_run_by_its_name_and_the_next_one_repairs(impatient: World) -> None:
    impatient.hire_many(20)
    other = sqlite3.connect(impatient.folder / "mesh.db", isolation_level=None, check_same_thread=False)

    with closing(other), pytest.raises(DatabaseLocked, match="locked by another program") as raised:
        run_with(impatient, at_page(impatient, 2, lambda: other.execute("BEGIN EXCLUSIVE")))

    assert raised.value.exit_code is ExitCode.BUSY
    assert stored_keys(impatient) == {f"p{number:04}" for number in range(14)}
    assert impatient.crm.objects == {}
    report = impatient.run()
    assert report.state == "done"
    assert len(impatient.accounts()) == 20
    assert [one.state for one in impatient.engine.runs(5)] == ["done", "abandoned"], "it could not even say so"


def test_a_database_locked_while_answers_are_recorded_makes_nobody_twice(impatient: World) -> None:
    impatient.hire_many(5)
    other = sqlite3.connect(impatient.folder / "mesh.db", isolation_level=None, check_same_thread=False)

    def lock(operation: str, _: str) -> None:
        if operation == "create" and len(impatient.crm.objects) == 5:
            other.execute("BEGIN EXCLUSIVE")

    impatient.crm.after = lock

    with closing(other), pytest.raises(DatabaseLocked):
        impatient.run()

    impatient.crm.after = None
    report = impatient.run()
    assert (report.state, report.row_count) == ("done", 0)
    assert len(impatient.accounts()) == 5


@contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is a file system of its own with 3 MiB, which takes a process that may mount one."""
    folder = private_folder("disk")  # not below pytest's, which could not remove it after a kill
    mount = shutil.which("mount")
    argv = [mount or "mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    mounted = mount is not None and subprocess.run(argv, check=False, capture_output=True).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)


def test_a_full_disk_ends_the_run_by_its_name_and_the_next_one_repairs() -> None:
    """On a small file system; where none can be mounted, SQLite itself is told that there is no more room."""
    with small_disk() as (disk, mounted), World(disk, lease=1.0) as world:
        world.apply()
        ballast = disk / "ballast"
        told = [1_000_000]

        @event.listens_for(world.database.engine, "begin")
        def _limit(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {told[0]}")

        world.hire_many(5)
        world.run()
        for person in world.hr.objects:
            world.change(person, department="x" * 20_000)
        world.hire_many(20, start=5)
        if mounted:
            ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 50_000))
        else:
            told[0] = 1

        with pytest.raises(DiskFull, match="no space left") as raised:
            world.run()

        assert "nothing was half written" in raised.value.hint
        assert set(world.accounts()) == {f"p{number:04}" for number in range(5)}
        assert {account.get("department") for account in world.accounts().values()} == {None}
        ballast.unlink(missing_ok=True)
        told[0] = 1_000_000
        world.approve(world.run().run_id)  # five become twenty-five
        world.run()
        assert len(world.accounts()) == 25
        assert len(str(world.accounts()["p0000"]["department"])) == 20_000
        assert world.run().row_count == 0


def test_a_killed_database_connection_ends_the_run_by_its_name_and_the_next_one_repairs(
    tmp_path: Path, migrated_postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with World(tmp_path, url=migrated_postgres.url, password=Secret(migrated_postgres.password), lease=1.0) as world:
        world.apply()
        world.hire_many(20)
        killed: list[int] = []

        append = SqlAuditTrail.append

        def kill(trail: SqlAuditTrail, records: Iterable[Record]) -> int:  # the last write of a page of people
            several = list(records)
            if not killed and any(one.action == "identity.create" for one in several):
                pid = trail._connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                killed.append(pid)
                with migrated_postgres.connect() as other:
                    other.execute("SELECT pg_terminate_backend(%s)", [pid])
            return append(trail, several)

        monkeypatch.setattr(SqlAuditTrail, "append", kill)

        with pytest.raises(DatabaseUnreachable):
            world.run()

        assert killed
        assert stored_keys(world) == set()
        assert world.engine.runs(1)[0].error_code == "database-unreachable"
        assert world.run().state == "done"
        assert len(world.accounts()) == 20


def test_connections_killed_between_two_transactions_are_made_anew(
    tmp_path: Path, migrated_postgres: PostgresDatabase
) -> None:
    with World(tmp_path, url=migrated_postgres.url, password=Secret(migrated_postgres.password)) as world:
        world.apply()
        world.hire_many(20)

        def kill_all() -> None:
            with migrated_postgres.connect() as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        assert run_with(world, at_page(world, 2, kill_all)).state == "done"
        assert len(world.accounts()) == 20


def test_a_killed_connection_while_answers_are_recorded_makes_nobody_twice(
    tmp_path: Path, migrated_postgres: PostgresDatabase
) -> None:
    with World(tmp_path, url=migrated_postgres.url, password=Secret(migrated_postgres.password), lease=1.0) as world:
        world.apply()
        world.hire_many(5)

        def kill(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("UPDATE account SET") and "known" in statement and world.crm.objects:
                event.remove(world.database.engine, "before_cursor_execute", kill)
                pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                with migrated_postgres.connect() as other:
                    other.execute("SELECT pg_terminate_backend(%s)", [pid])

        event.listen(world.database.engine, "before_cursor_execute", kill)

        with pytest.raises(DatabaseUnreachable):
            world.run()

        assert len(world.crm.objects) == 5
        assert world.run().row_count == 0
        assert len(world.accounts()) == 5
