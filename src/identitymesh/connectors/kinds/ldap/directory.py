"""Reading and writing people in a directory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import ldap
from ldap.controls.libldap import AssertionControl

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
from identitymesh.connectors.kinds.ldap.ber import POST_READ, PostReadRequest
from identitymesh.connectors.kinds.ldap.changes import Rename, Wish, addition, rename, steps, wish
from identitymesh.connectors.kinds.ldap.delta import Streams, changes, highest, page_of
from identitymesh.connectors.kinds.ldap.entries import CSN, DN, EntryReader, Raw, entry_of, first, values_by_name
from identitymesh.connectors.kinds.ldap.failures import translate, translate_write
from identitymesh.connectors.kinds.ldap.filters import at_least, both, equals
from identitymesh.connectors.kinds.ldap.names import NotADn, split
from identitymesh.connectors.kinds.ldap.passwords import change_password
from identitymesh.connectors.kinds.ldap.pipelining import Pipeline
from identitymesh.connectors.kinds.ldap.reading import SCOPES, Ending, Request, Take, stream
from identitymesh.connectors.kinds.ldap.session import Answer, Connection, Session
from identitymesh.connectors.kinds.ldap.settings import LdapObject, LdapSettings
from identitymesh.connectors.kinds.ldap.values import write
from identitymesh.connectors.kinds.ldap.watermarks import read_watermark, write_watermark
from identitymesh.connectors.outcomes import after_a_change
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    ObjectMissing,
    ObjectRefused,
)
from identitymesh.model.attributes import Attributes, Value, values_of
from identitymesh.redaction import Secret

_ANYTHING = "(objectClass=*)"
_READERS = 100
_LOOKUP = 10  # entries; more than one is refused anyway
_ADDING = partial(translate_write, what="adding an entry", creates=True)


class LdapDirectory:
    """Implements every operation of the contract."""

    def __init__(self, settings: LdapSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._session = Session(settings, credentials)
        self._readers: dict[tuple[str, tuple[str, ...], tuple[str, ...]], EntryReader] = {}
        self._change_password = partial(change_password, settings, credentials)

    def close(self) -> None:
        self._session.close()

    def change_password(self, name: str, new: Secret) -> None:
        self._change_password(name, new)

    def test(self) -> TestReport:
        details: dict[str, str] = {}
        for object_class, selected in self._settings.objects.items():
            reader = self._reader(selected, [DN])
            failed = partial(translate, what=f"reading below {selected.base or 'the root'}")
            found = self._session.find(
                selected.base, SCOPES[selected.scope], selected.filter, reader.asked, failed, most=1
            )
            read = [reader.entry(dn, raw) for dn, raw in found if dn]
            if any(isinstance(one, BadEntry) for one in read):
                raise ConnectorMisconfigured(
                    f"{object_class}: entries have no {selected.key} that this login may read",
                    hint="Choose another key, or let bind_dn read it.",
                )
            seen = f"has entries with {selected.key}" if read else "is empty, or hidden from this login"
            details[object_class] = f"{selected.base or 'the root'} {seen}"
        details["connection"] = "encrypted" if self._settings.encrypted else "not encrypted"
        return TestReport(f"sees {', '.join(self._settings.objects)}", details)

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        self._selected(object_class)
        return [AttributeInfo(DN, required=True), *self._session.schema.describe()]

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        selected = self._selected(object_class)
        reader = self._reader(selected, names)
        streams = self._streams(selected, selected.filter)
        mark = selected.watermark
        begun = None if mark is None else highest(mark, streams)
        ending = Ending()
        for made in streams(reader.asked, reader.entry, ending):
            yield page_of(made)
        if ending.why:
            yield Page(incomplete=ending.why)
            return
        proof = f"the server ended the search with success, {ending.count:,} entries"
        watermark = None if mark is None or begun is None else write_watermark(mark, begun)
        yield Page(watermark=watermark, complete=Complete(ending.count, proof))

    def sync(self, object_class: str, names: Sequence[str], since: str | None) -> Iterator[Page]:
        selected = self._selected(object_class)
        mark = selected.watermark
        if mark is None:
            raise ConnectorMisconfigured(
                f"{object_class} has no watermark, so it cannot be read for changes only",
                hint="Set watermark: entryCSN (or modifyTimestamp), or schedule full runs only.",
            )
        filter_text = selected.filter
        if since is not None:
            filter_text = both(filter_text, at_least(mark, read_watermark(since, selected).encode()))
        yield from changes(mark, self._reader(selected, names, mark), self._streams(selected, filter_text))

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        selected = self._selected(object_class)
        found = [entry for entry in self._equal(selected, selected.key, key.encode(), names) if entry.key == key]
        if len(found) > 1:
            raise ConnectorMisconfigured(
                f"several entries of {object_class} have the same {selected.key}",
                hint="The key must identify one entry; entryUUID does.",
            )
        return found[0] if found else None

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        selected = self._selected(object_class)
        known = self._session.schema
        if attribute.lower() != DN and known and known.find(attribute) is None:
            # A server finds nothing by it and does not complain; nothing found means that an entry is made.
            raise ConnectorMisconfigured(
                f"the directory has no attribute {attribute}", hint="Correct `correlate` of the projection."
            )
        found: dict[str, Entry] = {}
        for one in values_of(value):
            encoded = write(one, known.get(attribute))
            matching = self._equal(selected, attribute, encoded[0], [*names, attribute] if names else ())
            exact = [entry for entry in matching if one in values_of(entry.attributes.get(attribute))]
            for entry in exact or matching:
                found.setdefault(entry.key, entry)
        if names and attribute not in names:
            for entry in found.values():
                entry.attributes.pop(attribute, None)
        return list(found.values())

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        add = self._addition(self._selected(object_class), attributes)
        return self._created(add, self._session.change(add.send, _ADDING))

    def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]:
        selected = self._selected(object_class)
        adds: deque[_Addition | _Refusal] = deque()

        def prepared() -> Iterator[_Addition | _Refusal]:
            for attributes in wanted:
                try:
                    adds.append(self._addition(selected, attributes))
                except ConnectorError as error:
                    adds.append(_Refusal(error))
                yield adds[-1]

        pipeline = Pipeline(self._session, _ADDING, self._settings.adds_at_once)
        for answer in pipeline.answers(prepared()):
            add = adds.popleft()
            if isinstance(add, _Refusal):
                yield add.error
            elif isinstance(answer, ConnectorError):
                yield answer
            else:
                yield self._made(add, answer)

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry:
        selected = self._selected(object_class)
        schema = self._session.schema
        wanted = wish(schema, change)
        names = list(dict.fromkeys([*current.attributes, *change.put, *change.clear]))
        reader = self._reader(selected, names, CSN)
        dn, raw = self._native(selected, current, names)
        managed = {
            primary: values
            for primary, values in values_by_name(schema, raw).items()
            if any(schema.primary(name) == primary for name in names)
        }
        moving = rename(schema, dn, wanted, managed)
        if moving is None:
            return self._modify(dn, raw, wanted, reader)
        dn, raw = self._rename(dn, raw, moving, reader)
        with after_a_change():
            return self._modify(dn, raw, wanted, reader)

    def _modify(self, dn: str, raw: Raw, wanted: Wish, reader: EntryReader) -> Entry:
        schema, guard = self._session.schema, self._guard(raw)
        todo = steps(schema, values_by_name(schema, raw), wanted, by_value=not guard)
        if not todo:
            return _sound(entry_of(reader, dn, raw))
        failed = partial(translate_write, what="changing an entry")
        controls = [*guard, *self._post_read(reader)]
        answer = self._session.change(lambda to: _int(to.modify_ext(dn, todo, serverctrls=controls)), failed)
        with after_a_change():
            changed = self._answered(answer or self._at(dn, reader), reader)
        if changed is None:
            raise ObjectMissing("changing an entry: it was deleted just after the change")
        return changed

    def delete(self, object_class: str, current: Entry) -> None:
        selected = self._selected(object_class)
        dn, raw = self._native(selected, current, list(current.attributes))
        failed = partial(translate_write, what="deleting an entry")
        guard = self._guard(raw)
        self._session.change(lambda to: _int(to.delete_ext(dn, serverctrls=guard)), failed)

    # -- parts of the above --------------------------------------------------------

    def _addition(self, selected: LdapObject, attributes: Attributes) -> _Addition:
        reader = self._reader(selected, list(attributes), CSN)
        return _Addition(*addition(self._session.schema, attributes), reader, self._post_read(reader))

    def _made(self, add: _Addition, answer: Answer) -> Entry | ConnectorError:
        try:
            return self._created(add, answer)
        except ConnectorError as error:
            return error

    def _created(self, add: _Addition, answer: Answer) -> Entry:
        with after_a_change():
            created = self._answered(answer or self._at(add.dn, add.reader), add.reader)
        if created is None:
            raise ConnectionLost("adding an entry: it is not there any more just after it was made")
        return created

    def _rename(self, dn: str, raw: Raw, moving: Rename, reader: EntryReader) -> tuple[str, Raw]:
        controls = [*self._guard(raw), *self._post_read(reader)]

        def send(to: Connection) -> int:
            return _int(to.rename(dn, moving.rdn, moving.parent, int(moving.delete_old), serverctrls=controls))

        failed = partial(translate_write, what="renaming an entry")
        try:
            answer: tuple[str, Raw] | None = self._session.change(send, failed)
        except ObjectMissing:  # the entry itself, or where it shall go
            if moving.parent is None or self._at(dn, reader) is None:
                raise
            raise ObjectRefused(
                "renaming an entry: the entry above its new dn does not exist", hint="Create it, or correct the dn."
            ) from None
        if answer is None:
            parent = split(dn).parent if moving.parent is None else moving.parent
            with after_a_change():
                answer = self._at(f"{moving.rdn},{parent}" if parent else moving.rdn, reader)
        if answer is None:
            raise ObjectMissing("renaming an entry: it was deleted just after the change")
        return answer

    def _guard(self, raw: Raw) -> list[AssertionControl]:
        """That the entry is what was read, checked by the server in the same moment (RFC 4528)."""
        csn = first(raw, CSN)
        if csn is None or not self._session.offers(ldap.CONTROL_ASSERT):
            return []
        return [AssertionControl(criticality=True, filterstr=equals(CSN, csn.encode()))]

    def _post_read(self, reader: EntryReader) -> list[PostReadRequest]:
        return [reader.post_read] if self._session.offers(POST_READ) else []

    def _native(self, selected: LdapObject, current: Entry, names: Sequence[str]) -> tuple[str, Raw]:
        if isinstance(current.native, tuple):
            return current.native
        found = self._equal(selected, selected.key, current.key.encode(), names)
        if len(found) != 1:
            raise ObjectMissing("it is not there any more")
        dn, raw = found[0].native
        return dn, raw

    def _at(self, dn: str, reader: EntryReader) -> tuple[str, Raw] | None:
        failed = partial(translate_write, what="reading an entry")
        try:
            found = self._session.find(dn, ldap.SCOPE_BASE, _ANYTHING, reader.asked, failed)
        except ObjectMissing:
            return None
        return found[0] if found else None

    def _answered(self, answer: tuple[str, Raw] | None, reader: EntryReader) -> Entry | None:
        return None if answer is None else _sound(entry_of(reader, *answer))

    def _equal(self, selected: LdapObject, attribute: str, value: bytes, names: Sequence[str]) -> list[Entry]:
        """The entries of this class that the directory thinks have this value."""
        reader = self._reader(selected, names, CSN)
        base, scope, filter_text = selected.base, SCOPES[selected.scope], selected.filter
        if attribute.lower() == DN:
            try:
                split(base := value.decode())
            except (NotADn, UnicodeDecodeError):
                return []
            scope = ldap.SCOPE_BASE
        else:
            filter_text = both(filter_text, equals(attribute, value))
        failed = partial(translate, what=f"looking up {attribute}")
        if attribute.lower() == DN:
            failed = partial(translate_write, what=f"looking up {attribute}")
        try:
            found = self._session.find(base, scope, filter_text, reader.asked, failed, most=_LOOKUP)
        except ObjectMissing:
            return []
        return [_sound(entry_of(reader, dn, raw)) for dn, raw in found if dn]

    def _streams(self, selected: LdapObject, filter_text: str) -> Streams:
        settings = self._settings

        def streams(names: Sequence[str], take: Take, ending: Ending) -> Iterator[list[Any]]:
            request = Request(selected, filter_text, names, settings.page_size, settings.timeout)
            return stream(self._session, request, take, ending)

        return streams

    def _reader(self, selected: LdapObject, names: Sequence[str], *more: str) -> EntryReader:
        """Rules ask for the same few sets of names again and again, so a reader learns each attribute once."""
        wanted = (selected.key, tuple(names), more)
        found = self._readers.get(wanted)
        if found is None:
            if len(self._readers) >= _READERS:
                self._readers.clear()
            found = self._readers[wanted] = EntryReader(self._session.schema, selected.key, names, more)
        return found

    def _selected(self, object_class: str) -> LdapObject:
        selected = self._settings.objects.get(object_class)
        if selected is None:
            raise ConnectorMisconfigured(
                f"the connector has no object class {object_class}",
                hint=f"It has: {', '.join(self._settings.objects)}.",
            )
        return selected


class _Addition(NamedTuple):
    """A new entry, ready to be sent."""

    dn: str
    values: list[tuple[str, list[bytes]]]
    reader: EntryReader
    controls: list[PostReadRequest]

    @property
    def size(self) -> int:
        return sum(len(one) for _, several in self.values for one in several)

    def send(self, connection: Connection) -> int:
        return _int(connection.add_ext(self.dn, self.values, serverctrls=self.controls))


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A new entry that cannot even be sent."""

    error: ConnectorError
    size: int = 0

    def send(self, _: Connection) -> int:
        raise self.error


def _sound(made: Entry | BadEntry) -> Entry:
    if isinstance(made, BadEntry):
        raise ObjectRefused(f"the entry cannot be taken over: {made.reason}")
    return made


def _int(asked: object) -> int:
    return int(str(asked))
