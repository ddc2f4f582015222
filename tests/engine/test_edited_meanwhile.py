"""A definition that is edited while a run is on: the run goes by the one that it began with."""

from __future__ import annotations

import pytest

from .world import World, target

EDIT = ('givenName: "[givenName]"', 'givenName: "ToUpper([givenName])"')


def test_while_it_imports(both: World) -> None:
    """What it read and worked out stands; what it would write waits, because the rules are others by now."""
    both.hire_many(3)
    both.run()
    both.change("p0001", first="New")
    edited: list[int] = []

    def progress(phase: str, subject: str, done: int, total: int | None) -> None:
        if (phase, subject) == ("import", "hr") and not edited:
            edited.append(both.apply(lambda text: text.replace(*EDIT)).version)

    report = both.engine.run(delta=False, connectors=(), progress=progress)

    assert report.definition_version == edited[0] - 1
    assert (report.state, target(report).state) == ("held", "held")
    assert list(target(report).reasons) == ["first plan after a change: its projection changed"]
    assert both.accounts()["p0001"]["givenName"] == "First1"
    both.run()
    both.approve(both.engine.runs(1)[0].run_id)
    both.run()
    assert both.accounts()["p0001"]["givenName"] == "NEW"
    assert both.accounts()["p0000"]["givenName"] == "FIRST0"


def test_while_it_exports(both: World) -> None:
    """What was released goes out as the plan said; the next run goes by the new rules."""
    both.hire_many(3)
    edited: list[int] = []

    def before(operation: str, _: str) -> None:
        if operation == "create" and not edited:
            edited.append(both.apply(lambda text: text.replace(*EDIT)).version)

    both.crm.before = before
    report = both.run()

    assert report.state == "done"
    assert report.definition_version == edited[0] - 1
    assert {one["givenName"] for one in both.accounts().values()} == {"First0", "First1", "First2"}
    both.crm.before = None
    held = both.run()
    assert (held.definition_version, target(held).state) == (edited[0], "held")


@pytest.mark.parametrize("delta", [True, False])
def test_a_plan_from_before_is_not_released(world: World, delta: bool) -> None:
    from identitymesh.errors import UsageError

    world.hire("p1")
    planned = world.plan(delta=delta)
    world.apply(lambda text: text.replace(*EDIT))

    with pytest.raises(UsageError, match="was made before the rules changed"):
        world.release(planned.run_id)
