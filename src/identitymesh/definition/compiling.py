"""A checked definition to the rule set of a run: every expression compiled once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from identitymesh.definition.reading import Definition
from identitymesh.rules.expressions import (
    Calendar,
    Changing,
    Checked,
    changing,
    check,
    compile_one,
    compile_set,
    zone_named,
)
from identitymesh.rules.expressions.tree import Attribute, Call, Constant, write
from identitymesh.rules.flow import FirstFree, FlowPlan, FlowRule
from identitymesh.rules.join import Condition, JoinPlan, JoinRule
from identitymesh.rules.project import ProjectRule
from identitymesh.rules.ruleset import MeshAttribute, MeshType, RuleSet


def compile_rules(definition: Definition, version: int, now: datetime) -> RuleSet:
    """Compile. ``version``: the definition version in which the rules last changed. ``now``: what Now() answers."""
    shape = definition.shape
    calendar = Calendar(now, zone_named(shape.timezone) or UTC)
    renames = {
        rule.renamed_from: rule.name
        for stage in (shape.rules.join, shape.rules.flow, shape.rules.project)
        for rule in stage
        if rule.renamed_from is not None
    }
    return RuleSet(
        version=version,
        types=_types(definition),
        joins=_joins(definition, calendar),
        flows=_flows(definition, calendar),
        projections=_projections(definition, calendar),
        renames=renames,
        frozen=frozenset(shape.frozen),
        now=calendar.now,
        changes=_changes(definition, calendar),
        mesh_changes=_mesh_changes(definition, calendar),
        unique=(unique := _unique(definition)),
        watched=_watched(definition, unique),
    )


def _unique(definition: Definition) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for index, rule in enumerate(definition.shape.rules.flow):
        if "FirstFree" in definition.expressions.by_path["rules", "flow", index, "value"].functions:
            found[rule.object] = found.get(rule.object, frozenset()) | {rule.target}
    return found


def _watched(definition: Definition, unique: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], dict[str, str]]:
    """Attributes of targets that are written as the mesh has them, up to case and surrounding space."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for index, rule in enumerate(definition.shape.rules.project):
        for name in rule.attributes:
            tree = definition.expressions.by_path["rules", "project", index, "attributes", name].tree
            while isinstance(tree, Call) and tree.function in ("ToLower", "ToUpper", "Trim"):
                tree = tree.arguments[0]
            if isinstance(tree, Attribute) and tree.name in unique.get(rule.object, ()):
                found.setdefault((rule.connector, rule.object), {})[name] = tree.name
    return found


def _free(checked: Checked, calendar: Calendar) -> FirstFree | None:
    if not (isinstance(checked.tree, Call) and checked.tree.function == "FirstFree"):
        return None
    parts = [check(write(one), names=None, counting=True) for one in checked.tree.arguments]
    *texts, numbered = [compile_one(one, calendar) for one in parts]
    return FirstFree(tuple(texts), numbered)


def _changes(definition: Definition, calendar: Calendar) -> dict[tuple[str, str], Changing]:
    """Of each (connector, object): what join and flow rules say of its objects, and can say otherwise tomorrow."""
    several: dict[tuple[str, str], list[Checked]] = defaultdict(list)
    for stage in ("join", "flow"):
        for index, rule in enumerate(getattr(definition.shape.rules, stage)):
            several[rule.connector, rule.object] += _expressions(definition, "rules", stage, index)
    found = {where: changing(some, calendar) for where, some in several.items()}
    return {where: one for where, one in found.items() if one is not None}


def _mesh_changes(definition: Definition, calendar: Calendar) -> dict[str, Changing]:
    """Of each mesh type: what project rules say of its identities, and can say otherwise tomorrow."""
    several: dict[str, list[Checked]] = defaultdict(list)
    for index, rule in enumerate(definition.shape.rules.project):
        several[rule.object] += _expressions(definition, "rules", "project", index)
    found = {where: changing(some, calendar) for where, some in several.items()}
    return {where: one for where, one in found.items() if one is not None}


def _expressions(definition: Definition, *base: str | int) -> Iterator[Checked]:
    return (checked for path, checked in definition.expressions.by_path.items() if path[: len(base)] == base)


def _types(definition: Definition) -> dict[str, MeshType]:
    found = {}
    for name, shape in definition.shape.mesh.items():
        targets = [rule.target for rule in definition.shape.rules.join if rule.object == name]
        found[name] = MeshType(
            name=name,
            anchor=shape.anchor,
            attributes={
                one.name: MeshAttribute(one.name, one.type, one.many, one.sensitivity) for one in shape.attributes
            },
            join_attributes=tuple(dict.fromkeys([shape.anchor, *targets])),
        )
    return found


