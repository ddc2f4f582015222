"""The text form of a watermark: its type and its value, so that it comes back as what it was.

``timestamptz:2026-11-22T08:30:00.123456+00:00``, ``timestamp:2026-11-22T08:30:00.123456``,
``date:2026-11-22``, ``integer:42``, ``decimal:42.50``, ``real:0.5``, ``text:anything``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from identitymesh.errors import ConnectorMisconfigured

_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    datetime: lambda value: f"timestamp:{value.isoformat()}",
    date: lambda value: f"date:{value.isoformat()}",
    int: lambda value: f"integer:{value}",
    Decimal: lambda value: f"decimal:{value}",
    float: lambda value: f"real:{value!r}",
    str: lambda value: f"text:{value}",
}
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "timestamptz": datetime.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "integer": int,
    "decimal": Decimal,
    "real": float,
    "text": str,
}


def write_watermark(value: Any) -> str:
    """The text of a column's value.

    Raises:
        ConnectorMisconfigured: the column's type has no order that a delta read could use.
    """
    kind = type(value)
    if kind is datetime and value.tzinfo is not None:
        return f"timestamptz:{value.astimezone(UTC).isoformat()}"
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value)
    raise ConnectorMisconfigured(
        f"the watermark column has the type {kind.__name__}",
        hint="Choose a column with a timestamp, a date, a number or text that grows with every change.",
    )


def read_watermark(text: str, overlap: float = 0.0) -> Any:
    """The value to compare with, earlier by ``overlap``: seconds of a date, or so much of a number; text stays.

    Raises:
        ConnectorMisconfigured: not a watermark of this connector.
    """
    tag, _, rest = text.partition(":")
    reader = _READERS.get(tag)
    if reader is not None:
        try:
            value = reader(rest)
        except (ValueError, InvalidOperation):
            pass
        else:
            return _earlier(value, overlap) if overlap else value
    raise ConnectorMisconfigured(
        "the stored watermark is not one of an SQL connector", hint="Run a full import; it sets a new one."
    )


def _earlier(value: Any, overlap: float) -> Any:
    if isinstance(value, datetime):
        return value - timedelta(seconds=overlap)
    if isinstance(value, date):
        return value - timedelta(days=math.ceil(overlap / 86400))
    if isinstance(value, int):
        return value - math.ceil(overlap)
    return value if isinstance(value, str) else value - type(value)(overlap)
