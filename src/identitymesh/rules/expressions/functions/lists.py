"""Several values. A list of one value is that value, and an empty list is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from identitymesh.model.attributes import Scalar, Value, from_values
from identitymesh.rules.expressions.evaluation import equal
from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import ANY, BOOLEAN, INTEGER, NOTHING, TEXT


def counts_from_one(index: int) -> str:
    return "" if index >= 1 else "counts from 1"


def _list(*values: Sequence[Scalar]) -> Value | None:
    return from_values(list(chain.from_iterable(values)))


def _item(values: Sequence[Scalar], index: int) -> Value | None:
    return values[index - 1] if index <= len(values) else None


def _count(values: Sequence[Scalar]) -> int:
    return len(values)


def _contains(values: Sequence[Scalar], value: Scalar) -> bool:
    return any(equal(one, value) for one in values)


def _starts_with(texts: Sequence[str], prefix: str) -> bool:
    return any(text.startswith(prefix) for text in texts)


def _ends_with(texts: Sequence[str], suffix: str) -> bool:
    return any(text.endswith(suffix) for text in texts)


_ADDRESSES: Final[Mapping[str, Value]] = {"addresses": ["SMTP:ada@example.org", "smtp:al@example.org"]}

FUNCTIONS: Final = (
    Function(
        name="List",
        summary="All values of all arguments, in order.",
        parameters=(Parameter("value", ANY, many="whole", takes_absent=True, gives=True),),
        result=NOTHING,
        call=_list,
        repeats=1,
        notes="Absent arguments are left out.",
        examples=(
            Example('List("person", "inetOrgPerson")', {}, ["person", "inetOrgPerson"]),
            Example("List([phone], [mobile])", {"phone": ["1", "2"], "mobile": "3"}, ["1", "2", "3"]),
            Example("List([phone], [mobile])", {"mobile": "3"}, "3"),
            Example("List([phone], [mobile])", {}, None),
        ),
    ),
    Function(
        name="Item",
        summary="The value at a place, counted from 1; absent if there are fewer.",
        parameters=(
            Parameter("values", ANY, many="whole", gives=True),
            Parameter("index", INTEGER, complaint=counts_from_one),
        ),
        result=NOTHING,
        call=_item,
        notes="The order is the one in which the source gave the values; directories promise none.",
        examples=(
            Example("Item([phone], 2)", {"phone": ["1", "2"]}, "2"),
            Example("Item([phone], 1)", {"phone": "1"}, "1"),
            Example("Item([phone], 3)", {"phone": ["1", "2"]}, None),
        ),
    ),
    Function(
        name="Count",
        summary="The number of values; 0 if absent.",
        parameters=(Parameter("values", ANY, many="whole", takes_absent=True),),
        result=INTEGER,
        call=_count,
        examples=(
            Example("Count([phone])", {"phone": ["1", "2"]}, 2),
            Example("Count([phone])", {"phone": "1"}, 1),
            Example("Count([phone])", {}, 0),
        ),
    ),
    Function(
        name="Contains",
        summary="True if one of the values equals `value`, as with `==`.",
        parameters=(Parameter("values", ANY, many="whole"), Parameter("value", ANY)),
        result=BOOLEAN,
        call=_contains,
        notes='It compares whole values. For a part of a text use `InStr([title], "Manager") > 0`.',
        examples=(
            Example('Contains([groups], "staff")', {"groups": ["staff", "admins"]}, True),
            Example('Contains([groups], "admin")', {"groups": ["staff", "admins"]}, False),
            Example('Contains([groups], "staff")', {"groups": "staff"}, True),
            Example('Contains([groups], "staff")', {}, None),
        ),
    ),
    Function(
        name="StartsWith",
        summary="True if the text, or one of several, starts with `prefix`.",
        parameters=(Parameter("text", TEXT, many="whole"), Parameter("prefix", TEXT)),
        result=BOOLEAN,
        call=_starts_with,
        examples=(
            Example('StartsWith([id], "ext-")', {"id": "ext-77"}, True),
            Example('StartsWith([id], "ext-")', {"id": "EXT-77"}, False),
            Example('StartsWith([addresses], "SMTP:")', _ADDRESSES, True),
            Example('StartsWith([id], "ext-")', {}, None),
        ),
    ),
    Function(
        name="EndsWith",
        summary="True if the text, or one of several, ends with `suffix`.",
        parameters=(Parameter("text", TEXT, many="whole"), Parameter("suffix", TEXT)),
        result=BOOLEAN,
        call=_ends_with,
        examples=(
            Example('EndsWith(ToLower([mail]), "@example.org")', {"mail": "Ada@Example.org"}, True),
            Example('EndsWith([addresses], "@example.com")', _ADDRESSES, False),
        ),
    ),
)
