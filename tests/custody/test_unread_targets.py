"""After a restore each target is read completely before anything is written to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from identitymesh.errors import Paused
from identitymesh.redaction import Secret
from identitymesh.storage.continuity import Continuity, put_pause
from identitymesh.storage.tables.continuity import unread_target
from tests.engine.world import World, target


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    database = request.getfixturevalue("migrated_postgres") if request.param == "postgresql" else None
    given = {"url": database.url, "password": Secret(database.password)} if database else {}
    with World(tmp_path, **given) as made:
        made.apply()
        made.hire_many(5)
        made.run()
        with made.database.write() as connection:
            row = {"connector": "crm", "object": "user", "since": datetime.now(UTC)}
            connection.execute(insert(unread_target), row)
        yield made


def unread(world: World) -> int:
    with world.database.read() as connection:
        return len(list(connection.execute(select(unread_target))))


def test_a_delta_run_reads_the_target_first(world: World) -> None:
    world.hire("p9", "New", "One")
    report = world.run(delta=True)
    assert {one.connector: one.mode for one in report.imports}["crm"] == "full"
    assert unread(world) == 0
    assert len(world.crm.objects) == 6
    assert "crm" not in {one.connector for one in world.run(delta=True).imports}


def test_so_does_a_run_of_the_source_alone(world: World) -> None:
    world.change("p0001", first="Changed")
    report = world.run(connectors=["hr"])
    assert "crm" in {one.connector for one in report.imports}
    assert world.accounts()["p0001"]["givenName"] == "Changed"
    assert unread(world) == 0


def test_a_target_that_cannot_be_read_gets_nothing(world: World) -> None:
    world.change("p0001", first="Changed")
    world.crm.proves = False
    report = world.run()
    assert target(report).state == "incomplete"
    assert world.accounts()["p0001"]["givenName"] == "First1"
    assert unread(world) == 1
    world.crm.proves = True
    world.run()
    assert world.accounts()["p0001"]["givenName"] == "Changed"


def test_a_plan_from_before_is_not_written(world: World) -> None:
    world.change("p0001", first="Changed")
    with world.database.write() as connection:
        connection.execute(unread_target.delete())
    planned = world.plan()
    with world.database.write() as connection:
        connection.execute(insert(unread_target), {"connector": "crm", "object": "user", "since": datetime.now(UTC)})
    world.release(planned.run_id)
    assert world.accounts()["p0001"]["givenName"] == "First1"


def test_every_starter_of_runs_obeys_the_pause(world: World) -> None:
    with world.database.write() as connection:
        put_pause(connection, "a backup was restored", "tester")
    with pytest.raises(Paused, match="a backup was restored"):
        world.run()
    with pytest.raises(Paused, match="a backup was restored"):
        world.run(delta=True)
    with pytest.raises(Paused):
        world.plan()
    lifted = Continuity(world.database, "tester").resume()
    assert lifted is not None
    world.run()
