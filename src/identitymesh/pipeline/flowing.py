"""Flow: the values of an identity, from all the objects joined to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Scalar, Value, from_values, values_of
from identitymesh.model.identities import Held
from identitymesh.model.objects import StoredObject
from identitymesh.rules.flow import FlowRule
from identitymesh.rules.ruleset import MeshAttribute, RuleSet


class Candidate(NamedTuple):
    """A value that a rule offers for an attribute, from one object."""

    rule: FlowRule
    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """A rule that failed on one object; names the rule, never the value."""

    rule: FlowRule
    connector: str
    key: str
    message: str


def candidates(
    objects: Iterable[StoredObject], rules: RuleSet, type_name: str
) -> tuple[dict[str, list[Candidate]], list[RuleProblem]]:
    """Everything offered, for each attribute, the winner first."""
    attributes = rules.types[type_name].attributes
    offered: dict[str, list[Candidate]] = {}
    problems: list[RuleProblem] = []
    for stored in objects:
        connector, object_class, key = stored.id
        plan = rules.flows.get((connector, object_class))
        if plan is None:
            continue
        values, failures = plan.evaluate(stored.attributes)
        for index, message in failures:
            problems.append(RuleProblem(plan.rules[index], connector, key, message))
        for rule, value in zip(plan.rules, values, strict=True):
            target, fitting = rule.target, value
            # Text for an attribute of text, nearly every value of nearly everybody, fits as it is.
            if value is not None and (type(value) is not str or attributes[target].type != "string"):
                try:
                    fitting = fit(value, attributes[target])
                except EvaluationError as error:
                    problems.append(RuleProblem(rule, connector, key, str(error)))
                    continue
            if fitting is None:
                continue
            candidate = tuple.__new__(Candidate, (rule, key, fitting))  # what Candidate() does, in a third of the time
            if target in offered:
                offered[target].append(candidate)
            else:
                offered[target] = [candidate]
    _best_first(offered)
    return offered, problems


def _best_first(offered: Mapping[str, list[Candidate]]) -> None:
    for several in offered.values():
        if len(several) > 1:
            several.sort(key=lambda one: (one.rule.rank, one.key))


def flow(
    offered: Mapping[str, Sequence[Candidate]],
    before: Mapping[str, Held],
    now: str,
    failed: Sequence[RuleProblem] = (),
) -> dict[str, Held]:
    """The winners. ``since`` stays where value and origin stay; ``now`` is RFC 3339.

    A rule that failed says neither a value nor its absence: what it gave before stands, unless a better rule offers
    something.
    """
    values: dict[str, Held] = {}
    for name, several in offered.items():
        rule, key, value = several[0]
        origin = (value, rule.name, rule.connector, key, rule.confidence)
        earlier = before.get(name)
        # 1 and True are equal, and not one value.
        if earlier is not None and earlier[:-1] == origin and type(earlier[0]) is type(value):
            values[name] = earlier
        else:
            values[name] = tuple.__new__(Held, (*origin, now))
    for problem in failed:
        name = problem.rule.target
        earlier = before.get(name)
        if earlier is None or (earlier.rule, earlier.key) != (problem.rule.name, problem.key):
            continue
        if name not in offered or offered[name][0].rule.rank > problem.rule.rank:
            values[name] = earlier
    return values


def fit(value: Value, attribute: MeshAttribute) -> Value | None:
    """A value in the type that the mesh declares.

    Raises:
        EvaluationError: it does not fit; the message names types, not values.
    """
    if attribute.many:
        return from_values(list(dict.fromkeys(_fit_one(one, attribute) for one in values_of(value))))
    if isinstance(value, list):
        if len(value) != 1:
            raise EvaluationError(f"gives {len(value)} values to {attribute.name}, which has one")
        value = value[0]
    return _fit_one(value, attribute)


def _fit_one(value: Scalar, attribute: MeshAttribute) -> Scalar:
    fitting = _FITTING[attribute.type](value, attribute)
    if fitting is None:
        raise EvaluationError(f"gives {_name_of(value)} to {attribute.name}, which is {attribute.type}")
    return fitting


def _string(value: Scalar, _: MeshAttribute) -> Scalar | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _boolean(value: Scalar, _: MeshAttribute) -> Scalar | None:
    return value if isinstance(value, bool) else None


def _binary(value: Scalar, _: MeshAttribute) -> Scalar | None:
    return value if isinstance(value, bytes) else None


def _integer(value: Scalar, _: MeshAttribute) -> Scalar | None:
    if isinstance(value, str):
        return int(value) if _is_integer(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 18


def _moment(text: Scalar, attribute: MeshAttribute) -> Scalar | None:
    if not isinstance(text, str):
        return None
    try:
        if len(text) == len("2026-11-22"):
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EvaluationError(f"gives text that is no RFC 3339 date to {attribute.name}, which is datetime") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _decimal(value: Scalar, attribute: MeshAttribute) -> Scalar | None:
    if isinstance(value, (bool, bytes)):
        return None
    if isinstance(value, (bool, bytes)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise EvaluationError(f"gives text that is no number to {attribute.name}, which is decimal") from None
    if not number.is_finite():
        raise EvaluationError(f"gives a number that is not finite to {attribute.name}")
    return format(number, "f")


_FITTING: Mapping[str, Callable[[Scalar, MeshAttribute], Scalar | None]] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer,
    "binary": _binary,
    "datetime": _moment,
    "decimal": _decimal,
}


def _name_of(value: Scalar) -> str:
    names = {str: "text", bool: "a truth value", int: "an integer", float: "a number", bytes: "bytes"}
    return names[type(value)]
