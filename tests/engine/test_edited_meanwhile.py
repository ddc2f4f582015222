"""A definition that is edited while a run is on: the run goes by the one that it began with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from identitymesh.errors import Busy, DefinitionOutdated, LeaseLost, UsageError
from identitymesh.lease import MESH, Lease
from identitymesh.runs.contract import PlanTarget
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.plans import SqlPlans
from identitymesh.storage.runs import SqlDefinitions

from .vaulted import REF, vaulted_world
from .world import World, silent, target

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
    world.hire("p1")
    planned = world.plan(delta=delta)
    world.apply(lambda text: text.replace(*EDIT))

    with pytest.raises(UsageError, match="was made before the rules changed"):
        world.release(planned.run_id)


def test_while_it_waits(both: World) -> None:
    """It goes by what is in force when its turn comes."""
    both.hire_many(2)
    both.run()
    both.change("p0001", first="New")
    leases = SqlLeases(both.database)
    lease = leases.acquire(MESH, "another run")

    def progress(phase: str, subject: str, done: int, total: int | None) -> None:
        del subject, done, total
        if phase == "waiting" and leases.held(MESH):
            both.apply(lambda text: text + "frozen: [p0001]\n")
            leases.release(lease)

    report = both.engine.run(delta=False, connectors=(), progress=progress)

    assert report.definition_version == 2
    assert both.accounts()["p0001"]["givenName"] == "First1"


def test_a_plan_that_waits_is_not_released_by_other_rules(both: World) -> None:
    both.hire("p1")
    planned = both.plan()
    leases = SqlLeases(both.database)
    lease = leases.acquire(MESH, "another run")

    def progress(phase: str, subject: str, done: int, total: int | None) -> None:
        del subject, done, total
        if phase == "waiting" and leases.held(MESH):
            both.apply(lambda text: text.replace(*EDIT))
            leases.release(lease)

    with pytest.raises(UsageError, match="was made before the rules changed"):
        both.engine.release(planned.run_id, progress=progress)
    assert not both.accounts()


def renamed(text: str) -> str:
    return text.replace("connector: crm", "connector: crm2").replace("  crm: {", "  crm2: {renamed_from: crm, ")


def test_a_connector_is_not_renamed_under_a_run(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.directories["crm2"] = both.crm
    both.change("p0001", first="New")
    told: list[str] = []

    def rename() -> None:
        with pytest.raises(Busy, match="is under way") as refused:
            both.engine.apply(
                renamed(both.text), source="mesh.yaml", base=None, replace=False, release=False, allow_audience=()
            )
        told.append(refused.value.hint)

    both.hr.before_read = rename
    both.run(delta=True)
    assert told == ["A connector is renamed while nothing runs: apply again when it has ended."]
    both.hr.before_read = None
    both.change("p0002", first="Newer")
    both.apply(renamed, release=True)
    both.run()
    assert len(both.crm.objects) == 3
    assert both.accounts()["p0002"]["givenName"] == "Newer"


def test_who_stood_still_while_a_connector_was_renamed_writes_nothing_more(both: World) -> None:
    leases = SqlLeases(both.database, seconds=0.2)
    lease = leases.acquire(MESH, "a run that stands still")
    both.directories["crm2"] = both.crm
    while leases.held(MESH):
        time.sleep(0.05)
    both.apply(renamed)
    with pytest.raises(LeaseLost):
        leases.renew(lease)


def test_an_export_leaves_rows_of_newer_rules_to_the_run_that_knows_them(both: World) -> None:
    both.hire_many(60)  # more than are marked at once
    edited: list[int] = []

    def before(operation: str, _: str) -> None:
        if operation == "create" and not edited:
            name = ("name: people-in-crm", "name: staff-in-crm\n      renamed_from: people-in-crm")
            edited.append(both.apply(lambda text: text.replace(*name), release=True).version)
            both.another_engine().plan(delta=True, connectors=(), progress=silent)

    both.crm.before = before
    report = both.run()

    assert report.state == "done"
    made = len(both.crm.objects)
    assert 0 < made < 60
    both.run()
    assert len(both.crm.objects) == 60
    assert sum(operation == "create" for operation, _ in both.crm.calls) == 60


@pytest.mark.parametrize("how", ["drop", "gate"])
def test_what_a_person_decides_before_the_release_stands(
    both: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    both.hire_many(3)
    put_targets = SqlPlans.put_targets
    decided: list[int] = []

    def then(plans: SqlPlans, run_id: int, targets: list[PlanTarget], lease: Lease) -> None:
        put_targets(plans, run_id, targets, lease)
        if not decided:
            decided.append(run_id)
            if how == "drop":
                both.another_engine().drop(run_id, connectors=["crm"])
            else:
                both.apply(lambda text: text.replace(*EDIT))

    monkeypatch.setattr(SqlPlans, "put_targets", then)
    both.run()

    assert not both.accounts()
    (stored,) = both.engine.runs(1)
    assert target(stored).state == ("dropped" if how == "drop" else "ready")


@pytest.mark.parametrize("second", ["approve", "drop"])
def test_of_two_decisions_the_first_stands(both: World, monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    both.hire_many(3)
    planned = both.plan()
    decide = getattr(SqlPlans, second)

    def slowly(plans: SqlPlans, *given: object) -> object:
        monkeypatch.setattr(SqlPlans, second, decide)
        both.another_engine().drop(planned.run_id, connectors=())
        return decide(plans, *given)

    monkeypatch.setattr(SqlPlans, second, slowly)
    with pytest.raises(UsageError, match="crm was dropped by tester in this moment"):
        getattr(both.engine, second)(planned.run_id, connectors=())
    assert target(both.engine.runs(1)[0]).state == "dropped"


def test_an_apply_that_lost_to_another_lets_no_secret_go_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vaulted_world(tmp_path, "database") as company:
        store = company.engine._parts.secrets
        (before,) = [one.audience for one in store.list() if one.ref == REF.text]
        moved = company.text.replace("  crm: {type: memory, ", f"  crm: {{type: locked, password: {REF}, ")
        assert moved != company.text
        add = SqlDefinitions.add

        def slowly(definitions: SqlDefinitions, *given: Any, **more: Any) -> None:
            monkeypatch.setattr(SqlDefinitions, "add", add)
            company.apply(lambda text: text.replace(*EDIT))
            add(definitions, *given, **more)

        monkeypatch.setattr(SqlDefinitions, "add", slowly)
        with pytest.raises(DefinitionOutdated, match="another definition was applied in this moment"):
            company.engine.apply(
                moved, source="mesh.yaml", base=None, replace=False, release=False, allow_audience=[REF.text]
            )
        assert [one.audience for one in store.list() if one.ref == REF.text] == [before]
