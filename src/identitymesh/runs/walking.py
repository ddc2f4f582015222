"""One person's whole walk: objects, join, values with what lost, accounts, and what the plan does with each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from identitymesh.model.objects import StoredObject
from identitymesh.runs.contract import PlannedRow
from identitymesh.runs.reports import ExplainedAccount, Explanation, LooseObject, Step, TargetReport, Walk


def walk(
    subject: str,
    explanation: Explanation | None,
    alone: Sequence[StoredObject],
    rows: Collection[PlannedRow],
    targets: Sequence[TargetReport],
) -> Walk:
    """``rows``: those of the plan that concern the person; ``alone``: objects of that name that belong to nobody."""
    loose = [LooseObject(one.id.connector, one.id.object, one.id.key, one.state, one.due) for one in alone]
    if explanation is None:
        return Walk(subject, None, loose, ())
    planned = {(row.connector, row.object) for row in rows}
    states = {one.connector: one for one in targets}
    steps = [_step(one, planned, states.get(one.connector), frozen=explanation.frozen) for one in explanation.accounts]
    return Walk(subject, explanation, loose, steps)


def _step(
    account: ExplainedAccount, planned: Collection[tuple[str, str]], target: TargetReport | None, *, frozen: bool
) -> Step:
    place = (account.connector, account.object)
    if account.state.startswith("parked"):
        return Step(*place, "parked", account.state.removeprefix("parked: "))
    if not account.differences and place not in planned:
        return Step(*place, "nothing to do", account.state)
    if frozen:
        return Step(*place, "skip", "frozen: no run writes to this person's accounts")
    if target is not None and target.state in ("held", "incomplete"):
        return Step(*place, "hold", "; ".join(target.reasons))
    return Step(*place, "change", account.state)
