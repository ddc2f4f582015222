"""The post-read control (RFC 4527): the entry as it is after a change, in the answer to the change.

It is a few lines of BER. The general decoder that python-ldap brings takes longer for one entry than the server for the
change itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ldap.controls import RequestControl, ResponseControl

POST_READ: Final = "1.3.6.1.1.13.2"

_SEQUENCE: Final = 0x30
_OCTET_STRING: Final = 0x04


class PostReadRequest(RequestControl):  # type: ignore[misc]  # the library has no types
    """Asks for these attributes."""

    controlType = POST_READ  # noqa: N815  name of the library

    def __init__(self, names: Sequence[str]) -> None:
        body = b"".join(_element(_OCTET_STRING, name.encode()) for name in names)
        super().__init__(POST_READ, criticality=True, encodedControlValue=_element(_SEQUENCE, body))


class PostReadAnswer(ResponseControl):  # type: ignore[misc]  # as above
    """``dn`` and ``attributes`` of the entry."""

    controlType = POST_READ  # noqa: N815  name of the library
    dn = ""
    attributes: dict[str, list[bytes]]

    def decodeControlValue(self, encoded: bytes) -> None:  # noqa: N802  name of the library
        (entry,) = _elements(encoded)
        dn, attributes = _elements(entry)
        self.dn = dn.decode()
        self.attributes = {}
        for attribute in _elements(attributes):
            name, values = _elements(attribute)
            self.attributes[name.decode()] = _elements(values)


ANSWERS: Final = {POST_READ: PostReadAnswer}


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _elements(content: bytes) -> list[bytes]:
    """The contents of the elements that stand one after the other; tags are of no interest here."""
    found: list[bytes] = []
    at, end = 0, len(content)
    while at < end:
        size = content[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(content[at : at + count], "big")
            at += count
        found.append(content[at : at + size])
        at += size
    if at != end:
        raise ValueError("the answer to a change is cut short")
    return found
