"""One write transaction of a batch: what is looked up for it, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from operator import ne
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from identitymesh.audit import Record
from identitymesh.model.accounts import Account
from identitymesh.model.identities import Identity
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.runs.contract import Pair
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.bulk import among, as_stored, insert_rows, update_rows
from identitymesh.storage.reviews import SqlReviewRows
from identitymesh.storage.rows import (
    ACCOUNT_FIELDS,
    ACCOUNTS,
    IDENTITIES,
    IDENTITY_FIELDS,
    OBJECT_ID,
    OBJECT_LINK,
    OBJECT_REST,
    OBJECTS,
    chunks,
    identity_row,
    identity_value,
    object_link,
    object_rest,
    stored_object,
)
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r
from identitymesh.storage.unique import SqlUniqueRows

_NONE: frozenset[Pair] = frozenset()
_OBJECT = m.connector_object.c
_ACCOUNT = m.account.c


_IDENTITIES = IDENTITIES.add_columns(m.identity.c.ruleset)


class _Updates:
    """Rows to update, those together that change the same columns: SQLite rewrites the index of a column that is set.

    ``always`` names the columns that are set in every row.
    """

    def __init__(self, always: Sequence[str]) -> None:
        self._always = always
        self._rows: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}

    def add(
        self,
        key: Sequence[Any],
        always: Sequence[Any],
        names: Sequence[str],
        before: Sequence[Any] | None,
        after: Sequence[Any],
    ) -> None:
        """Of ``names`` those are set whose values differ; all of them when nobody knows what was ``before``."""
        if before is None:
            self._rows.setdefault(tuple(names), []).append((*after, *always, *key))
            return
        moved = list(map(ne, before, after))
        self._rows.setdefault(tuple(compress(names, moved)), []).append((*compress(after, moved), *always, *key))

    def carry_out(self, connection: Connection, table: Table, keys: Sequence[str]) -> None:
        for names, rows in self._rows.items():
            update_rows(connection, table, keys, (*names, *self._always), rows)


class SqlMeshTransaction:
    """``MeshTransaction`` on one connection. Loaded identities and accounts are locked where the database can."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bound = partial(as_stored, connection)
        self._among = partial(among, connection)
        self._now = self._bound(datetime.now(UTC))
        # What was read here, so that only what changed is written.
        self._objects: dict[ObjectId, StoredObject] = {}
        self._identities: dict[int, Sequence[Any]] = {}
        self._accounts_read: dict[tuple[int, str, str], Account] = {}
        self.inserted = 0  # objects and identities, for the statistics of the database
        self.unique = SqlUniqueRows(connection, self._now)
        self.reviews = SqlReviewRows(connection)

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return self._connection.execute(query).all()

    # -- reads -------------------------------------------------------------------

    def objects(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, StoredObject]:
        found: dict[str, StoredObject] = {}
        base = OBJECTS.where(_OBJECT.connector == connector, _OBJECT.object == object_class)
        for some in chunks(list(keys)):
            for row in self._rows(base.where(self._among(_OBJECT.key, some))):
                one = stored_object(row)
                found[one.id.key] = self._objects[one.id] = one
        return found

    def objects_of(self, identity_ids: Collection[int]) -> dict[int, list[StoredObject]]:
        found: dict[int, list[StoredObject]] = {}
        for some in chunks(list(identity_ids)):
            query = OBJECTS.where(self._among(_OBJECT.identity_id, some))
            for one in map(stored_object, self._rows(query.order_by(_OBJECT.connector, _OBJECT.object, _OBJECT.key))):
                found.setdefault(one.identity_id or 0, []).append(one)
        return found

    def objects_by_id(self, ids: Collection[ObjectId]) -> list[StoredObject]:
        by_place: dict[tuple[str, str], list[str]] = {}
        for one in sorted(ids, key=lambda one: (one.connector, one.object, one.key)):
            by_place.setdefault((one.connector, one.object), []).append(one.key)
        return [found for place, keys in by_place.items() for found in self.objects(*place, keys).values()]

    def correlated(self, connector: str, object_class: str, texts: Collection[str]) -> dict[str, list[StoredObject]]:
        found: dict[str, list[StoredObject]] = {}
        base = OBJECTS.where(_OBJECT.connector == connector, _OBJECT.object == object_class)
        for some in chunks(list(texts)):
            for one in map(stored_object, self._rows(base.where(self._among(_OBJECT.correlate, some)))):
                found.setdefault(one.correlate or "", []).append(one)
        for several in found.values():
            several.sort(key=lambda one: one.id.key)  # if SQLite sorts, it walks through all of the target
        return found

    def waiting(self, object_class: str, pairs: Collection[Pair]) -> set[ObjectId]:
        columns = m.waiting_key.c
        found: set[ObjectId] = set()
        for attribute, texts in _by_attribute(pairs).items():
            base = select(columns.connector, columns.key).where(
                columns.object == object_class, columns.attribute == attribute
            )
            for some in chunks(texts):
                rows = self._rows(base.where(self._among(columns.value, some)))
                found.update(ObjectId(row.connector, object_class, row.key) for row in rows)
        return found

    def candidates(self, type_name: str, pairs: Collection[Pair]) -> dict[Pair, set[int]]:
        columns = m.join_key.c
        found: dict[Pair, set[int]] = {}
        for attribute, texts in _by_attribute(pairs).items():
            base = select(columns.value, columns.identity_id).where(
                columns.type == type_name, columns.attribute == attribute
            )
            for some in chunks(texts):
                for row in self._rows(base.where(self._among(columns.value, some))):
                    found.setdefault((attribute, row.value), set()).add(row.identity_id)
        return found

    def identities(self, ids: Collection[int]) -> dict[int, Identity]:
        found: dict[int, Identity] = {}
        for some in chunks(list(ids)):
            query = _IDENTITIES.where(self._among(m.identity.c.id, some)).order_by(m.identity.c.id).with_for_update()
            for row in self._rows(query):
                number, type_name, anchor, document, present, left_at, due, ruleset = row
                found[number] = identity_value(row[:-1])
                was = (type_name, anchor, document, present, left_at, due, ruleset, None)
                self._identities[number] = was
        return found

    def next_identity_id(self) -> int:
        # The mesh lease makes this process the only one that numbers identities; none is ever deleted.
        return int(self._connection.scalar(select(func.coalesce(func.max(m.identity.c.id), 0))) or 0) + 1

    def accounts_of(self, identity_ids: Collection[int]) -> dict[int, list[Account]]:
        found: dict[int, list[Account]] = {}
        for some in chunks(list(identity_ids)):
            query = ACCOUNTS.where(self._among(_ACCOUNT.identity_id, some))
            # One order for everybody who locks: a run and an export must not wait for each other.
            query = query.order_by(*m.account.primary_key).with_for_update()
            for one in map(Account._make, self._rows(query)):
                found.setdefault(one.identity_id, []).append(one)
                self._accounts_read[one.place] = one
        return found

    def accounts_by_key(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, Account]:
        found = self._accounts(connector, object_class, _ACCOUNT.key, keys)
        return {one.key: one for one in found if one.key is not None}

    def accounts_by_correlate(
        self, connector: str, object_class: str, texts: Collection[str]
    ) -> dict[str, list[Account]]:
        found: dict[str, list[Account]] = {}
        for one in self._accounts(connector, object_class, _ACCOUNT.correlate, texts):
            found.setdefault(one.correlate or "", []).append(one)
        return found

    def _accounts(
        self, connector: str, object_class: str, column: ColumnElement[Any], values: Collection[str]
    ) -> Iterator[Account]:
        base = ACCOUNTS.where(_ACCOUNT.connector == connector, _ACCOUNT.object == object_class)
        for some in chunks(list(values)):
            yield from map(Account._make, self._rows(base.where(self._among(column, some))))

    def _at(self, table: Any, place: tuple[str, str], keys: Sequence[str]) -> list[ColumnElement[bool]]:
        return [table.c.connector == place[0], table.c.object == place[1], self._among(table.c.key, keys)]

    # -- writes ------------------------------------------------------------------

    def put_objects(self, objects: Sequence[StoredObject], ruleset: int, new: Collection[ObjectId] = ()) -> None:
        changed = [one for one in objects if one.id in self._objects]
        fresh = [one for one in objects if one.id not in self._objects] if changed else objects
        self.remove_objects([one.id for one in fresh if one.id not in new])
        rows = [(*one.id, *object_link(one, ruleset, self._bound), *object_rest(one, self._now)) for one in fresh]
        insert_rows(self._connection, m.connector_object, (*OBJECT_ID, *OBJECT_LINK, *OBJECT_REST), rows)
        self.inserted += len(rows)
        self._change_objects(changed, ruleset)

    def _change_objects(self, objects: Sequence[StoredObject], ruleset: int) -> None:
        """Objects that were seen and that this transaction has read as they were."""
        updates = _Updates(("ruleset", "absent_run", *OBJECT_REST))
        for one in objects:
            link = object_link(one, ruleset, self._bound)
            before = object_link(self._objects[one.id], ruleset, self._bound)
            updates.add(one.id, (ruleset, None, *object_rest(one, self._now)), OBJECT_LINK, before, link)
        updates.carry_out(self._connection, m.connector_object, OBJECT_ID)

    def relink_objects(self, objects: Sequence[StoredObject], ruleset: int) -> None:
        rows = [(*object_link(one, ruleset, self._bound), *one.id) for one in objects]
        update_rows(self._connection, m.connector_object, OBJECT_ID, OBJECT_LINK, rows)

    def remove_objects(self, ids: Sequence[ObjectId]) -> None:
        for place, keys in _keys_by_place(ids).items():
            for some in chunks(keys):
                self._connection.execute(delete(m.connector_object).where(*self._at(m.connector_object, place, some)))

    def put_waiting(self, pairs: Mapping[ObjectId, Sequence[Pair]], new: Collection[ObjectId] = ()) -> None:
        for place, keys in _keys_by_place(one for one in pairs if one not in new).items():
            for some in chunks(keys):
                self._connection.execute(delete(m.waiting_key).where(*self._at(m.waiting_key, place, some)))
        rows = [(*one, *pair) for one, several in pairs.items() for pair in several]
        insert_rows(self._connection, m.waiting_key, (*OBJECT_ID, "attribute", "value"), rows)

    def put_identities(self, new: Sequence[Identity], changed: Sequence[Identity], ruleset: int) -> None:
        rows = [(*identity_row(one, ruleset, self._bound, self._now), self._now, one.id) for one in new]
        insert_rows(self._connection, m.identity, (*IDENTITY_FIELDS, "created_at", "id"), rows)
        updates = _Updates(())
        for one in changed:
            row = identity_row(one, ruleset, self._bound, self._now)
            updates.add((one.id,), (), IDENTITY_FIELDS, self._identities.get(one.id), row)
        updates.carry_out(self._connection, m.identity, ("id",))

    def settle_identities(self, ids: Collection[int], ruleset: int) -> None:
        for some in chunks(ids):
            mine = self._among(m.identity.c.id, some)
            self._connection.execute(update(m.identity).where(mine).values(ruleset=ruleset))

    def put_join_keys(self, type_name: str, keys: Mapping[int, Collection[Pair]], new: Collection[int]) -> None:
        stored = self._join_keys([one for one in keys if one not in new])
        moved = {one: pairs for one, pairs in keys.items() if one in new or stored.get(one, _NONE) != pairs}
        for some in chunks([one for one in moved if one in stored]):
            self._connection.execute(delete(m.join_key).where(self._among(m.join_key.c.identity_id, some)))
        rows = [(*pair, type_name, identity_id) for identity_id, pairs in moved.items() for pair in sorted(pairs)]
        insert_rows(self._connection, m.join_key, ("attribute", "value", "type", "identity_id"), rows)

    def _join_keys(self, identity_ids: Sequence[int]) -> dict[int, set[Pair]]:
        columns = m.join_key.c
        found: dict[int, set[Pair]] = {}
        for some in chunks(identity_ids):
            query = select(columns.identity_id, columns.attribute, columns.value)
            for identity_id, attribute, value in self._rows(query.where(self._among(columns.identity_id, some))):
                found.setdefault(identity_id, set()).add((attribute, value))
        return found

    def put_accounts(self, new: Sequence[Account], changed: Sequence[Account]) -> None:
        names = (*ACCOUNT_FIELDS, "changed_at")
        insert_rows(self._connection, m.account, names, [(*one, self._now) for one in new])
        updates = _Updates(("changed_at",))
        for one in changed:
            before = self._accounts_read.get(one.place)
            updates.add(one.place, (self._now,), ACCOUNT_FIELDS[3:], before and before[3:], one[3:])
        updates.carry_out(self._connection, m.account, names[:3])

    def audit(self, events: Iterable[Record]) -> None:
        SqlAuditTrail(self._connection).append(events)

    def hold_absent(self, place: tuple[str, str], keys: Sequence[str], run_id: int) -> None:
        where = [*self._at(m.connector_object, place, keys), _OBJECT.absent_run.is_(None)]
        self._connection.execute(update(m.connector_object).where(*where).values(absent_run=run_id))

    def put_watermark(self, connector: str, object_class: str, value: str, run_id: int) -> None:
        columns = r.watermark.c
        self._connection.execute(
            delete(r.watermark).where(columns.connector == connector, columns.object == object_class)
        )
        row = {
            "connector": connector,
            "object": object_class,
            "value": value,
            "run_id": run_id,
            "at": datetime.now(UTC),
        }
        self._connection.execute(insert(r.watermark), row)


def _by_attribute(pairs: Collection[Pair]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for attribute, text in sorted(pairs):
        found.setdefault(attribute, []).append(text)
    return found


def _keys_by_place(ids: Iterable[ObjectId]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for one in ids:
        found.setdefault((one.connector, one.object), []).append(one.key)
    return found
