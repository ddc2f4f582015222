"""Reads a definition: text to a checked :class:`Definition`, or every problem at once with its line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from identitymesh.connectors.contract import Kind
from identitymesh.connectors.settings import ConnectorSettings, secret_fields
from identitymesh.definition import checking
from identitymesh.definition.positions import Document, Path, dotted, parse
from identitymesh.definition.shape import DEFAULT_LIMITS, DefinitionShape, LimitShape, LimitsShape
from identitymesh.errors import DefinitionRefused, Problem
from identitymesh.secrets.references import SecretReference


@dataclass(frozen=True, slots=True)
class ConnectorDefinition:
    """One connector: its kind and its checked settings."""

    name: str
    kind: Kind
    settings: ConnectorSettings

    @property
    def objects(self) -> tuple[str, ...]:
        """Object classes that it has."""
        return tuple(self.settings.objects)  # type: ignore[attr-defined]  # every kind declares `objects`

    def watermark(self, object_class: str) -> str | None:
        """What marks how far changes were read, where its kind has a choice."""
        one = self.settings.objects[object_class]  # type: ignore[attr-defined]  # every kind declares `objects`
        return getattr(one, "watermark", None)

    @property
    def secrets(self) -> dict[str, SecretReference]:
        return secret_fields(self.settings)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(self.kind.endpoints(self.settings))


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked definition. ``digest`` is the SHA-256 of its text, hex."""

    text: str
    digest: str
    shape: DefinitionShape
    connectors: Mapping[str, ConnectorDefinition]
    expressions: checking.Expressions
    warnings: tuple[Problem, ...]

    def limits_of(self, connector: str) -> LimitsShape:
        """Limits of a target: product defaults, then `default`, then its own, merged key by key."""
        merged = DEFAULT_LIMITS
        for layer in (self.shape.limits.get("default"), self.shape.limits.get(connector)):
            if layer is not None:
                merged = _merge(merged, layer)
        return merged


def _merge(base: LimitsShape, over: LimitsShape) -> LimitsShape:
    def one(kind: str) -> LimitShape:
        below, above = getattr(base, kind), getattr(over, kind)
        given = above.model_fields_set
        return LimitShape(**{name: getattr(above if name in given else below, name) for name in ("count", "percent")})

    return LimitsShape(**{kind: one(kind) for kind in ("create", "update", "disable", "delete")})


def read(text: str, *, source: str, kinds: Mapping[str, Kind]) -> Definition:
    """Read and check a definition.

    Raises:
        DefinitionRefused: with every problem found, each with its line; no value is quoted.
    """
    document, problems = parse(text)
    if document is None:
        raise DefinitionRefused(source, problems)
    shape, problems = _shape(document)
    if shape is None:
        connectors, more = _connectors(document, kinds)
        raise DefinitionRefused(source, _in_order([*problems, *more]), hint=_hint([*problems, *more]))
    connectors, problems = _connectors(document, kinds)
    expressions, findings = checking.check(shape, _objects(connectors), _unwritable(connectors))
    problems += [_located(document, path, message, severity) for path, message, severity in findings]
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise DefinitionRefused(source, _in_order(errors), hint=_hint(errors))
    warnings = tuple(_in_order(problem for problem in problems if problem.severity == "warning"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Definition(text, digest, shape, connectors, expressions, warnings)


def _objects(connectors: Mapping[str, ConnectorDefinition]) -> dict[str, frozenset[str]]:
    return {name: frozenset(connector.objects) for name, connector in connectors.items()}


def _unwritable(connectors: Mapping[str, ConnectorDefinition]) -> dict[tuple[str, str], str]:
    pairs = [(connector, one) for connector in connectors.values() for one in connector.objects]
    return {(connector.name, one): connector.kind.unwritable(connector.settings, one) for connector, one in pairs}


def _shape(document: Document) -> tuple[DefinitionShape | None, list[Problem]]:
    try:
        return DefinitionShape.model_validate(document.data), []
    except ValidationError as error:
        return None, _problems(document, error, ())


def _connectors(document: Document, kinds: Mapping[str, Kind]) -> tuple[dict[str, ConnectorDefinition], list[Problem]]:
    found: dict[str, ConnectorDefinition] = {}
    problems: list[Problem] = []
    entries = document.data.get("connectors") if isinstance(document.data, dict) else None
    for name, data in (entries if isinstance(entries, dict) else {}).items():
        path: Path = ("connectors", name)
        kind = kinds.get(str(data.get("type"))) if isinstance(data, dict) else None
        if kind is None:
            known = ", ".join(sorted(kinds))
            problems.append(_located(document, (*path, "type"), f"unknown connector type; there are: {known}"))
            continue
        try:
            settings = kind.settings.model_validate(data)
        except ValidationError as error:
            problems += _problems(document, error, path)
            continue
        found[name] = ConnectorDefinition(name, kind, cast("ConnectorSettings", settings))
    return found, problems


def _problems(document: Document, error: ValidationError, prefix: Path) -> list[Problem]:
    problems = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        path = (*prefix, *item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] == "missing":
            message = "missing"
        problems.append(_located(document, path, message))
    return problems


def _located(document: Document, path: Path, message: str, severity: str = "error") -> Problem:
    position = document.locate(path)
    line, column = position or (None, None)
    return Problem(message, dotted(path), line, column, severity)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0))


def _hint(problems: Iterable[Problem]) -> str:
    if any("plaintext" in problem.message or "password in a URL" in problem.message for problem in problems):
        return "Store the value with `identitymesh secrets set secret://…` and write that reference in its place."
    return (
        "Correct the lines above and apply the file again; `identitymesh schema` gives the JSON Schema for your editor."
    )


def schema(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a definition file, with the settings of every kind of connector."""
    whole = DefinitionShape.model_json_schema()
    definitions = whole.setdefault("$defs", {})
    choices = []
    for name, kind in sorted(kinds.items()):
        own = _kind_schema(kind.settings, name, definitions)
        definitions[f"connector-{name}"] = own
        choices.append({"$ref": f"#/$defs/connector-{name}"})
    whole["properties"]["connectors"] = {"type": "object", "additionalProperties": {"oneOf": choices}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "title": "Identity Mesh definition"}


def _kind_schema(model: type[BaseModel], name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    own = model.model_json_schema(ref_template=f"#/$defs/{name}-{{model}}")
    for inner, body in own.pop("$defs", {}).items():
        definitions[f"{name}-{inner}"] = body
    own["properties"]["type"] = {"const": name}
    return own
