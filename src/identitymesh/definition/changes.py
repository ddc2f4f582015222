"""What a new definition changes, in words, and which targets have to wait for a person because of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from identitymesh.definition.reading import ConnectorDefinition, Definition

# Settings that change neither what is read nor what is written.
_QUIET = frozenset({"schedule", "full_schedule", "timeout", "renamed_from"})


@dataclass(frozen=True, slots=True)
class Changes:
    """``lines`` for people; ``waiting`` maps targets to the reason; ``rules``: mesh, rules or their order changed."""

    lines: tuple[str, ...]
    waiting: Mapping[str, str]
    rules: bool


def compare(old: Definition | None, new: Definition) -> Changes:
    """Compare. The first definition of all is no change: nothing waits."""
    if old is None:
        return Changes(tuple(_first(new)), {}, rules=True)
    lines = [*_connectors(old, new), *_parts(old, new)]
    rules = _rules_text(old) != _rules_text(new)
    return Changes(tuple(lines), _waiting(old, new), rules)


def reread(old: Definition | None, new: Definition) -> list[tuple[str, str]]:
    """Connectors and object classes whose last watermark says nothing about what they read now.

    Another query, path, base or filter has older objects that no read since it would show, and another watermark
    column other values.
    """
    found = []
    for name, connector in new.connectors.items():
        before = old.connectors.get(connector.settings.renamed_from or name, old.connectors.get(name)) if old else None
        for object_class in connector.objects:
            same = before is not None and object_class in before.objects
            if not same or _way(before, object_class) != _way(connector, object_class):
                found.append((name, object_class))
    return found


def _way(connector: ConnectorDefinition | None, object_class: str) -> tuple[str, str | None]:
    """How changes of an object class are read."""
    if connector is None:
        return "", None
    return connector.kind.scope(connector.settings, object_class), connector.watermark(object_class)


def targets(definition: Definition) -> list[str]:
    """Connectors that some projection writes to."""
    return list(dict.fromkeys(rule.connector for rule in definition.shape.rules.project))


def _first(new: Definition) -> Iterator[str]:
    for name, connector in new.connectors.items():
        yield f"+ connector {name} ({connector.kind.name})"
    for name, mesh_type in new.shape.mesh.items():
        yield f"+ mesh {name}: {len(mesh_type.attributes)} attributes, anchor {mesh_type.anchor}"
    rules = new.shape.rules
    yield f"+ rules: {len(rules.join)} join, {len(rules.flow)} flow, {len(rules.project)} project"


def _dump(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", fallback=str)
    return json.dumps(value, sort_keys=True, default=str)


def _settings(connector: ConnectorDefinition) -> dict[str, Any]:
    dumped = connector.settings.model_dump(mode="python")
    return {name: value for name, value in dumped.items() if name not in _QUIET}


def _times(connector: ConnectorDefinition) -> dict[str, Any]:
    return {name: getattr(connector.settings, name) for name in ("schedule", "full_schedule")}


def _connectors(old: Definition, new: Definition) -> Iterator[str]:
    renamed = renames(old, new)
    for name, connector in new.connectors.items():
        before = old.connectors.get(name) or old.connectors.get(connector.settings.renamed_from or "")
        if before is None:
            yield f"+ connector {name} ({connector.kind.name})"
        elif before.name != name:
            yield f"~ connector {before.name} is now called {name}"
        elif changed := sorted(
            _different(_settings(before), _settings(connector)) | _different(_times(before), _times(connector))
        ):
            yield f"~ connector {name}: {', '.join(changed)}"
    for name in old.connectors:
        if name not in new.connectors and name not in renamed:
            yield f"- connector {name}"
    if _order(old) != _order(new) and set(old.connectors) == set(new.connectors):
        yield "~ order of the connectors (it decides ties)"


def _order(definition: Definition) -> list[str]:
    return list(definition.shape.connectors)


def renames(old: Definition | None, new: Definition) -> dict[str, str]:
    """Former names of connectors that this change renames, and today's. ``renamed_from`` may stay; it is done once."""
    known = old.connectors if old is not None else {}
    pairs = ((connector.settings.renamed_from, name) for name, connector in new.connectors.items())
    return {former: name for former, name in pairs if former is not None and former in known and name not in known}


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    return {name for name in old.keys() | new.keys() if _dump(old.get(name)) != _dump(new.get(name))}


