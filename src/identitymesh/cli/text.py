"""Text that is safe to print: what comes from sources and targets may hold anything."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from identitymesh.model.attributes import Scalar, Value

# Control characters (C0, DEL, C1: all terminal escapes begin with one), what reorders or hides text, separators of
# lines, and halves of surrogate pairs. The joiners U+200C and U+200D stay: words of several languages need them.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
LONGEST_VALUE: Final = 100
_LOOKS_DIFFERENT: Final = re.compile(r"^(|true|false|absent|[\"\[(<].*|\s.*|.*\s|[+-]?[0-9.]+)$", re.DOTALL)


def clean(text: str) -> str:
    r"""The text with every character that a terminal would act on written as its number: ``\x1b``, ``\u202e``."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean_json(text: str) -> str:
    r"""The same for a JSON document: these characters stand in its strings alone, where JSON has ``\u`` for them."""
    return _UNSAFE.sub(lambda match: match.group() if match.group() == "\n" else json.dumps(match.group())[1:-1], text)


def columns_of(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows in columns as wide as their widest cell, two spaces between; nothing is wrapped or cut.

    ``right``: the columns that stand on the right side.
    """
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _cells(cell))
            padded.append(space + cell if number in right else cell + space)
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def _cells(text: str) -> int:
    """How wide a text is on a terminal: letters of East Asia take two cells, accents that follow a letter none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def show_value(value: Value | None) -> str:
    """One attribute value for a person: short, and never mistaken for something else."""
    if value is None:
        return "absent"
    if isinstance(value, list):
        return _shortened(f"[{', '.join(_show_scalar(item) for item in value)}]")
    return _shortened(_show_scalar(value))


def _show_scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, str):
        return clean(f'"{value}"' if _LOOKS_DIFFERENT.match(value) else value)
    return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text):,} characters)"


def count(number: int) -> str:
    """A number for a person: ``1,000``."""
    return f"{number:,}"


def plural(number: int, one: str, several: str | None = None) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def counts(numbers: Mapping[str, int]) -> str:
    """``1,000 created, 3 changed``; what is zero is left out."""
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)


def local_time(moment: datetime) -> str:
    """A moment for a person at this machine."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(moment: datetime) -> str:
    """A moment for programs: UTC, with Z. A time without zone is one of the database: UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
