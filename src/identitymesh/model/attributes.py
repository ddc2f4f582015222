"""Attributes of an object: many-valued by nature, absent is not empty.

A mapping of name to value. A single value is written as itself, several values
as a list in the order in which they came; an attribute without a value is not
in the mapping at all. The empty string is a value.

Scalars are text, integers, floats, booleans and bytes. Dates travel as RFC 3339
text (``2026-11-22`` or ``2026-11-22T08:30:00Z``, UTC), exact decimals and UUIDs
as text: the connectors translate at the edge, see ``docs/formats/documents.md``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

Scalar = str | int | float | bool | bytes
Value = Scalar | list[Scalar]
Attributes = dict[str, Value]

DIGEST_SIZE: Final = 16
_BYTES_MARK: Final = "$bytes"


def _encode_bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {_BYTES_MARK: base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} is not an attribute value")


_CANONICAL: Final = orjson.OPT_SORT_KEYS


def dump(document: object) -> bytes:
    """Canonical JSON: sorted names, UTF-8, no spaces; bytes as ``{"$bytes": base64}``."""
    return orjson.dumps(document, default=_encode_bytes, option=_CANONICAL)


def load(document: bytes | str) -> Any:
    """Inverse of :func:`dump`."""
    parsed = orjson.loads(document)
    marked = _BYTES_MARK in document if isinstance(document, str) else _BYTES_MARK.encode() in document
    return _decode(parsed) if marked else parsed


def _decode(node: Any) -> Any:
    if isinstance(node, dict):
        if len(node) == 1 and _BYTES_MARK in node:
            return base64.b64decode(node[_BYTES_MARK])
        return {name: _decode(child) for name, child in node.items()}
    if isinstance(node, list):
        return [_decode(child) for child in node]
    return node


def digest(canonical: bytes) -> bytes:
    """16-byte BLAKE2b of a canonical document; detects change, proves nothing."""
    return blake2b(canonical, digest_size=DIGEST_SIZE).digest()


def values_of(value: Value | None) -> list[Scalar]:
    """All values of an attribute as a list; absent gives an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def from_values(values: list[Scalar]) -> Value | None:
    """One value as itself, several as a list, none as absent (``None``)."""
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def same(left: Value | None, right: Value | None) -> bool:
    """Equal as bags: the order of several values does not matter, their types do (``1`` is not ``True``)."""
    if isinstance(left, list) or isinstance(right, list):
        ours, theirs = values_of(left), values_of(right)
        return len(ours) == len(theirs) and sorted(map(_order, ours)) == sorted(map(_order, theirs))
    return type(left) is type(right) and left == right


def _order(value: Scalar) -> tuple[str, str]:
    return type(value).__name__, repr(value)


def image(attributes: Mapping[str, Value]) -> bytes:
    """Canonical JSON for comparing objects as sets: several values are sorted first."""
    if list not in map(type, attributes.values()):
        return dump(attributes)
    return dump(
        {name: sorted(value, key=_order) if isinstance(value, list) else value for name, value in attributes.items()}
    )


def digests(several: Sequence[Attributes]) -> list[bytes]:
    """The :func:`digest` of the :func:`image` of each, as fast as can be: every object that is read comes by here."""
    dumps, plain, canonical, size = orjson.dumps, _encode_bytes, _CANONICAL, DIGEST_SIZE
    documents = [dumps(one, plain, canonical) for one in several]
    return [
        # Where nothing looks like a list, the document is the image.
        blake2b(document, digest_size=size).digest() if b"[" not in document else digest(image(one))
        for one, document in zip(several, documents, strict=True)
    ]
