"""Plan and release: which targets may get their rows now, and which wait for a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from identitymesh.definition.changes import targets as targets_of
from identitymesh.definition.shape import LimitsShape
from identitymesh.runs.contract import UNDECIDED, KindCount, PlanStore, PlanTarget
from identitymesh.runs.definitions import Current
from identitymesh.runs.imports import Work
from identitymesh.runs.limits import exceeded, exempt
from identitymesh.runs.reports import TargetReport

MEMORY = timedelta(hours=24)


def make_plan(work: Work, plans: PlanStore, current: Current, cut_short: Mapping[str, str]) -> list[PlanTarget]:
    """Store the plan of this run and judge each target. ``cut_short``: targets whose import ended early, and why."""
    frozen = work.rules.frozen
    version = current.stored.version
    plans.create(work.run_id, version, frozen, work.lease)
    counts = plans.counts(work.run_id)
    gates = plans.gates()
    skipped = plans.frozen_rows(frozen)
    parked = plans.parked_rows()
    judged = []
    for connector in targets_of(current.definition):
        rows = counts.get(connector, {})
        if connector in cut_short:
            state, reasons = "incomplete", [cut_short[connector]]
        else:
            limits = current.definition.limits_of(connector)
            state, reasons = _judge(work, plans, limits, connector, rows, gate=gates.get(connector))
        if state == "empty" and connector in gates:
            plans.open_gate(connector, version, work.lease)  # the change concerned nobody there
        totals = {kind: count.total for kind, count in rows.items()}
        judged.append(
            PlanTarget(connector, state, totals, tuple(reasons), skipped.get(connector, 0), parked.get(connector, 0))
        )
    plans.put_targets(work.run_id, judged, work.lease)
    return judged


def _judge(
    work: Work,
    plans: PlanStore,
    limits: LimitsShape,
    connector: str,
    rows: Mapping[str, KindCount],
    *,
    gate: str | None,
) -> tuple[str, list[str]]:
    if not rows:
        return "empty", []
    fresh = sum(count.fresh for count in rows.values())
    reasons = []
    if gate is not None and fresh:
        reasons.append(f"first plan after a change: {gate}")
    since = work.clock() - MEMORY
    reasons += exceeded(limits, rows, plans.linked(connector), plans.released_since(connector, since))
    return ("held" if reasons else "ready"), reasons


def release(work: Work, plans: PlanStore, judged: Collection[PlanTarget]) -> None:
    """Let out what may go: of a held plan only the rows that were approved or let out before."""
    counts = plans.counts(work.run_id)
    for target in judged:
        if target.state not in UNDECIDED:
            continue
        rows = counts.get(target.connector, {})
        held = target.state == "held"
        linked = plans.linked(target.connector)
        counted = (
            {} if held else {kind: one.fresh for kind, one in rows.items() if one.fresh and not exempt(kind, linked)}
        )
        plans.release(work.run_id, target.connector, counted, covered_only=held, actor=work.actor, lease=work.lease)


def target_reports(plans: PlanStore, run_id: int) -> list[TargetReport]:
    """What was decided, as it stands now."""
    return [
        TargetReport(
            connector=one.connector,
            state=one.state,  # type: ignore[arg-type]  # stored by this package alone
            counts=one.counts,
            frozen=one.frozen,
            parked=one.parked,
            reasons=one.reasons,
            decided_by=one.decided_by,
            decided_at=one.decided_at,
        )
        for one in plans.targets(run_id)
    ]
