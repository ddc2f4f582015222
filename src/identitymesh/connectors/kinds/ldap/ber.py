"""The post-read control (RFC 4527): the entry as it is after a change, in the answer to the change.

It is a few lines of BER. The general decoder that python-ldap brings takes longer for one entry than the server for the
change itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ldap.controls import RequestControl

POST_READ: Final = "1.3.6.1.1.13.2"

_SEQUENCE: Final = 0x30
_OCTET_STRING: Final = 0x04


class PostReadRequest(RequestControl):  # type: ignore[misc]  # the library has no types
    """Asks for these attributes."""

    controlType = POST_READ  # noqa: N815  name of the library

    def __init__(self, names: Sequence[str]) -> None:
        body = b"".join(_element(_OCTET_STRING, name.encode()) for name in names)
        super().__init__(POST_READ, criticality=True, encodedControlValue=_element(_SEQUENCE, body))


def post_read(encoded: bytes) -> tuple[str, dict[str, list[bytes]]]:
    """DN and attributes of the entry in the answer.

    Raises:
        ValueError, IndexError: this is no such answer.
    """
    at, end = _content(encoded, 0)
    at, dn_end = _content(encoded, at)
    dn = encoded[at:dn_end].decode()
    at, attributes_end = _content(encoded, dn_end)
    found: dict[str, list[bytes]] = {}
    while at < attributes_end:
        at, _ = _content(encoded, at)
        at, name_end = _content(encoded, at)
        values = found[encoded[at:name_end].decode()] = []
        at, values_end = _content(encoded, name_end)
        while at < values_end:
            at, value_end = _content(encoded, at)
            values.append(encoded[at:value_end])
            at = value_end
        if at != values_end:
            raise ValueError("the answer to a change does not fit together")
    if not at == attributes_end == end == len(encoded):
        raise ValueError("the answer to a change is cut short")
    return dn, found


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _content(encoded: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element that begins there begins, and where it ends; tags are of no interest here."""
    size = encoded[at + 1]
    at += 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(encoded[at : at + count], "big")
        at += count
    return at, at + size
