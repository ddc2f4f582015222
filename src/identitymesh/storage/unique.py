"""Values for one person alone: who has or had them, and which accounts of targets hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_

from identitymesh.model.objects import ObjectId
from identitymesh.runs.contract import Place, Reservation
from identitymesh.storage.bulk import insert_rows
from identitymesh.storage.continuity import unread
from identitymesh.storage.rows import chunks
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_RESERVED = m.reserved_value.c
_TARGET = m.target_value.c


class SqlUniqueRows:
    """``UniqueRows`` of ``runs/contract.py``, on the connection of a batch."""

    def __init__(self, connection: Connection, now: Any) -> None:
        self._connection = connection
        self._now = now

    def reserved(self, type_name: str, attribute: str, texts: Collection[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        base = select(_RESERVED.folded, _RESERVED.identity_id)
        base = base.where(_RESERVED.type == type_name, _RESERVED.attribute == attribute)
        for some in chunks(list(texts)):
            rows = self._connection.execute(base.where(_RESERVED.folded.in_(some)))
            found.update({row.folded: row.identity_id for row in rows})
        return found

    def given_to(self, identity_ids: Collection[int]) -> dict[tuple[int, str], str]:
        found: dict[tuple[int, str], str] = {}
        base = select(_RESERVED.identity_id, _RESERVED.attribute, _RESERVED.value).where(_RESERVED.rule.is_not(None))
        for some in chunks(list(identity_ids)):
            query = base.where(_RESERVED.identity_id.in_(some)).order_by(_RESERVED.at.desc(), _RESERVED.folded)
            for row in self._connection.execute(query):
                found[row.identity_id, row.attribute] = row.value  # the first that was given stays
        return found

    def held_at_targets(self, type_name: str, attribute: str, texts: Collection[str]) -> dict[str, list[ObjectId]]:
        found: dict[str, list[ObjectId]] = {}
        base = select(_TARGET.folded, _TARGET.connector, _TARGET.key)
        base = base.where(_TARGET.object == type_name, _TARGET.attribute == attribute)
        for some in chunks(list(texts)):
            for row in self._connection.execute(base.where(_TARGET.folded.in_(some))):
                found.setdefault(row.folded, []).append(ObjectId(row.connector, type_name, row.key))
        return found

    def never_complete(self, places: Collection[Place]) -> list[Place]:
        columns = r.import_state.c
        query = select(columns.connector, columns.object).where(columns.complete_at.is_not(None))
        done = {(row.connector, row.object) for row in self._connection.execute(query)}
        return sorted(set(places) - done | (set(places) & unread(self._connection)))

    def reserve(self, rows: Sequence[Reservation]) -> None:
        names = (*Reservation._fields, "at")
        insert_rows(self._connection, m.reserved_value, names, [(*row, self._now) for row in rows])

    def put_target_values(
        self, values: Mapping[ObjectId, Sequence[tuple[str, str]]], new: Collection[ObjectId] = ()
    ) -> None:
        place = tuple_(_TARGET.connector, _TARGET.object, _TARGET.key)
        for some in chunks([one for one in values if one not in new]):
            self._connection.execute(delete(m.target_value).where(place.in_(some)))
        rows = [(*one, *pair) for one, several in values.items() for pair in several]
        insert_rows(self._connection, m.target_value, (*ObjectId._fields, "attribute", "folded"), rows)
