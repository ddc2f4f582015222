"""What compiled expressions call while they run: comparisons, conditions, and functions on values of any kind.

The generated code does the common cases itself and comes here for the rest. All values are in the form that
`model.attributes.from_values` gives: absent is None, and a list has at least two values. Messages of errors name
functions, parameters and kinds, never a value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Scalar, Value, from_values, values_of
from identitymesh.rules.expressions.function import TEXT_LIMIT, Function, Parameter
from identitymesh.rules.expressions.kinds import INTEGER_LIMIT, NUMBER, TEXT, Kind, kind_of, name_of

_ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def equal(left: Value | None, right: Value | None) -> bool:
    """`==`. Absent equals nothing; several values are equal in any order; numbers are equal as numbers."""
    if left is None or right is None:
        return False
    if isinstance(left, list) or isinstance(right, list):
        return sorted(map(_key, values_of(left))) == sorted(map(_key, values_of(right)))
    return _key(left) == _key(right)


def unequal(left: Value | None, right: Value | None) -> bool:
    """`!=`: both are there, and they are not equal."""
    return left is not None and right is not None and not equal(left, right)


def _key(value: Scalar) -> tuple[str, Scalar]:
    kind = kind_of(value)
    return "number" if kind in NUMBER else kind, value


def ordered(comparison: str, left: Value | None, right: Value | None) -> bool:
    """`<`, `<=`, `>`, `>=` between two numbers or two texts. False when either is absent.

    Raises:
        EvaluationError: several values, or kinds that have no order.
    """
    if left is None or right is None:
        return False
    if isinstance(left, list) or isinstance(right, list):
        raise EvaluationError(f"{comparison} compares one value with one, several found")
    kinds: set[Kind] = {kind_of(left), kind_of(right)}
    if not (kinds <= TEXT or kinds <= NUMBER):
        found = f"{kind_of(left)} and {kind_of(right)}"
        raise EvaluationError(f"{comparison} compares two numbers or two texts, {found} found")
    return _ORDERINGS[comparison](left, right)


def truth(where: str, value: Value | None) -> bool:
    """A value as a condition: True is true; False and absent are not.

    Raises:
        EvaluationError: anything else; ``where`` says who asked.
    """
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    raise EvaluationError(f"{where} needs True or False, {_found(value)} found")


def inverted(value: Value | None) -> bool | None:
    """`not`; of absent it is absent."""
    return None if value is None else not truth("not", value)


def negative(value: Value | None) -> int | float | None:
    """Unary minus, of one number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationError(f"- needs a number, {_found(value)} found")
    if value == -INTEGER_LIMIT:
        raise EvaluationError("- gives an integer of more than 64 bits")
    return -value


def too_long(function: str) -> NoReturn:
    raise EvaluationError(f"{function} gives a text of more than {TEXT_LIMIT} characters")


def _found(value: Value) -> str:
    return "several values" if isinstance(value, list) else kind_of(value)


def called(function: Function, count: int) -> Callable[..., Value | None]:
    """A function of the catalogue as a Python function of ``count`` arguments of any kind, which checks them.

    All arguments are there already; an absent one that is not asked for makes the result absent.

    Raises:
        EvaluationError: by the function returned, for an argument of a wrong kind or a result that is too long.
    """
    parameters = [function.parameter(index) for index in range(count)]
    call = function.call
    assert call is not None, f"{function.name} has a form of its own"  # noqa: S101
    needed = [index for index, parameter in enumerate(parameters) if not parameter.takes_absent]
    each = next((index for index, parameter in enumerate(parameters) if parameter.many == "each"), None)

    def checked(*arguments: Value | None) -> Value | None:
        for index in needed:
            if arguments[index] is None:
                return None
        bound = [_bound(function, *pair) for pair in zip(parameters, arguments, strict=True)]
        if each is None or not isinstance(values := bound[each], list):
            return _short_enough(function, call(*bound))
        results = [_short_enough(function, call(*bound[:each], value, *bound[each + 1 :])) for value in values]
        return from_values([one for result in results for one in values_of(result)])

    return checked


def _bound(function: Function, parameter: Parameter, argument: Value | None) -> Value | None:
    """An argument as its parameter wants it."""
    if isinstance(argument, list):
        if parameter.many == "one":
            raise EvaluationError(f"{function.name} takes one value as {parameter.name}, several found")
        _check(function, parameter, argument)
        return argument
    values = values_of(argument)
    _check(function, parameter, values)
    return values if parameter.many == "whole" else argument


def _check(function: Function, parameter: Parameter, values: Sequence[Scalar]) -> None:
    for value in values:
        if (kind := kind_of(value)) not in parameter.kinds:
            wanted = name_of(parameter.kinds)
            raise EvaluationError(f"{function.name} takes {wanted} as {parameter.name}, {kind} found")
        if parameter.complaint is not None and (complaint := parameter.complaint(value)):
            raise EvaluationError(f"{function.name}: {parameter.name} {complaint}")


def _short_enough(function: Function, result: Value | None) -> Value | None:
    if function.grows and isinstance(result, str) and len(result) > TEXT_LIMIT:
        too_long(function.name)
    return result