def _parts(old: Definition, new: Definition) -> Iterator[str]:
    for stage in ("join", "flow", "project"):
        yield from _named(stage, getattr(old.shape.rules, stage), getattr(new.shape.rules, stage))
    for name in sorted(_different(old.shape.mesh, new.shape.mesh)):
        yield f"{_sign(name, old.shape.mesh, new.shape.mesh)} mesh {name}"
    for name in sorted(_different(old.shape.limits, new.shape.limits)):
        yield f"{_sign(name, old.shape.limits, new.shape.limits)} limits of {name}"
    if old.shape.timezone != new.shape.timezone:
        yield f"~ timezone: {new.shape.timezone} (before: {old.shape.timezone})"
    if old.shape.frozen != new.shape.frozen:
        yield f"~ frozen: {len(new.shape.frozen)} people (before: {len(old.shape.frozen)})"


def _sign(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return "+" if name not in old else "-" if name not in new else "~"


def _named(stage: str, old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    before = {rule.name: rule for rule in old}
    after = {rule.name: rule for rule in new}
    used: set[str] = set()
    for name, rule in after.items():
        former = before.get(name) or before.get(rule.renamed_from or "")
        if former is None:
            yield f"+ {stage} rule {name}"
            continue
        used.add(former.name)
        fields = _different(former.model_dump(), rule.model_dump()) - {"name", "renamed_from"}
        if former.name != name:
            yield f"~ {stage} rule {former.name} is now called {name}"
        if fields:
            yield f"~ {stage} rule {name}: {', '.join(sorted(fields))}"
    for name in before:
        if name not in used and name not in after:
            yield f"- {stage} rule {name}"


def _rules_text(definition: Definition) -> str:
    shape = definition.shape
    return _dump(
        [
            shape.mesh and {name: _dump(one) for name, one in shape.mesh.items()},
            shape.rules,
            _zone(definition),
            _order(definition),
        ]
    )


def _zone(definition: Definition) -> str:
    """Where days begin, if any rule asks."""
    functions = (one for checked in definition.expressions.by_path.values() for one in checked.functions.values())
    return definition.shape.timezone if any(one.calendar for one in functions) else ""


def _waiting(old: Definition, new: Definition) -> dict[str, str]:
    shared = _shared_reasons(old, new)
    found: dict[str, str] = {}
    for target in targets(new):
        reasons = [*shared, *_own_reasons(target, old, new)]
        if reasons and target in {*targets(old), *renames(old, new).values()}:
            found[target] = "; ".join(reasons)
    return found


def _shared_reasons(old: Definition, new: Definition) -> list[str]:
    """Changes that can reach every target: mesh, joins, flows, their order, and the sources they read."""
    reasons = []
    if _different(old.shape.mesh, new.shape.mesh):
        reasons.append("the mesh changed")
    if _zone(old) != _zone(new):
        reasons.append("the time zone changed")
    reasons += [
        f"{stage} rules changed"
        for stage in ("join", "flow")
        if _dump_all(getattr(old.shape.rules, stage)) != _dump_all(getattr(new.shape.rules, stage))
    ]
    if _order(old) != _order(new):
        reasons.append("the order or the set of connectors changed")
    sources = {rule.connector for stage in ("join", "flow") for rule in getattr(new.shape.rules, stage)}
    reasons += [
        f"connector {name} changed"
        for name in sorted(sources & old.connectors.keys() & new.connectors.keys())
        if _different(_settings(old.connectors[name]), _settings(new.connectors[name]))
    ]
    return reasons


def _own_reasons(target: str, old: Definition, new: Definition) -> list[str]:
    reasons = []
    before = [rule for rule in old.shape.rules.project if rule.connector == target]
    after = [rule for rule in new.shape.rules.project if rule.connector == target]
    if _dump_all(before) != _dump_all(after):
        reasons.append("its projection changed")
    if target in old.connectors and _different(_settings(old.connectors[target]), _settings(new.connectors[target])):
        reasons.append(f"connector {target} changed")
    return reasons


def _dump_all(rules: Iterable[BaseModel]) -> list[str]:
    return [_dump(rule) for rule in rules]
