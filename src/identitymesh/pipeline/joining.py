"""Join: which identity an object belongs to.

Rules in order, on raw source values; the first that finds exactly one candidate
wins. Two candidates are ambiguous: nothing is joined. Nobody found: a new identity
if a rule says ``create`` and the person is present there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from identitymesh.rules.join import JoinPlan, JoinRule

Find = Callable[[str, str], Collection[int]]  # mesh attribute, text -> identities
Keys = Sequence[tuple[JoinRule, Sequence[str]]]  # what an object offers to each rule: :meth:`JoinPlan.keys`


@dataclass(frozen=True, slots=True)
class Joined:
    identity_id: int
    rule: str


@dataclass(frozen=True, slots=True)
class Created:
    """Nobody found, and ``rule`` creates."""

    rule: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    rule: str
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unjoined:
    """Nobody found, and no rule creates (or the source says that the person is not present)."""


Outcome = Joined | Created | Ambiguous | Unjoined


def join(keys: Keys, find: Find, *, holds: bool) -> Outcome:
    """Find the identity of an object that is joined to nobody. ``holds``: see :meth:`JoinPlan.holds`."""
    for rule, texts in keys:
        candidates = {identity for text in texts for identity in find(rule.target, text)}
        if len(candidates) == 1:
            return Joined(candidates.pop(), rule.name)
        if candidates:
            return Ambiguous(rule.name, tuple(sorted(candidates)))
    for rule, _ in keys:
        if rule.create and holds:
            return Created(rule.name)
    return Unjoined()


def still_linked(joined_by: str | None, plan: JoinPlan, renames: Mapping[str, str]) -> str | None:
    """Today's name of the rule that made a link, or ``None`` when it is gone and the link with it."""
    if joined_by is None:
        return None
    names = {rule.name for rule in plan.rules}
    if joined_by in names:
        return joined_by
    renamed = renames.get(joined_by)
    return renamed if renamed in names else None


def waiting_keys(keys: Keys) -> list[tuple[str, str]]:
    """(mesh attribute, text) pairs that, once an identity has them, are a reason to try this object again."""
    return list(dict.fromkeys([(rule.target, text) for rule, texts in keys for text in texts]))
