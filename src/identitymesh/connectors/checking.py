"""What a connector may yield: the checks between a foreign system and the product.

An entry that breaks a rule becomes a :class:`BadEntry` of the same page, with a reason
in words that names the attribute and never shows its value. The rules are those of the
tables that entries end up in: text without NUL, integers of 64 bits, bounded sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from identitymesh.connectors.contract import BadEntry, Entry

MAX_KEY: Final = 1024  # characters
MAX_KEY_BYTES: Final = 2048  # of UTF-8: an entry of a PostgreSQL index has about 2,700
MAX_VALUE: Final = 1_048_576 - 4096  # bytes of UTF-8 or of binary: 1 MiB with what surrounds it
_SHORT: Final = MAX_VALUE // 4  # characters that fit whatever they are
_INTEGERS: Final = (-(2**63), 2**63 - 1)


def key_fault(key: Any) -> str | None:
    """Why this cannot be the key of an object; ``None`` if it can."""
    if type(key) is str and 0 < len(key) <= MAX_KEY and key.isascii() and "\0" not in key:
        return None  # nearly every key
    if not isinstance(key, str):
        return f"its key is {type(key).__name__}, not text"
    if not key:
        return "it has no key"
    if len(key) > MAX_KEY:
        return f"its key has {len(key):,} characters; at most {MAX_KEY:,} are possible"
    return _text_fault("its key", key) or _key_size_fault(key)


def _key_size_fault(key: str) -> str | None:
    size = len(key.encode())
    return None if size <= MAX_KEY_BYTES else f"its key has {size:,} bytes; at most {MAX_KEY_BYTES:,} are possible"


def entry_fault(entry: Entry) -> str | None:
    """Why this entry cannot be taken over; ``None`` if it can."""
    fault = key_fault(entry.key)
    if fault is not None or _all_sound_text(entry.attributes):
        return fault
    for name, value in entry.attributes.items():
        # Of the others nearly every value ends here; what follows costs a call each.
        if type(value) is str:
            if len(value) < _SHORT and "\0" not in value and (value.isascii() or _encodes(value)):
                continue
        elif type(value) is bool or (type(value) is int and _INTEGERS[0] <= value <= _INTEGERS[1]):
            continue
        fault = _attribute_fault(name, value)
        if fault is not None:
            return fault
    return None


def _all_sound_text(attributes: Mapping[str, Any]) -> bool:
    """Many an entry is all text: texts that are sound together are sound one by one."""
    try:
        text = "".join(attributes.values())
    except TypeError:  # some of it is no text
        return False
    return len(text) < _SHORT and "\0" not in text and (text.isascii() or _encodes(text))


def check(
    entries: Iterable[Entry], seen: set[str], where: Callable[[int], str] | None = None
) -> tuple[list[Entry], list[BadEntry]]:
    """Sort entries into sound and bad ones. ``seen``: the keys of this read so far; extended.

    ``where`` gives the position of an entry by its place, for those that are bad.

    The second entry with a key is bad even when it is identical: which of two came first is chance, and
    the source that yields one object twice has a fault that somebody should see.
    """
    entries = list(entries)
    if _sound_together(entries, seen):
        return entries, []
    good: list[Entry] = []
    bad: list[BadEntry] = []
    for place, entry in enumerate(entries):
        fault = entry_fault(entry)
        readable = fault is None or key_fault(entry.key) is None
        if fault is None and entry.key in seen:
            fault = "duplicate key: the same key came earlier in this read"
        if readable:
            seen.add(entry.key)
        if fault is None:
            good.append(entry)
        else:
            bad.append(BadEntry(fault, entry.key if readable else None, where(place) if where else ""))
    return good, bad


def _sound_together(entries: Sequence[Entry], seen: set[str]) -> bool:
    """Whether nothing need be looked at one by one, as in nearly every page of text; their keys are then ``seen``."""
    keys = [entry[0] for entry in entries]
    try:
        named = "".join(keys)
        text = "".join(chain.from_iterable([entry[1].values() for entry in entries]))  # type: ignore[misc]
    except TypeError:  # some of it is no text
        return False
    if not (named.isascii() and len(text) < _SHORT and (text.isascii() or _encodes(text))):
        return False
    if "\0" in named or "\0" in text or not all(keys) or max(map(len, keys), default=0) > MAX_KEY:
        return False
    here = set(keys)
    if len(here) < len(keys) or not seen.isdisjoint(here):
        return False
    seen |= here
    return True


def _attribute_fault(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not name or "\0" in name:
        return "one of its attributes has no usable name"
    if not isinstance(value, list):
        return _scalar_fault(name, value)
    if not value:
        return f"attribute {name} is an empty list; an attribute without a value is left out"
    for item in value:
        fault = _scalar_fault(name, item)
        if fault is not None:
            return fault
    return None


def _scalar_fault(name: str, value: Any) -> str | None:
    what = f"attribute {name}"
    if isinstance(value, str):
        return _text_fault(what, value)
    if isinstance(value, bytes):
        return _size_fault(what, len(value))
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if _INTEGERS[0] <= value <= _INTEGERS[1] else f"{what} is an integer of more than 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{what} is not a finite number"
    return f"{what} has the type {type(value).__name__}, which is not one of an attribute"


def _text_fault(what: str, text: str) -> str | None:
    if "\0" in text:
        return f"{what} has a NUL character"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"{what} is not valid Unicode text"
    return _size_fault(what, size)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size_fault(what: str, size: int) -> str | None:
    return None if size <= MAX_VALUE else f"{what} has a value of {size:,} bytes; at most {MAX_VALUE:,} are possible"
