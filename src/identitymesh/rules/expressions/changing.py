"""When the answer of an expression about today can be another one although nothing changes at any source.

An expression whose every Today() and Now() stands on one side of a comparison, the other side being fixed for a
person, changes its answer only where such a comparison does, and each does so once: dates grow, and so does what
DateAdd, DateDiff and ParseDate make of them. That instant is searched for. Of any other expression nothing is known,
so it is evaluated anew each day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Value
from identitymesh.rules.expressions.calendar import Calendar
from identitymesh.rules.expressions.checker import Checked, check
from identitymesh.rules.expressions.compiler import RuleFunction, compile_one
from identitymesh.rules.expressions.tree import Call, Comparison, Constant, Node, children, write

HORIZON: Final = date(2400, 1, 1)  # what lies behind it never comes
REMEMBERED: Final = 10_000
_TIMES: Final = {"Today", "Now"}

Attributes = Mapping[str, Value]


@dataclass(slots=True)
class Changing:
    """The expressions of one rule set that are evaluated together. ``next`` says when they must be looked at again."""

    steps: Sequence[_Step]
    daily: bool
    calendar: Calendar

    def next(self, attributes: Attributes) -> datetime | None:
        """The first instant after the calendar's at which an answer for these attributes can change."""
        found = [self.calendar.next_midnight()] if self.daily else []
        found += [moment for step in self.steps if (moment := step.next(attributes)) is not None]
        return min(found, default=None)


def changing(several: Iterable[Checked], calendar: Calendar) -> Changing | None:
    """What can change with time in these expressions; ``None``: nothing."""
    steps: dict[str, _Step] = {}
    daily = False
    for checked in several:
        if not checked.volatile:
            continue
        comparisons = _comparisons(checked.tree)
        if comparisons is None:
            daily = True
            continue
        for one in comparisons:
            steps.setdefault(write(one), _step(one, calendar))
    return Changing(tuple(steps.values()), daily, calendar) if steps or daily else None


@dataclass(slots=True)
class _Step:
    """One comparison with a time, compiled for now, for the horizon, and for any instant between them."""

    names: Sequence[str]
    now: RuleFunction
    then: RuleFunction
    at_probe: RuleFunction
    probe: Calendar
    calendar: Calendar
    by_day: bool
    known: dict[tuple[object, ...], datetime | None] = field(default_factory=dict)

    def next(self, attributes: Attributes) -> datetime | None:
        values = (attributes.get(name) for name in self.names)
        key = tuple(tuple(one) if isinstance(one, list) else one for one in values)
        if key not in self.known:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            self.known[key] = self._search(attributes)
        return self.known[key]

    def _search(self, attributes: Attributes) -> datetime | None:
        try:
            before = self.now(attributes)
            if self.then(attributes) == before:
                return None
            return self._first_day(attributes, before) if self.by_day else self._first_second(attributes, before)
        except EvaluationError:
            return None  # what cannot be compared today cannot be tomorrow: its form is wrong

    def _first_day(self, attributes: Attributes, before: Value | None) -> datetime:
        today = self.calendar.now.astimezone(self.calendar.zone).date().toordinal()

        def other(day: int) -> bool:
            self.probe.today = date.fromordinal(day).isoformat()
            return self.at_probe(attributes) != before

        return self.calendar.start_of(date.fromordinal(_first(other, today, HORIZON.toordinal())))

    def _first_second(self, attributes: Attributes, before: Value | None) -> datetime:
        now = self.calendar.now.replace(microsecond=0)

        def other(seconds: int) -> bool:
            self.probe.move(now + timedelta(seconds=seconds))
            return self.at_probe(attributes) != before

        return now + timedelta(seconds=_first(other, 0, (_horizon() - now) // timedelta(seconds=1)))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first number above ``low`` of which something holds that holds of ``high``, and not of ``low``."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _horizon() -> datetime:
    return datetime(HORIZON.year, HORIZON.month, HORIZON.day, tzinfo=UTC)


def _step(node: Comparison, calendar: Calendar) -> _Step:
    checked = check(write(node), names=None)
    probe = Calendar(calendar.now, calendar.zone)
    return _Step(
        names=tuple(sorted(checked.attributes)),
        now=compile_one(checked, calendar),
        then=compile_one(checked, Calendar(_horizon(), calendar.zone)),
        at_probe=compile_one(checked, probe),
        probe=probe,
        calendar=calendar,
        by_day="Now" not in checked.functions,
    )


def _comparisons(node: Node) -> list[Comparison] | None:
    """The comparisons on which alone the answer of a node depends over time; ``None``: on something else."""
    if not _volatile(node):
        return []
    if isinstance(node, Comparison):
        return _split(node)
    if isinstance(node, Call) and node.function in _TIMES:
        return None
    found: list[Comparison] = []
    for child in children(node):
        inner = _comparisons(child)
        if inner is None:
            return None
        found += inner
    return found


def _split(node: Comparison) -> list[Comparison] | None:
    """An equality holds for a while: it is where `<=` and `>=` both do."""
    sides = (node.left, node.right)
    fixed = [side for side in sides if not _volatile(side)]
    moving = [side for side in sides if _volatile(side)]
    if len(moving) != 1 or not _grows(moving[0]) or (isinstance(fixed[0], Constant) and fixed[0].value is None):
        return None
    if node.operator in ("==", "!="):
        return [replace(node, operator="<="), replace(node, operator=">=")]
    return [node]


def _grows(node: Node) -> bool:
    """Whether this goes one way only as time passes."""
    if not isinstance(node, Call):
        return False
    if node.function in _TIMES:
        return True
    arguments = node.arguments
    moving = [index for index, one in enumerate(arguments) if _volatile(one)]
    if len(moving) != 1 or not _grows(arguments[moving[0]]):
        return False
    if node.function == "ParseDate":
        return len(arguments) == 1
    return (node.function == "DateAdd" and moving == [2]) or (node.function == "DateDiff" and moving[0] > 0)


def _volatile(node: Node) -> bool:
    if isinstance(node, Call) and node.function in _TIMES:
        return True
    return any(map(_volatile, children(node)))
