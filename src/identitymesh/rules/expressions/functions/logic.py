"""Conditions and choices. Those with a form of their own are written out by the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from identitymesh.model.attributes import Scalar
from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import ANY, BOOLEAN, NOTHING


def _is_present(values: Sequence[Scalar]) -> bool:
    return bool(values)


def _is_absent(values: Sequence[Scalar]) -> bool:
    return not values


def _is_null_or_empty(values: Sequence[Scalar]) -> bool:
    return not values or (len(values) == 1 and values[0] == "")


def _inline_is_present(operands: Sequence[str]) -> str:
    return f"{operands[0]} is not None"


def _inline_is_absent(operands: Sequence[str]) -> str:
    return f"{operands[0]} is None"


_VALUE: Final = (Parameter("value", ANY, many="whole", takes_absent=True),)

FUNCTIONS: Final = (
    Function(
        name="IIF",
        summary="One of two values: `whenTrue` if the condition is True, otherwise `whenFalse`.",
        parameters=(
            Parameter("condition", BOOLEAN, takes_absent=True),
            Parameter("whenTrue", ANY, many="whole", takes_absent=True, gives=True),
            Parameter("whenFalse", ANY, many="whole", takes_absent=True, gives=True),
        ),
        result=NOTHING,
        form="iif",
        notes="A condition that is absent counts as not true. Only the value that is chosen is evaluated.",
        examples=(
            Example('IIF([type] == "E", "Employee", "External")', {"type": "E"}, "Employee"),
            Example('IIF([type] == "E", "Employee", "External")', {}, "External"),
            Example("IIF([active], [mail], null)", {"active": False, "mail": "ada@example.org"}, None),
        ),
    ),
    Function(
        name="Switch",
        summary="The value after the first key that equals `value`, or `default` if none does.",
        parameters=(
            Parameter("value", ANY, many="whole", takes_absent=True),
            Parameter("default", ANY, many="whole", takes_absent=True, gives=True),
            Parameter("key1", ANY, many="whole", takes_absent=True),
            Parameter("value1", ANY, many="whole", takes_absent=True, gives=True),
        ),
        result=NOTHING,
        form="switch",
        repeats=2,
        notes="Keys are compared as with `==`, so an absent value has the default, unless a key is `null`. "
        "Only the value that is chosen is evaluated.",
        examples=(
            Example('Switch([country], "Other", "DE", "Germany", "FR", "France")', {"country": "FR"}, "France"),
            Example('Switch([country], "Other", "DE", "Germany", "FR", "France")', {"country": "fr"}, "Other"),
            Example('Switch([country], "Other", "DE", "Germany", null, "Unknown")', {}, "Unknown"),
            Example('Switch([level], [title], 1, "Chief", 2, Concat("Deputy ", [title]))', {"level": 1}, "Chief"),
        ),
    ),
    Function(
        name="Coalesce",
        summary="The first of the values that is there.",
        parameters=(Parameter("value", ANY, many="whole", takes_absent=True, gives=True),),
        result=NOTHING,
        form="coalesce",
        repeats=1,
        notes="The empty text is there. Values after the first one are not evaluated.",
        examples=(
            Example("Coalesce([mail], [upn])", {"upn": "ada@example.org"}, "ada@example.org"),
            Example('Coalesce([department], "")', {}, ""),
            Example("Coalesce([mail], [upn])", {"mail": "", "upn": "ada@example.org"}, ""),
            Example("Coalesce([mail], [upn])", {}, None),
        ),
    ),
    Function(
        name="IsPresent",
        summary="True if there is a value. The empty text is a value.",
        parameters=_VALUE,
        result=BOOLEAN,
        call=_is_present,
        inline=_inline_is_present,
        notes="Entra and MIM count the empty text as not present; here that is `not IsNullOrEmpty(value)`.",
        examples=(
            Example("IsPresent([mail])", {"mail": "ada@example.org"}, True),
            Example("IsPresent([mail])", {"mail": ""}, True),
            Example("IsPresent([mail])", {}, False),
        ),
    ),
    Function(
        name="IsAbsent",
        summary="True if there is no value; the same as `value == null`.",
        parameters=_VALUE,
        result=BOOLEAN,
        call=_is_absent,
        inline=_inline_is_absent,
        examples=(Example("IsAbsent([mail])", {}, True), Example("IsAbsent([mail])", {"mail": ""}, False)),
    ),
    Function(
        name="IsNullOrEmpty",
        summary="True if there is no value, or only the empty text.",
        parameters=_VALUE,
        result=BOOLEAN,
        call=_is_null_or_empty,
        examples=(
            Example("IsNullOrEmpty([mail])", {}, True),
            Example("IsNullOrEmpty([mail])", {"mail": ""}, True),
            Example("IsNullOrEmpty([mail])", {"mail": " "}, False),
        ),
    ),
)
