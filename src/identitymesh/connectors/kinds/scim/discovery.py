"""What a service says about itself: ServiceProviderConfig, ResourceTypes and Schemas (RFC 7644 section 4).

Each is asked for once in a session, when it is first needed. Services that leave one out
are served with what the RFCs say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from identitymesh.connectors.kinds.scim.answers import LONGEST_DETAIL
from identitymesh.connectors.kinds.scim.paths import pick
from identitymesh.connectors.kinds.scim.session import Session
from identitymesh.connectors.kinds.scim.settings import ScimObject
from identitymesh.connectors.kinds.scim.shapes import GROUP, USER, ResourceShape, default_shape, read_shapes
from identitymesh.errors import ConnectorMisconfigured

_NOT_OFFERED: Final = frozenset({400, 403, 404, 405, 501})
_DEFAULTS: Final = {"user": ("/Users", USER, "User"), "group": ("/Groups", GROUP, "Group")}


@dataclass(frozen=True, slots=True)
class Abilities:
    """``known`` is false where the service has no ServiceProviderConfig."""

    known: bool = False
    patch: bool = False
    filter: bool = False
    etag: bool = False


@dataclass(frozen=True, slots=True)
class ResourceType:
    endpoint: str
    shape: ResourceShape


class Discovery:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._abilities: Abilities | None = None
        self._types: list[dict[str, Any]] | None = None
        self._scrub: Callable[[str], str] = str
        self._schemas: dict[str, dict[str, Any]] | None = None
        self._found: dict[tuple[str, str | None], ResourceType] = {}

    def abilities(self) -> Abilities:
        if self._abilities is None:
            document = self._ask("/ServiceProviderConfig")
            self._abilities = (
                Abilities()
                if document is None
                else Abilities(True, *(_supported(document, name) for name in ("patch", "filter", "etag")))
            )
        return self._abilities

    def resource_type(self, selected: ScimObject) -> ResourceType:
        """Endpoint and shape of what an object class of the definition names.

        Raises:
            ConnectorMisconfigured: the service has no such resource type.
        """
        wanted = (selected.resource.lower(), selected.endpoint)
        if wanted not in self._found:
            self._found[wanted] = self._look_up(selected)
        return self._found[wanted]

    def _look_up(self, selected: ScimObject) -> ResourceType:
        types = self._resource_types()
        described = next((kind for kind in types if _is_named(kind, selected.resource)), None)
        default = _DEFAULTS.get(selected.resource.lower())
        if described is None:
            if types or (default is None and selected.endpoint is None):
                names = ", ".join(sorted(str(pick(kind, "name")) for kind in types)) or "none"
                raise ConnectorMisconfigured(
                    f"the service has no resource type {selected.resource}",
                    hint=f"It names these: {self._scrub(names)[:LONGEST_DETAIL]}.",
                )
            endpoint, schema, _ = default or (selected.endpoint or "", "", "")
            return ResourceType(selected.endpoint or endpoint, default_shape(schema))
        endpoint = selected.endpoint or str(pick(described, "endpoint") or f"/{selected.resource}s")
        return ResourceType("/" + endpoint.strip("/"), self._shape(described))

    def _shape(self, described: dict[str, Any]) -> ResourceShape:
        schema = str(pick(described, "schema") or "")
        known = default_shape(schema)
        schemas = self._known_schemas()
        attributes = _attributes(schemas, schema) or known.attributes
        extensions = dict(known.extensions)
        for extension in pick(described, "schemaExtensions") or ():
            urn = str(pick(extension, "schema") or "") if isinstance(extension, dict) else ""
            parts = _attributes(schemas, urn)
            if urn and (parts or urn.lower() not in extensions):
                extensions[urn.lower()] = (urn, parts)
        return ResourceShape(schema, attributes, extensions)

    def _resource_types(self) -> list[dict[str, Any]]:
        if self._types is None:
            self._types = list(self._listed("/ResourceTypes"))
        return self._types

    def _known_schemas(self) -> dict[str, dict[str, Any]]:
        if self._schemas is None:
            self._schemas = {str(pick(schema, "id")).lower(): schema for schema in self._listed("/Schemas")}
        return self._schemas

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        document = self._ask(path)
        resources = None if document is None else pick(document, "Resources")
        yield from (resource for resource in resources or () if isinstance(resource, dict))

    def _ask(self, path: str) -> dict[str, Any] | None:
        answer = self._session.request("GET", path)
        if answer.status in _NOT_OFFERED:
            return None
        answer.raise_for_status(on_object=False, writes=False)
        self._scrub = answer.scrub
        return answer.document()


def _attributes(schemas: dict[str, dict[str, Any]], urn: str) -> dict[str, Any]:
    described = schemas.get(urn.lower())
    return {} if described is None else read_shapes(pick(described, "attributes"))


def _supported(document: dict[str, Any], name: str) -> bool:
    described = pick(document, name)
    return isinstance(described, dict) and pick(described, "supported") is True


def _is_named(kind: dict[str, Any], name: str) -> bool:
    return name.lower() in {str(pick(kind, "name")).lower(), str(pick(kind, "id")).lower()}
