"""The language once more, the slow way: a walk over the tree. It shares nothing with the compiler but the records."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from identitymesh.model.attributes import Scalar, Value
from identitymesh.rules.expressions import Calendar
from identitymesh.rules.expressions.function import TEXT_LIMIT, Function
from identitymesh.rules.expressions.kinds import kind_of
from identitymesh.rules.expressions.tree import And, Attribute, Call, Comparison, Constant, Negative, Node, Not, Or

Values = Mapping[str, Value]
CALENDAR = Calendar(datetime(2026, 11, 22, 8, 30, tzinfo=UTC))


class Failed(Exception):
    """The expression has no result for these values."""


def evaluate(node: Node, values: Values, functions: Mapping[str, Function]) -> Value | None:  # noqa: PLR0911
    def of(one: Node) -> Value | None:
        return evaluate(one, values, functions)

    match node:
        case Constant():
            return node.value
        case Attribute():
            return one_or_many(as_list(values.get(node.name)))
        case Negative():
            return minus(of(node.operand))
        case Not():
            operand = of(node.operand)
            return None if operand is None else not holds(operand)
        case And():
            return all(holds(of(one)) for one in node.operands)
        case Or():
            return any(holds(of(one)) for one in node.operands)
        case Comparison():
            return compare(node, of(node.left), of(node.right))
        case Call():
            return call(node, functions[node.function], values, functions)


def as_list(value: Value | None) -> list[Scalar]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def one_or_many(values: Sequence[Scalar]) -> Value | None:
    if len(values) < 2:
        return values[0] if values else None
    return list(values)


def holds(value: Value | None) -> bool:
    if value is None or isinstance(value, bool):
        return value is True
    raise Failed


def minus(value: Value | None) -> Value | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Failed
    return -value


def compare(node: Comparison, left: Value | None, right: Value | None) -> bool:
    nulls = [side for side in (node.left, node.right) if isinstance(side, Constant) and side.value is None]
    if nulls and node.operator in {"==", "!="}:
        return (left is None and right is None) == (node.operator == "==")
    if left is None or right is None:
        return False
    if node.operator == "==":
        return equal(left, right)
    if node.operator == "!=":
        return not equal(left, right)
    return in_order(node.operator, left, right)


def equal(left: Value, right: Value) -> bool:
    ours, theirs = as_list(left), list(as_list(right))
    for one in ours:
        found = next((index for index, other in enumerate(theirs) if equal_scalars(one, other)), None)
        if found is None:
            return False
        del theirs[found]
    return not theirs


def equal_scalars(left: Scalar, right: Scalar) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def in_order(operator: str, left: Value, right: Value) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise Failed
    outcome = (left > right) - (left < right)  # type: ignore[operator]
    return {"<": outcome < 0, "<=": outcome <= 0, ">": outcome > 0, ">=": outcome >= 0}[operator]


def call(node: Call, function: Function, values: Values, functions: Mapping[str, Function]) -> Value | None:
    def of(one: Node) -> Value | None:
        return evaluate(one, values, functions)

    if function.form == "iif":
        return of(node.arguments[1] if holds(of(node.arguments[0])) else node.arguments[2])
    if function.form == "free":
        return of(node.arguments[0])
    if function.form == "coalesce":
        return next((value for one in node.arguments if (value := of(one)) is not None), None)
    if function.form == "switch":
        subject = of(node.arguments[0])
        for key, chosen in zip(node.arguments[2::2], node.arguments[3::2], strict=True):
            if compare(Comparison("==", node.arguments[0], key), subject, of(key)):
                return of(chosen)
        return of(node.arguments[1])
    return apply(function, [of(argument) for argument in node.arguments])


def apply(function: Function, arguments: Sequence[Value | None]) -> Value | None:
    parameters = [function.parameter(index) for index in range(len(arguments))]
    pairs = list(zip(parameters, arguments, strict=True))
    if any(argument is None and not parameter.takes_absent for parameter, argument in pairs):
        return None
    rows: list[list[Value | None]] = [[]]
    for parameter, argument in pairs:
        every = as_list(argument)
        wrong = [one for one in every if kind_of(one) not in parameter.kinds]
        if wrong or (parameter.many == "one" and len(every) > 1):
            raise Failed
        if parameter.complaint and any(map(parameter.complaint, every)):
            raise Failed
        if parameter.many == "whole":
            rows = [[*row, every] for row in rows]
        else:
            rows = [[*row, one] for row in rows for one in every or [None]]  # type: ignore[list-item]
    assert function.call is not None
    first = [CALENDAR] if function.calendar else []
    results = [function.call(*first, *row) for row in rows]
    if function.grows and any(isinstance(one, str) and len(one) > TEXT_LIMIT for one in results):
        raise Failed
    return one_or_many([one for result in results for one in as_list(result)])
