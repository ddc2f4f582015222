"""The attributes of a resource type under the names that a definition uses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from identitymesh.connectors.contract import AttributeInfo
from identitymesh.connectors.kinds.scim.shapes import ResourceShape, Shape

_TYPES: Final = {
    "string": "string",
    "boolean": "boolean",
    "decimal": "decimal",
    "integer": "integer",
    "dateTime": "datetime",
    "binary": "binary",
    "reference": "string",
}


def describe(resource: ResourceShape) -> Sequence[AttributeInfo]:
    found = list(_described(resource.attributes, ""))
    for urn, attributes in resource.extensions.values():
        found += _described(attributes, f"{urn}:")
    return found


def _described(attributes: Mapping[str, Shape], prefix: str) -> Iterator[AttributeInfo]:
    for shape in attributes.values():
        name = prefix + shape.name
        if not shape.complex:
            yield AttributeInfo(name, _TYPES.get(shape.type, "string"), shape.many, shape.required, shape.writable)
            continue
        parts = [part for part in shape.parts.values() if not (shape.many and part.name == "type")]
        for part in parts:
            kind, writable = _TYPES.get(part.type, "string"), shape.writable and part.writable
            for label in shape.labels if shape.many else ():
                literal = json.dumps(label, ensure_ascii=False)
                yield AttributeInfo(f"{name}[type eq {literal}].{part.name}", kind, writable=writable)
            yield AttributeInfo(f"{name}.{part.name}", kind, shape.many, writable=writable)
