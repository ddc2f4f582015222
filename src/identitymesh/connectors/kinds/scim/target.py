"""Reading and writing people at a SCIM service."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from identitymesh.connectors.contract import (
    AttributeInfo,
    BadEntry,
    Complete,
    CredentialSource,
    Entry,
    Modification,
    Page,
    TestReport,
)
from identitymesh.connectors.kinds.scim.answers import Answer
from identitymesh.connectors.kinds.scim.describing import describe
from identitymesh.connectors.kinds.scim.discovery import Discovery, ResourceType
from identitymesh.connectors.kinds.scim.flattening import encode, flatten, merge, read_attributes, read_value
from identitymesh.connectors.kinds.scim.listing import Listing, conclusion, read_list
from identitymesh.connectors.kinds.scim.patching import operations, patch_body
from identitymesh.connectors.kinds.scim.paths import Path, parse_path, pick
from identitymesh.connectors.kinds.scim.session import Session
from identitymesh.connectors.kinds.scim.settings import ScimObject, ScimSettings
from identitymesh.connectors.outcomes import after_a_change
from identitymesh.errors import ConnectionLost, ConnectorMisconfigured, ObjectMissing, ObjectRefused
from identitymesh.model.attributes import Attributes, Scalar, Value, values_of

_NO_SUCH_METHOD = frozenset({405, 501})
_SETS = 100  # of names, whose paths are kept


class ScimTarget:
    """Implements TestOp, SchemaOp, SearchOp, GetOp, LookupOp, CreateOp, UpdateOp and DeleteOp."""

    def __init__(self, settings: ScimSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._session = Session(settings, credentials)
        self._discovery = Discovery(self._session)
        self._patch_fails = False
        self._parsed: dict[tuple[str, tuple[str, ...]], Mapping[str, Path]] = {}

    def close(self) -> None:
        self._session.close()

    def test(self) -> TestReport:
        abilities = self._discovery.abilities()
        can = [name for name in ("patch", "filter", "etag") if getattr(abilities, name)]
        details = {"service": ("supports " + ", ".join(can)) if abilities.known else "says nothing about itself"}
        for object_class, selected in self._settings.objects.items():
            answer = self._session.request(
                "GET", self._type(object_class).endpoint, query={"startIndex": 1, "count": 1}
            )
            answer.raise_for_status(on_object=False, writes=False)
            total = pick(answer.document(), "totalResults")
            counted = f"{total:,}" if isinstance(total, int) else "an unknown number"  # no words of the service's own
            details[object_class] = f"{counted} of resource type {selected.resource}"
        return TestReport(f"sees {', '.join(self._settings.objects)}", details)

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        return describe(self._type(object_class).shape)

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        kind = self._type(object_class)
        paths = self._paths(kind, names)
        listing = Listing()
        selected = self._selected(object_class)
        for resources in read_list(self._session, kind.endpoint, self._settings.page_size, selected.filter, listing):
            entries: list[Entry] = []
            bad: list[BadEntry] = []
            for position, resource in enumerate(resources, listing.read - len(resources) + 1):
                read = self._entry(resource, kind, paths)
                if isinstance(read, Entry):
                    entries.append(read)
                else:
                    bad.append(BadEntry(read, None, f"resource {position:,}"))
            yield Page(entries, bad)
        incomplete = conclusion(listing)
        if incomplete:
            yield Page(incomplete=incomplete)
        else:
            proof = f"totalResults {listing.total:,}, {len(listing.ids):,} different ids, pages joined end to end"
            yield Page(complete=Complete(listing.read, proof))

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        kind = self._type(object_class)
        answer = self._session.request("GET", _address(kind, key))
        try:
            answer.raise_for_status(on_object=True, writes=False)
        except ObjectMissing:
            return None
        return self._answered(answer, kind, self._paths(kind, names))

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        kind = self._type(object_class)
        path = parse_path(attribute, kind.shape)
        paths = self._paths(kind, names)
        found: dict[str, Entry] = {}
        for one in values_of(value):
            matching = self._equal(kind, path, one)
            exact = [resource for resource in matching if one in values_of(read_value(resource, path))]
            for resource in exact or matching:
                read = self._entry(resource, kind, paths)
                if isinstance(read, str):  # to leave it out would say that there is none
                    raise ObjectRefused(f"a resource with this {attribute} cannot be taken over: {read}")
                found.setdefault(read.key, read)
        return list(found.values())

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        kind = self._type(object_class)
        paths = self._paths(kind, list(attributes))
        put = {paths[name]: value for name, value in attributes.items()}
        resource = merge({"schemas": [kind.shape.schema] if kind.shape.schema else []}, put)
        answer = self._session.request("POST", kind.endpoint, body=resource)
        answer.raise_for_status(on_object=False, writes=True)
        if answer.body:
            return self._answered(answer, kind, paths)
        # Only the id is taken from the location: its host may be another one.
        key = answer.headers.get("location", "").rstrip("/").rpartition("/")[2]
        with after_a_change():
            created = self.get(object_class, key, list(attributes)) if key else None
        if created is None:
            raise ConnectionLost(f"{answer.asked}: the service does not say what it created")
        return created

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry:
        kind = self._type(object_class)
        resource, tag = self._native(kind, current)
        put = {parse_path(name, kind.shape): value for name, value in change.put.items()}
        clear = [parse_path(name, kind.shape) for name in change.clear]
        address = _address(kind, current.key)
        paths = self._paths(kind, list(dict.fromkeys([*current.attributes, *change.put, *change.clear])))
        answer: Answer | None = None
        if self._may_patch():
            asked = operations(resource, put, clear)
            if not asked:
                return current
            answer = self._session.request("PATCH", address, body=patch_body(asked), tag=tag)
            if answer.status in _NO_SUCH_METHOD and self._settings.update == "auto":
                self._patch_fails = True  # the service announced what it does not have
                answer = None
        if answer is None:
            body = _writable(merge(resource, put, clear), kind)
            answer = self._session.request("PUT", address, body=body, tag=tag)
        answer.raise_for_status(on_object=True, writes=True)
        if answer.body:
            return self._answered(answer, kind, paths)
        with after_a_change():
            changed = self.get(object_class, current.key, list(paths))
        if changed is None:
            raise ObjectMissing(f"{answer.asked}: it was deleted just after the change")
        return changed

    def delete(self, object_class: str, current: Entry) -> None:
        kind = self._type(object_class)
        answer = self._session.request("DELETE", _address(kind, current.key), tag=current.tag)
        answer.raise_for_status(on_object=True, writes=True)

    def _equal(self, kind: ResourceType, path: Path, value: Scalar) -> list[Mapping[str, Any]]:
        """The resources with this value. Checked again here: some services ignore a filter that they do not know."""
        if path.urn is None and path.name.lower() == "id":
            answer = self._session.request("GET", _address(kind, str(value)))
            if answer.status == 404:
                return []
            answer.raise_for_status(on_object=True, writes=False)
            return [answer.document()]
        listing = Listing()
        pages = read_list(self._session, kind.endpoint, self._settings.page_size, _filter(path, value), listing)
        found = [resource for page in pages for resource in page if isinstance(resource, dict)]
        matching: list[Mapping[str, Any]] = [one for one in found if _has(one, path, value)]
        if not matching and listing.total is not None and (why := conclusion(listing)):
            raise ConnectionLost(f"looking up {path}: {why}")
        return matching

    def _native(self, kind: ResourceType, current: Entry) -> tuple[Mapping[str, Any], str | None]:
        if isinstance(current.native, dict):
            return current.native, current.tag
        answer = self._session.request("GET", _address(kind, current.key))
        answer.raise_for_status(on_object=True, writes=False)
        return answer.document(), current.tag

    def _answered(self, answer: Answer, kind: ResourceType, paths: Mapping[str, Path]) -> Entry:
        resource = answer.document()
        read = self._entry(resource, kind, paths)
        if isinstance(read, str):
            raise ConnectionLost(f"{answer.asked}: {read}")
        return Entry(read.key, read.attributes, answer.headers.get("etag") or read.tag, resource)

    def _entry(self, resource: Any, kind: ResourceType, paths: Mapping[str, Path]) -> Entry | str:
        """The entry, or why it is none."""
        if not isinstance(resource, dict):
            return "the resource is not a JSON object"
        key = pick(resource, "id")
        if not isinstance(key, str) or not key:
            return "the resource has no id"
        meta = pick(resource, "meta")
        version = pick(meta, "version") if isinstance(meta, dict) else None
        attributes = read_attributes(resource, paths) if paths else flatten(resource, kind.shape)
        return Entry(key, attributes, version if isinstance(version, str) and version else None)

    def _paths(self, kind: ResourceType, names: Sequence[str]) -> Mapping[str, Path]:
        """Rules ask for the same few sets of names again and again, so each is parsed once."""
        wanted = (kind.endpoint, tuple(names))
        found = self._parsed.get(wanted)
        if found is None:
            if len(self._parsed) >= _SETS:
                self._parsed.clear()
            found = self._parsed[wanted] = {name: parse_path(name, kind.shape) for name in names}
        return found

    def _may_patch(self) -> bool:
        if self._settings.update == "auto":
            return not self._patch_fails and self._discovery.abilities().patch
        return self._settings.update == "patch"

    def _type(self, object_class: str) -> ResourceType:
        return self._discovery.resource_type(self._selected(object_class))

    def _selected(self, object_class: str) -> ScimObject:
        selected = self._settings.objects.get(object_class)
        if selected is None:
            raise ConnectorMisconfigured(
                f"the connector has no object class {object_class}",
                hint=f"It has: {', '.join(self._settings.objects)}.",
            )
        return selected


def _address(kind: ResourceType, key: str) -> str:
    if key in {"", ".", ".."}:  # a path of these would be another address
        raise ObjectRefused(f"{key!r} cannot be the id of a resource")
    return f"{kind.endpoint}/{quote(key, safe='')}"


def _writable(resource: Mapping[str, Any], kind: ResourceType) -> dict[str, Any]:
    """Without what only the service may write: it should ignore that (RFC 7644 section 3.5.1), and some refuse it."""
    kept: dict[str, Any] = {}
    for name, value in resource.items():
        shape = kind.shape.find(None, name)
        if name.lower() in {"id", "schemas"} or (name.lower() != "meta" and (shape is None or shape.writable)):
            kept[name] = value
    return kept


def _filter(path: Path, value: Scalar) -> str:
    """``userName eq "a"``, ``emails[type eq "work" and value eq "a"]`` (RFC 7644 section 3.4.2.2)."""
    literal = json.dumps(encode(value), ensure_ascii=False)
    if not path.only:
        return f"{path} eq {literal}"
    return f"{path.element[:-1]} and {path.part or 'value'} eq {literal}]"


def _has(resource: Mapping[str, Any], path: Path, value: Scalar) -> bool:
    """Whether the value is among the resource's, in any case: most SCIM text is compared so (RFC 7643 section 2.2)."""
    held = values_of(read_value(resource, path))
    if isinstance(value, str):
        return value.casefold() in {one.casefold() for one in held if isinstance(one, str)}
    return any(type(one) is type(value) and one == value for one in held)
