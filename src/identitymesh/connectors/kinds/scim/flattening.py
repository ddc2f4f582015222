"""Resources as attributes, and back. Pure functions over parsed JSON.

A resource is what RFC 7643 section 3 describes: a JSON object whose values are scalars,
objects of scalars, or lists of either. ``null`` and empty lists are absent (section 2.5).
The resources given to these functions are never changed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, Final

from identitymesh.connectors.kinds.scim.paths import Path, parse_path, pick
from identitymesh.connectors.kinds.scim.shapes import ResourceShape
from identitymesh.errors import ConnectorMisconfigured
from identitymesh.model.attributes import Attributes, Scalar, Value, from_values, values_of

Resource = dict[str, Any]
_ENVELOPE: Final = frozenset({"schemas", "id", "meta"})


def read_value(resource: Mapping[str, Any], path: Path) -> Value | None:
    """What a resource has under a path; ``None`` is absent.

    A list of objects without a part in the path means their ``value`` (RFC 7643 section 2.4).
    """
    home = resource if path.urn is None else pick(resource, path.urn)
    if not isinstance(home, dict):
        return None
    held = pick(home, path.name)
    found: list[Scalar] = []
    for element in held if isinstance(held, list) else [held]:
        if path.only and not path.selects(element):
            continue
        leaf = pick(element, path.part or "value") if isinstance(element, dict) else _plain(element, path)
        if isinstance(leaf, str | int | float | bool):
            found.append(_decoded(leaf) if path.binary else leaf)
    return from_values(found)


def read_attributes(resource: Mapping[str, Any], paths: Mapping[str, Path]) -> Attributes:
    """The attributes of a resource under the names that the definition gives them."""
    read = ((name, read_value(resource, path)) for name, path in paths.items())
    return {name: value for name, value in read if value is not None}


def flatten(resource: Mapping[str, Any], shape: ResourceShape) -> Attributes:
    """All attributes of a resource, each under its path; without ``id``, ``schemas`` and ``meta``.

    Names that RFC 7643 section 2.1 does not allow are left out: no path could mean them.
    """
    paths: dict[str, Path] = {}
    for name in _names(resource):
        with suppress(ConnectorMisconfigured):
            paths[name] = parse_path(name, shape)
    return read_attributes(resource, paths)


def merge(resource: Mapping[str, Any], put: Mapping[Path, Value], clear: Iterable[Path] = ()) -> Resource:
    """A copy of the resource with these values set and these attributes cleared."""
    merged = deepcopy(dict(resource))
    for path in clear:
        _in_home(merged, path, partial(_clear, path=path))
    for path, value in put.items():
        _in_home(merged, path, partial(_put, path=path, value=value))
    return merged


def elements_with(held: Any, path: Path, value: Value) -> list[Any]:
    """The whole list of a many-valued attribute after ``path`` was set to ``value`` in it.

    Elements that the filter selects and whose value is wanted stay as they are, with their
    other parts; those with other values go; missing ones are added.
    """
    elements = deepcopy(held) if isinstance(held, list) else [] if held is None else [deepcopy(held)]
    wanted = [_encoded(one) for one in values_of(value)]
    part = path.part or "value"
    selected = [element for element in elements if is_selected(element, path)]
    if len(wanted) == 1 and len(selected) == 1 and path.only:
        selected[0][_spelling(selected[0], part)] = wanted[0]
        return elements
    kept: list[Any] = []
    for element in elements:
        if not is_selected(element, path):
            kept.append(element)
        elif pick(element, part) in wanted:
            wanted.remove(pick(element, part))
            kept.append(element)
    return kept + [new_element(path, one) for one in wanted]


def new_element(path: Path, value: Any) -> dict[str, Any]:
    """An element that the path's filter selects, with this value."""
    return {**dict(path.only), path.part or "value": value}


def is_list(path: Path, held: Any) -> bool:
    """Whether the attribute is a list of objects there: as its schema says, or as the resource shows."""
    if path.only:
        return True
    if path.shape is not None:
        return path.shape.many and path.shape.complex
    return isinstance(held, list) and any(isinstance(element, dict) for element in held)


