"""The kinds of values, as rule authors know them.

A set of kinds says what a value may be: `{"text"}` for certain, `ANY` for unknown, the empty set for `null`. It speaks
of each single value; whether there are none, one or several of them is never part of a kind.
"""

from __future__ import annotations

from typing import Final, Literal

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Scalar

Kind = Literal["text", "integer", "decimal", "boolean", "bytes"]
Kinds = frozenset[Kind]

TEXT: Final[Kinds] = frozenset({"text"})
INTEGER: Final[Kinds] = frozenset({"integer"})
NUMBER: Final[Kinds] = frozenset({"integer", "decimal"})
BOOLEAN: Final[Kinds] = frozenset({"boolean"})
TEXT_OR_INTEGER: Final[Kinds] = frozenset({"text", "integer"})
ANY: Final[Kinds] = frozenset({"text", "integer", "decimal", "boolean", "bytes"})
NOTHING: Final[Kinds] = frozenset()

INTEGER_LIMIT: Final = 2**63  # what databases, directories and JSON documents can all hold

_BY_TYPE: Final[dict[type, Kind]] = {str: "text", int: "integer", float: "decimal", bool: "boolean", bytes: "bytes"}
_ORDER: Final[tuple[Kind, ...]] = ("text", "integer", "decimal", "boolean", "bytes")


def kind_of(value: Scalar | None) -> Kind:
    """The kind of one value; True is a boolean and not an integer."""
    kind = _BY_TYPE.get(type(value))
    if kind is None:
        raise EvaluationError(f"a value of type {type(value).__name__} is none that expressions know")
    return kind


def name_of(kinds: Kinds) -> str:
    """One word for a set of kinds: `text`, `number`, `text or integer`, `any`, and `null` for the empty set."""
    if not kinds:
        return "null"
    if kinds == ANY:
        return "any"
    if kinds == NUMBER:
        return "number"
    return " or ".join(kind for kind in _ORDER if kind in kinds)


def comparable(left: Kinds, right: Kinds) -> bool:
    """Whether values of these kinds can ever be equal. Integers and decimals compare as numbers."""
    if not left or not right:
        return True
    return bool(left & right) or bool(left & NUMBER and right & NUMBER)
