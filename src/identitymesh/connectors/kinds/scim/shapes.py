"""What is known of a resource type: its attributes, their spelling, and which have several values.

A service tells it under ``/Schemas`` (RFC 7643 section 7). Where it does not, the core
schema of RFC 7643 sections 4 and 8 stands in, as far as it matters here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@dataclass(frozen=True, slots=True)
class Shape:
    """One attribute. ``type`` as in RFC 7643 section 2.3; ``labels`` are the canonical values of ``type``."""

    name: str
    type: str = "string"
    many: bool = False
    required: bool = False
    writable: bool = True
    returned: bool = True
    parts: Mapping[str, Shape] = field(default_factory=dict)  # by lower-case name
    labels: tuple[str, ...] = ()

    @property
    def complex(self) -> bool:
        return self.type == "complex"


@dataclass(frozen=True, slots=True)
class ResourceShape:
    """A resource type: ``schema`` is its URN; attributes and extensions by lower-case name and URN."""

    schema: str
    attributes: Mapping[str, Shape] = field(default_factory=dict)
    extensions: Mapping[str, tuple[str, Mapping[str, Shape]]] = field(default_factory=dict)

    def find(self, urn: str | None, name: str) -> Shape | None:
        """What is known of an attribute; ``urn`` is that of an extension, ``None`` for the core."""
        if urn is None:
            return self.attributes.get(name.lower())
        extension = self.extensions.get(urn.lower())
        return None if extension is None else extension[1].get(name.lower())

    def spelling(self, urn: str) -> str:
        """The URN of an extension as the service spells it."""
        extension = self.extensions.get(urn.lower())
        return urn if extension is None else extension[0]


def read_shape(definition: Any) -> Shape | None:
    """One attribute as ``/Schemas`` describes it; ``None`` if that is not a description."""
    if not isinstance(definition, dict) or not isinstance(definition.get("name"), str):
        return None
    parts = read_shapes(definition.get("subAttributes"))
    kind = definition.get("type")
    labels: tuple[str, ...] = ()
    if "type" in parts:
        described = [part for part in definition["subAttributes"] if str(part.get("name", "")).lower() == "type"]
        labels = tuple(value for value in described[0].get("canonicalValues") or () if isinstance(value, str))
    return Shape(
        name=definition["name"],
        type=kind if isinstance(kind, str) else "string",
        many=definition.get("multiValued") is True,
        required=definition.get("required") is True,
        writable=definition.get("mutability", "readWrite") != "readOnly",
        returned=definition.get("returned", "default") != "never",
        parts=parts,
        labels=labels,
    )


def read_shapes(definitions: Any) -> dict[str, Shape]:
    """Attributes by lower-case name."""
    if not isinstance(definitions, Iterable) or isinstance(definitions, str | dict):
        return {}
    shapes = [read_shape(definition) for definition in definitions]
    return {shape.name.lower(): shape for shape in shapes if shape is not None}


def _index(*shapes: Shape) -> dict[str, Shape]:
    return {shape.name.lower(): shape for shape in shapes}


def _complex(name: str, *parts: str) -> Shape:
    return Shape(name, "complex", parts=_index(*(Shape(part) for part in parts)))


def _several(name: str, *labels: str, value: str = "string", writable: bool = True) -> Shape:
    parts = _index(Shape("value", value), Shape("display"), Shape("type"), Shape("primary", "boolean"))
    return Shape(name, "complex", many=True, writable=writable, parts=parts, labels=labels)


def default_shape(schema: str) -> ResourceShape:
    """What RFC 7643 says of ``schema``; without attributes where it says nothing."""
    if schema == USER:
        return ResourceShape(USER, _user(), {ENTERPRISE.lower(): (ENTERPRISE, _enterprise())})
    if schema == GROUP:
        members = Shape("members", "complex", many=True, parts=_index(Shape("value"), Shape("$ref"), Shape("type")))
        return ResourceShape(GROUP, _index(Shape("externalId"), Shape("displayName", required=True), members))
    return ResourceShape(schema)


def _user() -> dict[str, Shape]:
    plain = ("externalId", "displayName", "nickName", "profileUrl", "title", "userType", "preferredLanguage")
    places = ("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type")
    return _index(
        Shape("userName", required=True),
        *(Shape(name) for name in (*plain, "locale", "timezone")),
        Shape("active", "boolean"),
        Shape("password", returned=False),
        _complex("name", "formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix"),
        _several("emails", "work", "home", "other"),
        _several("phoneNumbers", "work", "home", "mobile", "fax", "pager", "other"),
        _several("ims"),
        _several("photos", "photo", "thumbnail"),
        Shape(
            "addresses",
            "complex",
            many=True,
            parts=_index(*(Shape(name) for name in places), Shape("primary", "boolean")),
            labels=("work", "home", "other"),
        ),
        _several("groups", writable=False),
        _several("entitlements"),
        _several("roles"),
        _several("x509Certificates", value="binary"),
    )


def _enterprise() -> dict[str, Shape]:
    plain = ("employeeNumber", "costCenter", "organization", "division", "department")
    return _index(*(Shape(name) for name in plain), _complex("manager", "value", "$ref", "displayName"))
