"""What the shape alone cannot say: names that must exist, expressions that must check."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from identitymesh.definition import schedules
from identitymesh.definition.positions import Path
from identitymesh.definition.shape import DefinitionShape, ProjectShape
from identitymesh.errors import ExpressionError
from identitymesh.rules.expressions import Checked
from identitymesh.rules.expressions import check as check_expression
from identitymesh.rules.expressions.tree import Constant

_CONDITIONS = (("when",), ("present_when",))  # what follows ("rules", stage, index)
Finding = tuple[Path, str, str]  # path, message, severity


@dataclass(frozen=True, slots=True)
class Expressions:
    """Every expression of a definition, checked, by its path in the file."""

    by_path: Mapping[Path, Checked]

    def at(self, *path: str | int) -> Checked | None:
        return self.by_path.get(path)


def check(
    shape: DefinitionShape, objects: Mapping[str, frozenset[str]], unwritable: Mapping[tuple[str, str], str]
) -> tuple[Expressions, list[Finding]]:
    """Check a whole definition.

    Args:
        shape: what was read.
        objects: the object classes of each connector that has valid settings.
        unwritable: connectors and object classes that cannot be targets, and why.
    """
    findings = [
        *_mesh(shape),
        *_names(shape),
        *_rules(shape, objects),
        *_targets(shape, unwritable),
        *_limits(shape),
        *_schedules(shape),
    ]
    checked: dict[Path, Checked] = {}
    for path, text, names in _all_expressions(shape):
        try:
            given = "FirstFree" if path[1] == "flow" else "InitialPassword" if "on_create" in path[3:4] else ""
            checked[path] = check_expression(text, names=names, condition=path[3:] in _CONDITIONS, may_give=given)
        except ExpressionError as error:
            findings.append((path, f"{error} (line {error.line}, column {error.column} of the expression)", "error"))
    findings += _first_free(shape, checked)
    findings += _passwords(shape, checked)
    return Expressions(checked), findings


def _passwords(shape: DefinitionShape, checked: Mapping[Path, Checked]) -> Iterator[Finding]:
    """One password for one account: it is found again by target and anchor alone."""
    seen: dict[str, str] = {}
    for index, rule in enumerate(shape.rules.project):
        made = []
        for name in rule.on_create:
            path: Path = ("rules", "project", index, "on_create", name)
            if path in checked and "InitialPassword" in checked[path].functions:
                made.append(path)
                if not isinstance(getattr(checked[path].tree, "arguments", (None,))[0], Constant):
                    yield path, "the length of a password must be a number", "error"
        for path in made[1:]:
            yield path, "an account has one initial password", "error"
        if made and seen.setdefault(rule.connector, rule.object) != rule.object:
            yield made[0], f"only one object class of {rule.connector} can have initial passwords", "error"


def _first_free(shape: DefinitionShape, checked: Mapping[Path, Checked]) -> Iterator[Finding]:
    """A value for one alone is one text."""
    for index, rule in enumerate(shape.rules.flow):
        path: Path = ("rules", "flow", index, "value")
        mesh_type = shape.mesh.get(rule.object)
        if mesh_type is None or path not in checked or "FirstFree" not in checked[path].functions:
            continue
        for attribute in mesh_type.attributes:
            if attribute.name == rule.target and (attribute.many or attribute.type != "string"):
                yield path, "FirstFree gives one text: the attribute must be a string, and not many", "error"


def _all_expressions(shape: DefinitionShape) -> Iterator[tuple[Path, str, Collection[str] | None]]:
    """Path, text and the names that may be read; sources may have any attribute (``None``)."""
    for index, join in enumerate(shape.rules.join):
        if join.present_when is not None:
            yield ("rules", "join", index, "present_when"), join.present_when, None
    for index, flow in enumerate(shape.rules.flow):
        yield ("rules", "flow", index, "value"), flow.value, None
    for index, project in enumerate(shape.rules.project):
        names = _attributes_of(shape, project.object)
        base: Path = ("rules", "project", index)
        if project.when is not None:
            yield (*base, "when"), project.when, names
        for name, text in project.attributes.items():
            yield (*base, "attributes", name), text, names
        for name, text in project.disable.items():
            yield (*base, "disable", name), text, names
        for name, text in project.on_create.items():
            yield (*base, "on_create", name), text, names


def _attributes_of(shape: DefinitionShape, type_name: str) -> frozenset[str]:
    mesh_type = shape.mesh.get(type_name)
    return frozenset(attribute.name for attribute in mesh_type.attributes) if mesh_type else frozenset()


def _mesh(shape: DefinitionShape) -> Iterator[Finding]:
    for name, mesh_type in shape.mesh.items():
        seen: set[str] = set()
        for index, attribute in enumerate(mesh_type.attributes):
            if attribute.name in seen:
                yield ("mesh", name, "attributes", index, "name"), "this attribute stands here twice", "error"
            seen.add(attribute.name)
        if mesh_type.anchor not in seen:
            yield ("mesh", name, "anchor"), f"no such attribute{_near(mesh_type.anchor, seen)}", "error"
        elif any(one.many for one in mesh_type.attributes if one.name == mesh_type.anchor):
            yield ("mesh", name, "anchor"), "the anchor must have one value, not many", "error"


def _names(shape: DefinitionShape) -> Iterator[Finding]:
    for stage in ("join", "flow", "project"):
        rules = getattr(shape.rules, stage)
        seen: set[str] = set()
        for index, rule in enumerate(rules):
            if rule.name in seen:
                yield ("rules", stage, index, "name"), "another rule of this stage has this name", "error"
            seen.add(rule.name)
        for index, rule in enumerate(rules):
            if rule.renamed_from in seen:
                path: Path = ("rules", stage, index, "renamed_from")
                yield path, "a rule of that name still exists, so this one is not its new name", "error"
    formers: set[str] = set()
    for name, settings in shape.connectors.items():
        former = settings.get("renamed_from")
        if former in shape.connectors or former in formers:
            said = "still exists" if former in shape.connectors else "has another new name already"
            yield ("connectors", name, "renamed_from"), f"the connector {former} {said}: leave this line out", "error"
        if former is not None:
            formers.add(former)


def _rules(shape: DefinitionShape, objects: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    checks: dict[str, Callable[..., Iterator[Finding]]] = {"join": _join, "flow": _flow, "project": _project}
    for stage, special in checks.items():
        for index, rule in enumerate(getattr(shape.rules, stage)):
            base: Path = ("rules", stage, index)
            if rule.connector not in shape.connectors:
                yield (*base, "connector"), f"no such connector{_near(rule.connector, shape.connectors)}", "error"
            elif rule.connector in objects and rule.object not in objects[rule.connector]:
                near = _near(rule.object, objects[rule.connector])
                yield (*base, "object"), f"connector {rule.connector} has no such object{near}", "error"
            if rule.object not in shape.mesh:
                yield (*base, "object"), f"the mesh has no such type{_near(rule.object, shape.mesh)}", "error"
            else:
                yield from special(shape, rule, base)
    if not any(rule.create for rule in shape.rules.join):
        yield ("rules", "join"), "no join rule has create: true, so nobody will ever enter the mesh", "warning"


def _join(shape: DefinitionShape, rule: object, base: Path) -> Iterator[Finding]:
    names = _attributes_of(shape, rule.object)  # type: ignore[attr-defined]
    if rule.target not in names:  # type: ignore[attr-defined]
        yield (*base, "target"), f"the mesh has no such attribute{_near(rule.target, names)}", "error"  # type: ignore[attr-defined]


_flow = _join


def _project(shape: DefinitionShape, rule: ProjectShape, base: Path) -> Iterator[Finding]:
    if rule.connector in shape.connectors and not rule.create and rule.correlate is None:
        yield base, "neither create nor correlate: this rule can never find or make an account", "warning"
    both = sorted(set(rule.attributes) & {rule.correlate} & set(rule.disable))
    for name in both:
        yield (*base, "disable", name), "the correlate attribute must stay as it is", "error"


def _targets(shape: DefinitionShape, unwritable: Mapping[tuple[str, str], str]) -> Iterator[Finding]:
    for index, rule in enumerate(shape.rules.project):
        why = unwritable.get((rule.connector, rule.object))
        if why:
            message = f"nothing can be written to {rule.object} of {rule.connector}: {why}"
            yield ("rules", "project", index, "connector"), message, "error"


def _limits(shape: DefinitionShape) -> Iterator[Finding]:
    targets = {rule.connector for rule in shape.rules.project}
    for name in shape.limits:
        if name != "default" and name not in targets:
            yield ("limits", name), f"no projection writes to a connector of this name{_near(name, targets)}", "error"


def _schedules(shape: DefinitionShape) -> Iterator[Finding]:
    for name, settings in shape.connectors.items():
        for field in ("schedule", "full_schedule"):
            if settings.get(field) is not None and (problem := schedules.check(settings[field])):
                yield ("connectors", name, field), problem, "error"
    sources = {rule.connector: None for rule in shape.rules.join if rule.create and rule.connector in shape.connectors}
    for name in sources:
        if not shape.connectors[name].get("full_schedule"):
            message = "no full_schedule: who is gone from here is noticed only when somebody starts a complete run"
            yield ("connectors", name), message, "warning"


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
