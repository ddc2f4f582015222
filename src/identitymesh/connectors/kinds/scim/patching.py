"""An update as the smallest PATCH (RFC 7644 section 3.5.2). Pure functions over parsed JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from identitymesh.connectors.kinds.scim.flattening import (
    Resource,
    elements_with,
    encode,
    encode_for,
    held_at,
    is_list,
    is_selected,
    merge,
    new_element,
    read_value,
)
from identitymesh.connectors.kinds.scim.paths import Path, pick
from identitymesh.model.attributes import Value, same, values_of

PATCH_OP: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

Operation = dict[str, Any]


def patch_body(operations: list[Operation]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": operations}


def operations(resource: Mapping[str, Any], put: Mapping[Path, Value], clear: Iterable[Path]) -> list[Operation]:
    """What turns the resource into one with these values; empty if it has them already.

    The operations count on being carried out in order, as the RFC says.
    """
    found: list[Operation] = []
    working: Resource = dict(resource)
    for path in clear:
        found += _removal(working, path)
        working = merge(working, {}, [path])
    fresh: dict[str, dict[str, Any]] = {}
    for path, value in put.items():
        if same(read_value(working, path), value):
            continue
        if path.element in fresh and path.part is not None and not isinstance(value, list):
            fresh[path.element][path.part] = encode(value)  # one more part of the element that is added anyway
        else:
            found.append(_setting(working, path, value, fresh))
        working = merge(working, {path: value})
    return found


def _removal(resource: Resource, path: Path) -> list[Operation]:
    held = held_at(resource, path)
    if held is None or read_value(resource, path) is None:
        return []
    if is_list(path, held) and path.part in {None, "value"}:
        return [{"op": "remove", "path": path.element}]
    return [{"op": "remove", "path": str(path)}]


def _setting(resource: Resource, path: Path, value: Value, fresh: dict[str, dict[str, Any]]) -> Operation:
    held = held_at(resource, path)
    present = read_value(resource, path) is not None
    if not is_list(path, held):
        sent = encode(value) if path.part is not None else encode_for(path, held, value)
        return {"op": "replace" if present else "add", "path": str(path), "value": sent}
    elements = held if isinstance(held, list) else []
    selected = [element for element in elements if is_selected(element, path)]
    wanted = values_of(value)
    if path.only and not selected:
        added = [new_element(path, encode(one)) for one in wanted]
        if len(added) == 1:
            fresh[path.element] = added[0]
        return {"op": "add", "path": path.parent, "value": added}
    if path.only and len(selected) == len(wanted) == 1:
        op = "add" if pick(selected[0], path.part or "value") is None else "replace"
        full = str(path) if path.part is not None else f"{path.element}.value"
        return {"op": op, "path": full, "value": encode(wanted[0])}
    return {"op": "replace" if elements else "add", "path": path.parent, "value": elements_with(held, path, value)}
