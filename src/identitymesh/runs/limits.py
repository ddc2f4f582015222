"""Limits: how much a plan may do to one target before a person has looked at it."""

from __future__ import annotations

from collections.abc import Mapping

from identitymesh.definition.shape import LimitsShape
from identitymesh.model.accounts import KINDS
from identitymesh.runs.contract import KindCount

SMALL = 2  # this few are never held by a percentage


def exceeded(
    limits: LimitsShape, counts: Mapping[str, KindCount], linked: int, released: Mapping[str, int]
) -> list[str]:
    """Reasons to hold, in words; none means that the rows may go.

    ``linked`` is how many objects are linked at the target, ``released`` what went out without
    approval in the last 24 hours. Creates into an empty target are not held.
    """
    reasons = []
    for kind in KINDS:
        fresh = counts[kind].fresh if kind in counts else 0
        if fresh == 0 or exempt(kind, linked):
            continue
        limit = getattr(limits, kind)
        total = fresh + released.get(kind, 0)
        before = f" (with {released[kind]:,} in the last 24 hours)" if released.get(kind) else ""
        if limit.count is not None and total > limit.count:
            reasons.append(f"{total:,} {kind}s{before}, more than {limit.count:,}")
        elif limit.percent is not None and total > SMALL and total * 100 > limit.percent * linked:
            reasons.append(f"{total:,} {kind}s{before}, more than {limit.percent:g} % of {linked:,} linked objects")
    return reasons


def exempt(kind: str, linked: int) -> bool:
    """Creates into an empty target are neither held nor counted."""
    return kind == "create" and linked == 0
