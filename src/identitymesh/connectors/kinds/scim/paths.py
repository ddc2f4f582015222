"""Attribute names as SCIM paths (RFC 7644 section 3.5.2, figure 7).

``[urn:]name[filter].part``. The filter is one comparison ``part eq literal``, or several
joined by ``and``: what names an element of a list so that it can also be written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from identitymesh.connectors.kinds.scim.shapes import ResourceShape, Shape
from identitymesh.errors import ConnectorMisconfigured

_NAME: Final = r"\$?[A-Za-z][A-Za-z0-9_-]*"  # RFC 7643 section 2.1, and $ref
_HEAD: Final = re.compile(rf"(?:(?P<urn>urn:.+):)?(?P<name>{_NAME})(?:\.(?P<part>{_NAME}))?\Z", re.IGNORECASE)
_FILTERED: Final = re.compile(
    rf"(?:(?P<urn>urn:.+):)?(?P<name>{_NAME})\[(?P<filter>.*)\](?:\.(?P<part>{_NAME}))?\Z", re.IGNORECASE | re.DOTALL
)
_COMPARISON: Final = re.compile(
    rf"\s*(?P<part>{_NAME})\s+eq\s+(?P<literal>\"(?:[^\"\\]|\\.)*\"|true|false|-?[0-9.eE+-]+)\s*(?:and\b|\Z)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Path:
    """``name`` and ``part`` as the service spells them; ``only`` is what the filter says, by part."""

    urn: str | None
    name: str
    part: str | None = None
    only: tuple[tuple[str, str | bool | int | float], ...] = ()
    shape: Shape | None = field(default=None, compare=False, repr=False)

    @property
    def parent(self) -> str:
        """The attribute without filter and part."""
        return self.name if self.urn is None else f"{self.urn}:{self.name}"

    @property
    def element(self) -> str:
        """The attribute with its filter, without part."""
        if not self.only:
            return self.parent
        terms = (f"{part} eq {json.dumps(literal, ensure_ascii=False)}" for part, literal in self.only)
        return f"{self.parent}[{' and '.join(terms)}]"

    def __str__(self) -> str:
        return self.element if self.part is None else f"{self.element}.{self.part}"

    @property
    def binary(self) -> bool:
        """Whether its values are bytes, which SCIM writes in Base64."""
        if self.shape is None:
            return False
        if not self.shape.complex:
            return self.shape.type == "binary"
        part = self.shape.parts.get((self.part or "value").lower())
        return part is not None and part.type == "binary"

    def selects(self, element: Any) -> bool:
        """Whether the filter is true for an element of the list."""
        return isinstance(element, dict) and all(_equal(pick(element, part), literal) for part, literal in self.only)


def pick(mapping: Mapping[str, Any], name: str) -> Any:
    """The value under a name in any case (RFC 7643 section 2.1); ``None`` if there is none."""
    if name in mapping:
        return mapping[name]
    lower = name.lower()
    return next((value for key, value in mapping.items() if key.lower() == lower), None)


def parse_path(text: str, resource: ResourceShape) -> Path:
    """An attribute name of a definition as a path into this resource type, in its spelling.

    Raises:
        ConnectorMisconfigured: not a path, or not one that names an attribute.
    """
    match = _HEAD.match(text) or _FILTERED.match(text)
    if match is None:
        raise _refused(text)
    urn, name, part = match["urn"], match["name"], match["part"]
    if urn is not None and urn.lower() == resource.schema.lower():
        urn = None
    shape = resource.find(urn, name)
    conditions = _conditions(match.groupdict().get("filter"), text, shape)
    return Path(
        urn=None if urn is None else resource.spelling(urn),
        name=name if shape is None else shape.name,
        part=_spelt(shape, part),
        only=conditions,
        shape=shape,
    )


def _conditions(
    filter_text: str | None, text: str, shape: Shape | None
) -> tuple[tuple[str, str | bool | int | float], ...]:
    if filter_text is None:
        return ()
    found: list[tuple[str, str | bool | int | float]] = []
    at = 0
    while at < len(filter_text) or not found:
        match = _COMPARISON.match(filter_text, at)
        if match is None:
            raise _refused(text)
        try:
            literal = json.loads(match["literal"] if match["literal"][0] == '"' else match["literal"].lower())
        except ValueError:
            raise _refused(text) from None
        found.append((_spelt(shape, match["part"]) or match["part"], literal))
        at = match.end()
    return tuple(found)


def _spelt(shape: Shape | None, part: str | None) -> str | None:
    if shape is None or part is None:
        return part
    known = shape.parts.get(part.lower())
    return part if known is None else known.name


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    return type(left) is type(right) and bool(left == right)


def _refused(text: str) -> ConnectorMisconfigured:
    return ConnectorMisconfigured(
        f"{text[:200]!r} is not the name of a SCIM attribute",
        hint='Names look like userName, name.givenName, emails[type eq "work"].value or urn:…:User:department.',
    )
