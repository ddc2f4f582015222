"""Search filters as text (RFC 4515)."""

from __future__ import annotations

from typing import Final

_SPECIAL: Final = frozenset(b"\\*()\0")


def escape(value: bytes) -> str:
    """A value inside a filter: special characters and what is not ASCII in hexadecimal (section 3)."""
    return "".join(chr(one) if 0x20 <= one < 0x7F and one not in _SPECIAL else f"\\{one:02x}" for one in value)


def equals(attribute: str, value: bytes) -> str:
    return f"({attribute}={escape(value)})"


def at_least(attribute: str, value: bytes) -> str:
    return f"({attribute}>={escape(value)})"


def both(one: str, other: str) -> str:
    return f"(&{one}{other})"
