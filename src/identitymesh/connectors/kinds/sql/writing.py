"""Attribute values as values of columns. ``docs/formats/documents.md`` is the page for people."""

from __future__ import annotations

from typing import Any, Final

from identitymesh.connectors.contract import AttributeInfo
from identitymesh.errors import ObjectRefused
from identitymesh.model.attributes import Scalar, Value, values_of

_INTEGERS: Final = (-(2**63), 2**63 - 1)


def bound(value: Value | None, column: AttributeInfo, *, sqlite: bool) -> Any:
    """What is given to the driver for this column; ``None`` is NULL.

    PostgreSQL reads text without a type as one of the column's type, whatever that is, and says so if it cannot.

    Raises:
        ObjectRefused: the column cannot have this value.
    """
    if value is None:
        return None
    if column.many and not sqlite:
        return _array(values_of(value))
    if isinstance(value, list):
        raise ObjectRefused(f"column {column.name} takes one value; there are {len(value):,}")
    if sqlite:
        return _in_sqlite(value, column)
    if isinstance(value, bytes) and column.type != "binary":  # PostgreSQL would store their hexadecimal digits
        raise ObjectRefused(f"column {column.name} takes no bytes")
    return _in_postgres(value)


def _in_postgres(value: Scalar) -> Any:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _in_sqlite(value: Scalar, column: AttributeInfo) -> Any:
    if isinstance(value, bool):
        return ("true" if value else "false") if column.type == "string" else int(value)
    if isinstance(value, int) and not _INTEGERS[0] <= value <= _INTEGERS[1]:
        raise ObjectRefused(f"column {column.name} takes integers of 64 bits; this one is larger")
    return value


def _array(values: list[Scalar]) -> str:
    """An array literal, PostgreSQL documentation section 8.15.6: every element in quotes."""
    if any(isinstance(value, bytes) for value in values):
        return "{" + ",".join(rf'"\\x{value.hex()}"' for value in values if isinstance(value, bytes)) + "}"
    texts = [str(_in_postgres(value)).replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"
