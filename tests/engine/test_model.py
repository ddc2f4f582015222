"""Random edits at sources, definitions, kills, approvals and drops, against the plain model of `reference.py`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from identitymesh.errors import UsageError
from tests.chaos.invariants import check_marks

from .directory import Directory
from .reference import Reference, Source, Variant
from .stopping import Killing
from .world import World, target

SOAK = int(os.environ.get("TESTS_SOAK", "0"))
keys = st.sampled_from([f"p{number:02}" for number in range(14)])
lasts = st.sampled_from(["Lee", "Ito", "Okafor", "Müller"])
departments = st.sampled_from(["IT", "Sales"])
sources = st.sampled_from(["hr", "con"])
variants = st.builds(
    Variant,
    upper=st.booleans(),
    contractors_win=st.booleans(),
    everybody=st.booleans(),
    leave=st.sampled_from(["delete", "disable", "keep"]),
)
people = st.dictionaries(keys, st.tuples(lasts, departments), min_size=1, max_size=8)
# What happens at the sources before a run: a source, rows that are written there, and rows that go.
edits = st.lists(st.tuples(sources, people | st.just({}), st.just(set()) | st.sets(keys, max_size=7)), max_size=2)
Edits = list[tuple[str, dict[str, tuple[str, str]], set[str]]]


class Model(RuleBasedStateMachine):
    """Every rule does the same to the product and to the model; the targets are compared after each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="im-model-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        )
        self.world = World(self.folder)
        self.world.directories |= {"con": Directory(), "badge": Directory()}
        self.model = Reference()
        self.world.text = self.model.variant.text()
        self.world.apply()

    def teardown(self) -> None:
        self.world.database.close()
        shutil.rmtree(self.folder)

    def source(self, name: str) -> Source:
        found: Source = getattr(self.model, name)
        return found

    # -- sources -------------------------------------------------------------------

    @initialize(some=people, more=people)
    def begin(self, some: dict[str, tuple[str, str]], more: dict[str, tuple[str, str]]) -> None:
        """A company that has its accounts."""
        self.run([("hr", some | more, set())], delta=False)

    def edit(self, several: Edits) -> None:
        for name, written, removed in several:
            rows, objects = self.source(name).rows, self.world.directories[name].objects
            for key, (last, department) in written.items():
                rows[key] = {"id": key, "last": last, "department": department}
                objects[key] = dict(rows[key])
            for key in removed & set(rows):
                del rows[key], objects[key]

    # -- definitions ---------------------------------------------------------------

    @rule(variant=variants, release=st.sampled_from([False, False, True]))
    def define(self, variant: Variant, release: bool) -> None:
        if variant == self.model.variant:
            return
        gated = self.model.variant.gated_by(variant)
        self.model.define(variant, release=release)
        self.world.text = variant.text()
        report = self.world.apply(release=release)
        assert set(report.waiting) == (set() if release else gated)

    # -- runs ----------------------------------------------------------------------

    @rule(several=edits, delta=st.booleans())
    def plan(self, several: Edits, delta: bool) -> None:
        self.edit(several)
        self._planned(self.world.plan(delta=delta), full=not delta)

    @rule(several=edits, delta=st.booleans())
    def run(self, several: Edits, delta: bool) -> None:
        self.edit(several)
        report = self.world.run(delta=delta)
        self._planned(report, full=not delta)
        assert report.state in ("done", "held"), report
        self.model.released(self.model.plans[report.run_id])

    def _planned(self, report: Any, *, full: bool) -> None:
        self.model.imported(report.run_id, full=full)
        plan = self.model.planned(report.run_id)
        for name, changes in plan.changes.items():
            told = target(report, name)
            state = "ready" if told.state == "released" else told.state
            assert (state, sum(told.counts.values())) == (plan.states[name], len(changes)), name

    @rule(several=edits, step=st.integers(1, 300), delta=st.booleans())
    def kill(self, several: Edits, step: int, delta: bool) -> None:
        """At some statement; then somebody runs again, and it is as if nothing had been."""
        self.edit(several)
        Killing(self.world, step)(lambda: self.world.run(delta=delta))
        report = self.world.run(delta=delta)
        assert report.state in ("done", "held"), report
        assert not report.issues
        self.model.imported(report.run_id, full=not delta)
        self.model.released(self.model.planned(report.run_id))

    # -- decisions -----------------------------------------------------------------

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data())
    def approve(self, data: st.DataObject) -> None:
        run = self._some_plan(data)
        self.world.approve(run)
        self.model.approved(run)

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        run = self._some_plan(data)
        self.world.engine.drop(run, connectors=())
        self.model.dropped(run)

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data())
    def let_out(self, data: st.DataObject) -> None:
        """Exactly that plan; one that was made before the rules changed is refused."""
        run = self._some_plan(data)
        if self.model.plans[run].version < self.model.version:
            with pytest.raises(UsageError, match="before the rules changed"):
                self.world.release(run)
            return
        assert self.world.release(run).state == "done"
        self.model.let_out(run)

    def _some_plan(self, data: st.DataObject) -> int:
        """One of the newest: people decide on those."""
        return data.draw(st.sampled_from(sorted(self.model.plans)[-3:]))

    # -- what must hold ------------------------------------------------------------

    @invariant()
    def targets_hold_what_the_model_says(self) -> None:
        for name, written in self.model.written.items():
            assert self.world.directories[name].by("externalId") == written, name

    @invariant()
    def what_is_believed_is_so(self) -> None:
        with self.world.database.read() as connection:
            check_marks(connection)


Model.TestCase.settings = settings(
    max_examples=SOAK or 14,
    stateful_step_count=40 if SOAK else 15,
    deadline=None,
    derandomize=not SOAK,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if SOAK else [])],
    suppress_health_check=list(HealthCheck),
)
TestModel = Model.TestCase


def test_a_kill_leaves_what_was_committed_and_no_more(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.apply()
        world.hire_many(5)
        killed = 0
        while Killing(world, 20 * (killed + 1))(world.run):
            killed += 1
            assert world.engine.runs(1)[0].state == "running", "nobody recorded an end"
        assert killed > 3
        assert len(world.accounts()) == 5
        assert world.run().row_count == 0
