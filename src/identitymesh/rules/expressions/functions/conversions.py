"""From one kind of value to another."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Scalar
from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import ANY, BOOLEAN, INTEGER, INTEGER_LIMIT, TEXT, Kinds

Number = int | float

_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NO_BYTES: Final[Kinds] = ANY - {"bytes"}


def _to_text(value: Scalar) -> str:
    if isinstance(value, float):
        # Without an exponent, and without the point of a whole number.
        digits = format(Decimal(repr(value)), "f")
        return digits.removesuffix(".0")
    return str(value)


def _to_integer(value: str | Number) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise EvaluationError("ToInteger: the text is no integer of at most 19 digits")
    elif isinstance(value, float) and not value.is_integer():
        raise EvaluationError("ToInteger: the number has a fraction")
    number = int(value)
    if not -INTEGER_LIMIT <= number < INTEGER_LIMIT:
        raise EvaluationError("ToInteger: the integer has more than 64 bits")
    return number


def _to_boolean(value: Scalar) -> bool:
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise EvaluationError("ToBoolean: the value is none of true, yes, 1, false, no, 0")
    return found


FUNCTIONS: Final = (
    Function(
        name="ToText",
        summary="A number or boolean as text; CStr of Entra and MIM.",
        parameters=(Parameter("value", _NO_BYTES, many="each"),),
        result=TEXT,
        call=_to_text,
        notes="Booleans become `True` and `False`.",
        examples=(
            Example('Concat("E", ToText([number]))', {"number": 4711}, "E4711"),
            Example("ToText([active])", {"active": True}, "True"),
            Example("ToText([share])", {"share": 0.5}, "0.5"),
            Example("ToText([share])", {"share": 2.0}, "2"),
            Example("ToText([number])", {"number": [1, 2]}, ["1", "2"]),
        ),
    ),
    Function(
        name="ToInteger",
        summary="A text or a number without fraction as integer; CNum of Entra and MIM.",
        parameters=(Parameter("value", _NO_BYTES - BOOLEAN, many="each"),),
        result=INTEGER,
        call=_to_integer,
        notes="Space around the digits is ignored. Anything else is an error, as is more than 64 bits.",
        examples=(
            Example("ToInteger([level])", {"level": " 007 "}, 7),
            Example("ToInteger([level]) >= 3", {"level": "12"}, True),
            Example("ToInteger([level])", {"level": -3.0}, -3),
        ),
    ),
    Function(
        name="ToBoolean",
        summary="`true`, `yes`, `1` and `false`, `no`, `0`, in any case, as boolean; CBool of Entra and MIM.",
        parameters=(Parameter("value", TEXT | INTEGER | BOOLEAN, many="each"),),
        result=BOOLEAN,
        call=_to_boolean,
        notes="Anything else, the empty text too, is an error.",
        examples=(
            Example("ToBoolean([active])", {"active": "TRUE"}, True),
            Example("ToBoolean([active])", {"active": "0"}, False),
            Example("ToBoolean([active])", {"active": 1}, True),
            Example("ToBoolean([active])", {}, None),
        ),
    ),
)
