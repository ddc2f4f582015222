"""Leases: one holder at a time, the dead are taken over, the fence only grows."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Connection, insert, text, update

from identitymesh.errors import Busy, DatabaseUnreachable, LeaseLost
from identitymesh.lease import Lease
from identitymesh.storage import leases, schema
from identitymesh.storage.database import Database
from identitymesh.storage.leases import SqlLeases, process_start
from identitymesh.storage.tables.runs import lease as lease_table


@pytest.fixture(autouse=True)
def _tables(database: Database) -> None:
    schema.upgrade(database)


def test_a_held_lease_is_busy_and_says_who(database: Database) -> None:
    first, second = SqlLeases(database), SqlLeases(database)
    first.acquire("mesh", "a run")

    with pytest.raises(Busy, match=r"a run holds mesh") as raised:
        second.acquire("mesh", "a plan")

    assert "free in" in raised.value.hint


def test_a_given_back_lease_is_free_and_its_fence_grows(database: Database) -> None:
    first, second = SqlLeases(database), SqlLeases(database)
    lease = first.acquire("mesh", "a run")
    first.release(lease)

    assert second.acquire("mesh", "a run").fence == lease.fence + 1


def test_an_expired_lease_is_taken_over_and_the_old_holder_finds_out(database: Database) -> None:
    first, second = SqlLeases(database, seconds=0.2), SqlLeases(database)
    lease = first.acquire("mesh", "a run")
    time.sleep(0.4)
    second.acquire("mesh", "a run")

    with pytest.raises(LeaseLost, match="lost its lease on mesh"):
        first.renew(lease)


def test_renewing_keeps_it(database: Database) -> None:
    first, second = SqlLeases(database, seconds=0.6), SqlLeases(database)
    lease = first.acquire("mesh", "a run")
    for _ in range(4):
        time.sleep(0.2)
        first.renew(lease)

    with pytest.raises(Busy):
        second.acquire("mesh", "a run")


def test_a_dead_holder_on_this_host_is_taken_over_at_once(database: Database) -> None:
    SqlLeases(database, seconds=600).acquire("mesh", "a run")
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_start(child.pid)
    child.wait()
    with database.write() as connection:
        host = connection.scalar(text("SELECT host FROM lease"))
        holder = f"{host}:{child.pid}:{started}:x"
        connection.execute(update(lease_table).values(pid=child.pid, holder=holder))

    assert SqlLeases(database).acquire("mesh", "a run").fence == 2


def test_a_dead_holder_on_another_host_is_waited_for(database: Database) -> None:
    SqlLeases(database, seconds=600).acquire("mesh", "a run")
    with database.write() as connection:
        connection.execute(update(lease_table).values(host="elsewhere", pid=1))

    with pytest.raises(Busy):
        SqlLeases(database).acquire("mesh", "a run")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_of_two_that_take_a_new_lease_in_the_same_moment_one_is_busy(database: Database) -> None:
    """Neither sees a row: the database decides when the first commits."""
    with database.engine.connect() as connection, connection.begin() as open_transaction:
        connection.execute(insert(lease_table), row_of_somebody_else())
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(SqlLeases(database).acquire, "mesh", "a run")
            wait_until_blocked(database)
            open_transaction.commit()
            with pytest.raises(Busy, match="has just taken mesh"):
                other.result(timeout=30)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_lease_that_another_took_after_we_looked_is_left_to_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SqlLeases(database), SqlLeases(database)
    taken: list[Lease] = []
    now = leases._now

    def look_at_the_clock(connection: Connection) -> datetime:
        """Which the second does once it has seen no row."""
        monkeypatch.setattr(leases, "_now", now)
        taken.append(first.acquire("mesh", "a run"))
        return now(connection)

    monkeypatch.setattr(leases, "_now", look_at_the_clock)
    with pytest.raises(Busy, match="has just taken mesh"):
        second.acquire("mesh", "a run")

    first.renew(taken[0])


def row_of_somebody_else() -> dict[str, object]:
    moment = datetime.now(UTC) + timedelta(seconds=15)
    return {"name": "mesh", "holder": "x", "fence": 1, "until": moment, "host": "x", "pid": 1, "purpose": "a run"}


def wait_until_blocked(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with database.read() as connection:
            if connection.scalar(waiting):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("copies", [False, True])
def test_who_stands_still_in_a_transaction_does_not_keep_a_lease_that_ran_out(database: Database, copies: bool) -> None:
    """Half a COPY is not idle to the server, which would wait for the rest of it for ever."""
    first, second = SqlLeases(database, seconds=0.5), SqlLeases(database, seconds=0.5)
    lease = first.acquire("mesh", "a run")

    def take_over() -> Lease:
        time.sleep(1)
        return second.acquire("mesh", "another run")

    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE thing (key text)")

    def stand_still(pool: ThreadPoolExecutor) -> None:
        with database.write() as connection:
            leases.assert_held(connection, lease)
            if copies:
                with connection.connection.cursor().copy("COPY thing (key) FROM STDIN") as copy:
                    copy.write_row(["a" * 100_000])  # more than the driver keeps for itself
                    taken.append(pool.submit(take_over).result(timeout=60))
            else:
                taken.append(pool.submit(take_over).result(timeout=30))  # the server's own patience is a minute
            connection.exec_driver_sql("INSERT INTO thing VALUES ('b')")

    taken: list[Lease] = []
    with ThreadPoolExecutor() as pool, pytest.raises((DatabaseUnreachable, psycopg.Error)):
        stand_still(pool)

    assert [one.fence for one in taken] == [lease.fence + 1]
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM thing").scalar() == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_who_is_silent_for_long_but_holds_another_lease_goes_on(database: Database) -> None:
    first, second = SqlLeases(database, seconds=0.5), SqlLeases(database, seconds=30)
    first.acquire("export:crm", "a run that has died")
    lease = second.acquire("mesh", "a run that computes")

    with database.write() as connection:
        leases.assert_held(connection, lease)
        time.sleep(1)
        first.acquire("export:crm", "another run")
        leases.assert_held(connection, lease)
