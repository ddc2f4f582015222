"""Values of database columns as attribute values. ``docs/formats/documents.md`` is the page for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final
from uuid import UUID

from identitymesh.connectors.contract import BadEntry, Entry
from identitymesh.model.attributes import Attributes, Scalar, Value, dump


class ValueUnknown(Exception):
    """A value of a type that has no translation."""


def moment(value: datetime) -> str:
    """RFC 3339 in UTC, ``2026-11-22T08:30:00Z``; a timestamp without a zone is taken as UTC."""
    utc = value.astimezone(UTC) if value.tzinfo is not None else value
    return utc.replace(tzinfo=None).isoformat() + "Z"


def duration(value: timedelta) -> str:
    """ISO 8601 in seconds, ``PT90S``, ``-PT0.5S``."""
    sign = "-" if value < timedelta(0) else ""
    seconds = abs(value)
    whole = seconds.days * 86400 + seconds.seconds
    fraction = f".{seconds.microseconds:06d}".rstrip("0") if seconds.microseconds else ""
    return f"{sign}PT{whole}{fraction}S"


def decimal(value: Decimal) -> str:
    """Plain digits with the scale of the column, never an exponent: ``10.50``."""
    return format(value, "f")


def _json(value: dict[str, Any]) -> str:
    return dump(value).decode()


_SCALARS: Final[dict[type, Callable[[Any], Scalar]]] = {
    datetime: moment,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: duration,
    Decimal: decimal,
    UUID: str,
    memoryview: bytes,
    bytearray: bytes,
    dict: _json,
    IPv4Address: str,
    IPv6Address: str,
    IPv4Interface: str,
    IPv6Interface: str,
    IPv4Network: str,
    IPv6Network: str,
}
_PLAIN: Final = frozenset({str, int, float, bool, bytes})


def translate(value: Any) -> Value | None:
    """One column of one row; ``None`` is absent.

    Raises:
        ValueUnknown: naming the type.
    """
    if value is None:
        return None
    kind = type(value)
    if kind in _PLAIN:
        plain: Scalar = value
        return plain
    if kind is list:
        return _several(value)
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    kind = type(value)
    if kind in _PLAIN:
        plain: Scalar = value
        return plain
    translator = _SCALARS.get(kind)
    if translator is None:
        raise ValueUnknown(kind.__name__)
    return translator(value)


def _several(items: list[Any]) -> Value | None:
    if any(isinstance(item, list) for item in items):
        raise ValueUnknown("array of arrays")
    values = [_scalar(item) for item in items if item is not None]
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def key_text(value: Any) -> str | None:
    """The key of a row as text; ``None`` if it has none.

    Raises:
        ValueUnknown: a key that has no one spelling as text (binary, floating point, array).
    """
    if value is None or isinstance(value, bytes | memoryview | float | list | dict):
        if value is None:
            return None
        raise ValueUnknown(type(value).__name__)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(_scalar(value)) or None


class RowReader:
    """Turns the rows of one result into entries.

    ``columns`` are the names in their order, ``key`` is one of them, ``names`` are the
    attributes wanted (none: all).
    """

    def __init__(self, columns: Sequence[str], key: str, names: Sequence[str] = ()) -> None:
        wanted = set(names)
        self._key = columns.index(key)
        self._columns = [(at, name) for at, name in enumerate(columns) if not wanted or name in wanted]

    def entry(self, row: Sequence[Any], number: int) -> Entry | BadEntry:
        """``number`` is the position of the row in its result, from 1."""
        try:
            key = key_text(row[self._key])
        except ValueUnknown as unknown:
            return BadEntry(f"the key is {unknown}; give it as text or as a whole number", None, f"row {number:,}")
        if key is None:
            return BadEntry("the key is empty", None, f"row {number:,}")
        attributes: Attributes = {}
        for at, name in self._columns:
            value = row[at]
            if value is None:
                continue
            if type(value) not in _PLAIN:
                try:
                    value = translate(value)
                except ValueUnknown as unknown:
                    return BadEntry(
                        f"column {name} has the type {unknown}, which is not supported", key, f"row {number:,}"
                    )
                if value is None:
                    continue
            attributes[name] = value
        return Entry(key, attributes)
