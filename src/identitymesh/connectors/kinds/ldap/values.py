"""Values of attributes: what the directory sends as bytes, and what rules see."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from identitymesh.connectors.kinds.ldap.subschema import AttributeType
from identitymesh.model.attributes import Scalar, Value, values_of

# RFC 4517 section 3.3.13: YYYYMMDDHH[MM[SS]][(.|,)fraction](Z|(+|-)HH[MM])
_TIME: Final = re.compile(rb"(\d{8})(\d{2})(\d{2})?(\d{2})?(?:[.,](\d+))?(Z|[+-]\d{2}(?:\d{2})?)\Z")
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?)?\Z")

Reader = Callable[[bytes], Scalar]


def reader(attribute: AttributeType) -> Reader | None:
    """Bytes to a value of this attribute; ``None`` for text, which callers decode themselves because it is most."""
    return _READERS.get(attribute.kind)


def read(values: Sequence[bytes], attribute: AttributeType) -> Value:
    """All values of one attribute; there is at least one.

    Raises:
        ValueError: text that is not UTF-8, or no value of the attribute's syntax.
    """
    convert = reader(attribute) or bytes.decode
    if len(values) == 1:
        return convert(values[0])
    return [convert(one) for one in values]


def write(value: Value | None, attribute: AttributeType) -> list[bytes]:
    """The bytes to send, in the order of the values."""
    if type(value) is str and attribute.kind != "datetime":
        return [value.encode()]  # nearly every attribute
    return [_write(one, attribute) for one in values_of(value)]


def _write(value: Scalar, attribute: AttributeType) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"TRUE" if value else b"FALSE"
    if isinstance(value, str):
        if attribute.kind == "datetime" and _MOMENT.match(value):
            return write_time(value)
        return value.encode()
    return str(value).encode()


def _boolean(value: bytes) -> bool:
    if value.upper() not in {b"TRUE", b"FALSE"}:
        raise ValueError("neither TRUE nor FALSE")
    return value.upper() == b"TRUE"


def read_time(value: bytes) -> str:
    """Generalized Time as RFC 3339 in UTC; what is none stays as it is."""
    found = _TIME.match(value)
    if found is None:
        return value.decode()
    day, hour, minute, second, fraction, zone = (part.decode() if part else "" for part in found.groups())
    try:
        moment = datetime.strptime(f"{day}{hour}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        if fraction:  # of the smallest unit that is given
            unit = 1 if second else 60 if minute else 3600
            moment += timedelta(seconds=float(f"0.{fraction}") * unit)
        if zone != "Z":
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5] or 0))
            moment -= offset if zone[0] == "+" else -offset
    except (ValueError, OverflowError):
        return value.decode()
    return moment.isoformat().replace("+00:00", "Z")


def write_time(text: str) -> bytes:
    """RFC 3339 (or a date alone, which is its midnight) as Generalized Time in UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    moment = moment.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y%m%d%H%M%S}{fraction}Z".encode()


_READERS: Final[dict[str, Reader]] = {
    "binary": bytes,
    "boolean": _boolean,
    "integer": int,
    "datetime": read_time,
}