def held_at(resource: Mapping[str, Any], path: Path) -> Any:
    """The attribute of a path as a whole, without filter and part; ``None`` is absent."""
    home = resource if path.urn is None else pick(resource, path.urn)
    return pick(home, path.name) if isinstance(home, dict) else None


def encode(value: Value) -> Any:
    """A value as JSON: bytes in Base64 (RFC 7643 section 2.3.6)."""
    return [_encoded(one) for one in value] if isinstance(value, list) else _encoded(value)


def encode_for(path: Path, held: Any, value: Value) -> Any:
    """As :func:`encode`; one value of an attribute that is a list of scalars there is a list of one."""
    many = isinstance(held, list) or (path.shape is not None and path.shape.many)
    return [encode(value)] if many and not isinstance(value, list) else encode(value)


def without_element_value(held: Any, path: Path) -> list[Any]:
    """The list after ``path`` was cleared: an element without its ``value`` says nothing and goes as a whole."""
    kept: list[Any] = []
    part = path.part or "value"
    for element in deepcopy(held) if isinstance(held, list) else []:
        if not is_selected(element, path):
            kept.append(element)
        elif part != "value":
            element.pop(_spelling(element, part), None)
            kept.append(element)
    return kept


def _plain(element: Any, path: Path) -> Any:
    return element if path.part is None else None


def is_selected(element: Any, path: Path) -> bool:
    return isinstance(element, dict) and path.selects(element)


def _in_home(resource: Resource, path: Path, act: Callable[[Resource], None]) -> None:
    if path.urn is None:
        act(resource)
        return
    urn = _spelling(resource, path.urn)
    home = resource.get(urn)
    extension = home if isinstance(home, dict) else {}
    act(extension)
    if extension:
        resource[urn] = extension
        schemas = resource.setdefault("schemas", [])
        if urn.lower() not in (str(schema).lower() for schema in schemas):
            schemas.append(path.urn)
    else:
        resource.pop(urn, None)


def _put(home: Resource, path: Path, value: Value) -> None:
    name = _spelling(home, path.name)
    held = home.get(name)
    if is_list(path, held):
        home[name] = elements_with(held, path, value)
    elif path.part is not None:
        inner = held if isinstance(held, dict) else {}
        inner[_spelling(inner, path.part)] = encode(value)
        home[name] = inner
    else:
        home[name] = encode_for(path, held, value)


def _clear(home: Resource, path: Path) -> None:
    name = _spelling(home, path.name)
    held = home.get(name)
    if is_list(path, held) and (path.only or path.part):
        home[name] = without_element_value(held, path)
    elif path.part is not None and isinstance(held, dict):
        held.pop(_spelling(held, path.part), None)
    else:
        home.pop(name, None)
    if home.get(name) in ([], {}):
        del home[name]


def _spelling(mapping: Mapping[str, Any], name: str) -> str:
    """The name as the mapping spells it, or as given."""
    if name in mapping:
        return name
    lower = name.lower()
    return next((key for key in mapping if key.lower() == lower), name)


def _encoded(value: Scalar) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _decoded(value: Any) -> Scalar:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value  # the service does not keep to its schema; its text is still a value
    scalar: Scalar = value
    return scalar


def _names(resource: Mapping[str, Any]) -> Iterable[str]:
    for name, value in resource.items():
        if name.lower() in _ENVELOPE:
            continue
        if name.lower().startswith("urn:") and isinstance(value, dict):
            for inner, held in value.items():
                yield from (f"{name}:{path}" for path in _paths(inner, held))
        else:
            yield from _paths(name, value)


def _paths(name: str, value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        yield from (f"{name}.{part}" for part in value)
    elif isinstance(value, list) and any(isinstance(element, dict) for element in value):
        yield from dict.fromkeys(_element_paths(name, [element for element in value if isinstance(element, dict)]))
    else:
        yield name


def _element_paths(name: str, elements: Sequence[dict[str, Any]]) -> Iterable[str]:
    for element in elements:
        label = pick(element, "type")
        if isinstance(label, str) and label:
            literal = json.dumps(label, ensure_ascii=False)
            yield from (f"{name}[type eq {literal}].{part}" for part in element if part.lower() != "type")
        else:
            yield from (f"{name}.{part}" for part in element)
