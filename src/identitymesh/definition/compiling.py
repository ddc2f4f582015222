"""A checked definition to the rule set of a run: every expression compiled once."""

from __future__ import annotations

from collections import defaultdict

from identitymesh.definition.reading import Definition
from identitymesh.rules.expressions import compile_one, compile_set
from identitymesh.rules.flow import FlowPlan, FlowRule
from identitymesh.rules.join import Condition, JoinPlan, JoinRule
from identitymesh.rules.project import ProjectRule
from identitymesh.rules.ruleset import MeshAttribute, MeshType, RuleSet


def compile_rules(definition: Definition, version: int) -> RuleSet:
    """Compile. ``version`` is the definition version in which the rules last changed."""
    shape = definition.shape
    renames = {
        rule.renamed_from: rule.name
        for stage in (shape.rules.join, shape.rules.flow, shape.rules.project)
        for rule in stage
        if rule.renamed_from is not None
    }
    return RuleSet(
        version=version,
        types=_types(definition),
        joins=_joins(definition),
        flows=_flows(definition),
        projections=_projections(definition),
        renames=renames,
        frozen=frozenset(shape.frozen),
    )


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


def _condition(definition: Definition, *path: str | int) -> Condition | None:
    checked = definition.expressions.at(*path)
    return compile_one(checked) if checked else None


def _joins(definition: Definition) -> dict[tuple[str, str], JoinPlan]:
    rules: dict[tuple[str, str], list[JoinRule]] = defaultdict(list)
    for index, shape in enumerate(definition.shape.rules.join):
        present = _condition(definition, "rules", "join", index, "present_when")
        rule = JoinRule(shape.name, shape.source, shape.target, shape.create, present)
        rules[shape.connector, shape.object].append(rule)
    return {where: JoinPlan(tuple(plan)) for where, plan in rules.items()}


def _flows(definition: Definition) -> dict[tuple[str, str], FlowPlan]:
    order = {name: index for index, name in enumerate(definition.shape.connectors)}
    shapes = list(enumerate(definition.shape.rules.flow))
    shapes.sort(key=lambda item: (-item[1].confidence, order[item[1].connector], item[1].name))
    grouped: dict[tuple[str, str], list[tuple[FlowRule, int]]] = defaultdict(list)
    for rank, (index, shape) in enumerate(shapes):
        rule = FlowRule(shape.name, shape.connector, shape.target, shape.confidence, rank)
        grouped[shape.connector, shape.object].append((rule, index))
    plans = {}
    for where, rules in grouped.items():
        items = [(rule.name, definition.expressions.by_path["rules", "flow", index, "value"]) for rule, index in rules]
        plans[where] = FlowPlan(tuple(rule for rule, _ in rules), compile_set(items))
    return plans


def _projections(definition: Definition) -> dict[str, list[ProjectRule]]:
    found: dict[str, list[ProjectRule]] = defaultdict(list)
    by_path = definition.expressions.by_path
    for index, shape in enumerate(definition.shape.rules.project):
        base = ("rules", "project", index)
        attributes = [(name, by_path[(*base, "attributes", name)]) for name in shape.attributes]
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
                when=_condition(definition, *base, "when"),
                names=tuple(shape.attributes),
                evaluate=compile_set(attributes),
                disable_names=tuple(shape.disable),
                disable=compile_set(disable) if disable else None,
            )
        )
    return dict(found)


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
