"""Leases: one holder at a time, the dead are taken over, the fence only grows."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from sqlalchemy import text, update

from identitymesh.errors import Busy, LeaseLost
from identitymesh.storage import schema
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
    leases = SqlLeases(database, seconds=600)
    leases.acquire("mesh", "a run")
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
