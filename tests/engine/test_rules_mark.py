"""The mark that everything was joined under today's rules: it saves a look at everything, and is never wrong."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Table, func, select, update

from identitymesh.storage.mesh import SqlMesh
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

from .world import World


def mark(world: World) -> int | None:
    with world.database.read() as connection:
        return connection.scalar(select(r.rules_mark.c.ruleset))


def unsettled(world: World, table: Table = m.connector_object) -> int:
    """Rows that were joined or evaluated under older rules than the newest of any object."""
    newest = select(func.max(m.connector_object.c.ruleset)).scalar_subquery()
    query = select(func.count()).where(table.c.ruleset != newest)
    with world.database.read() as connection:
        return int(connection.scalar(query) or 0)


def other_rules(world: World) -> None:
    world.apply(lambda text: text.replace("on_leave: disable", "on_leave: delete"), release=True)


def test_it_follows_the_rules(both: World) -> None:
    both.hire_many(3)
    both.run()
    first = mark(both)
    other_rules(both)
    both.plan()

    assert first is not None
    assert (mark(both) or 0) > first
    assert unsettled(both) == 0


def test_a_change_of_rules_that_is_interrupted_is_taken_up_again(both: World, monkeypatch: pytest.MonkeyPatch) -> None:
    both.hire_many(3)
    both.run()
    first = mark(both)
    other_rules(both)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SqlMesh, "identities_to_refresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both.plan()
    monkeypatch.undo()

    assert mark(both) == first, "objects are settled, and people are not"
    assert unsettled(both, m.identity) == 3
    both.plan()
    assert unsettled(both, m.identity) == 0
    assert (mark(both) or 0) > (first or 0)


def test_what_an_export_writes_under_older_rules_is_joined_again(both: World) -> None:
    """The rules change, and everything is settled under the new ones, while an export still sends by the old."""
    both.hire_many(3)
    marks: list[int | None] = []

    def meanwhile(operation: str, _: str) -> None:
        if operation == "create" and not marks:
            other_rules(both)
            both.another_engine().plan(delta=True, connectors=["hr"], progress=lambda *_: None)
            marks.append(mark(both))

    both.crm.before = meanwhile
    both.run()

    assert marks != [None]
    assert unsettled(both) == 3, "what was sent came after that"
    assert mark(both) is None
    both.plan(delta=True, connectors=["hr"])
    assert unsettled(both) == 0
    assert mark(both) == marks[0]


def test_what_an_export_writes_under_older_rules_while_the_others_are_settled_is_joined(
    both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the look for what has to be joined again, and before what need not be is marked."""
    both.hire_many(3)
    both.run()
    by_id = "    - {name: crm-by-id, connector: crm, object: user, source: externalId, target: employeeId}\n  flow:"
    both.apply(lambda text: text.replace("  flow:", by_id, 1), release=True)
    key = next(key for key, one in both.crm.objects.items() if one["externalId"] == "p0000")
    settle = SqlMesh.settle_objects
    objects = m.connector_object.c

    def exported(*given: Any) -> None:
        with both.database.write() as connection:
            values = {"ruleset": 1, "state": "aside", "identity_id": None, "joined_by": None}
            mine = update(m.connector_object).where(objects.connector == "crm", objects.key == key)
            assert connection.execute(mine.values(values)).rowcount == 1
        settle(*given)

    monkeypatch.setattr(SqlMesh, "settle_objects", exported)
    both.plan(delta=True, connectors=["hr"])
    monkeypatch.undo()
    assert mark(both) is None
    both.plan(delta=True, connectors=["hr"])

    assert mark(both) is not None
    assert "crm" in [one.connector for one in both.engine.explain("p0000").objects]