def _condition(definition: Definition, calendar: Calendar, *path: str | int) -> Condition | None:
    checked = definition.expressions.at(*path)
    return compile_one(checked, calendar) if checked else None


def _joins(definition: Definition, calendar: Calendar) -> dict[tuple[str, str], JoinPlan]:
    rules: dict[tuple[str, str], list[JoinRule]] = defaultdict(list)
    for index, shape in enumerate(definition.shape.rules.join):
        present = _condition(definition, calendar, "rules", "join", index, "present_when")
        rule = JoinRule(shape.name, shape.source, shape.target, shape.create, present)
        rules[shape.connector, shape.object].append(rule)
    return {where: JoinPlan(tuple(plan)) for where, plan in rules.items()}


def _flows(definition: Definition, calendar: Calendar) -> dict[tuple[str, str], FlowPlan]:
    order = {name: index for index, name in enumerate(definition.shape.connectors)}
    shapes = list(enumerate(definition.shape.rules.flow))
    shapes.sort(key=lambda item: (-item[1].confidence, order[item[1].connector], item[1].name))
    grouped: dict[tuple[str, str], list[tuple[FlowRule, int]]] = defaultdict(list)
    for rank, (index, shape) in enumerate(shapes):
        free = _free(definition.expressions.by_path["rules", "flow", index, "value"], calendar)
        rule = FlowRule(shape.name, shape.connector, shape.target, shape.confidence, rank, free)
        grouped[shape.connector, shape.object].append((rule, index))
    plans = {}
    for where, rules in grouped.items():
        items = [(rule.name, definition.expressions.by_path["rules", "flow", index, "value"]) for rule, index in rules]
        plans[where] = FlowPlan(tuple(rule for rule, _ in rules), compile_set(items, calendar))
    return plans


def _projections(definition: Definition, calendar: Calendar) -> dict[str, list[ProjectRule]]:
    found: dict[str, list[ProjectRule]] = defaultdict(list)
    by_path = definition.expressions.by_path
    for index, shape in enumerate(definition.shape.rules.project):
        base = ("rules", "project", index)
        attributes = [(name, by_path[(*base, "attributes", name)]) for name in shape.attributes]
        password = {name: _length(by_path[(*base, "on_create", name)]) for name in shape.on_create}
        once = [(name, by_path[(*base, "on_create", name)]) for name, length in password.items() if not length]
        disable = [(name, by_path[(*base, "disable", name)]) for name in shape.disable]
        found[shape.object].append(
            ProjectRule(
                name=shape.name,
                connector=shape.connector,
                object=shape.object,
                create=shape.create,
                correlate=shape.correlate,
                on_leave=shape.on_leave,
                on_out_of_scope=shape.on_out_of_scope,
                when=_condition(definition, calendar, *base, "when"),
                names=tuple(shape.attributes),
                evaluate=compile_set(attributes, calendar),
                disable_names=tuple(shape.disable),
                disable=compile_set(disable, calendar) if disable else None,
                once_names=tuple(name for name, _ in once),
                once=compile_set(once, calendar) if once else None,
                passwords={name: length for name, length in password.items() if length},
            )
        )
    return dict(found)


def _length(checked: Checked) -> int:
    """How long the password is that an expression makes; 0 if it makes none."""
    if isinstance(checked.tree, Call) and checked.tree.function == "InitialPassword":
        length = checked.tree.arguments[0]
        return length.value if isinstance(length, Constant) and isinstance(length.value, int) else 0
    return 0


def attributes_read(definition: Definition, connector: str, object_class: str) -> list[str]:
    """Attributes of a connector's objects that any rule reads or writes: what an import asks for."""
    names: set[str] = set()
    rules = definition.shape.rules
    for index, join in enumerate(rules.join):
        if (join.connector, join.object) == (connector, object_class):
            names.add(join.source)
            if (checked := definition.expressions.at("rules", "join", index, "present_when")) is not None:
                names |= checked.attributes
    for index, flow in enumerate(rules.flow):
        if (flow.connector, flow.object) == (connector, object_class):
            names |= definition.expressions.by_path["rules", "flow", index, "value"].attributes
    for project in rules.project:
        if (project.connector, project.object) == (connector, object_class):
            names |= set(project.attributes) | set(project.disable)
    return sorted(names)
