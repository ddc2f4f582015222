"""Review items: objects that rules cannot join to one person, and what people decided of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from identitymesh.audit import Record
from identitymesh.errors import NotFound
from identitymesh.model.attributes import dump, load
from identitymesh.model.objects import ObjectId
from identitymesh.runs.review_contract import ReviewDecision, ReviewItem
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.database import Database
from identitymesh.storage.rows import chunks
from identitymesh.storage.tables import mesh as m

_ITEM = m.review_item.c
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)  # due before every run


class SqlReviewRows:
    """``ReviewRows`` of ``runs/contract.py``, on the connection of a batch."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def any(self) -> bool:
        return bool(self._connection.scalar(select(func.count()).select_from(m.review_item)))

    def decisions(self, ids: Collection[ObjectId]) -> dict[ObjectId, ReviewDecision]:
        """Of these objects; nobody decides of them before the batch is stored, and whoever then does has them due."""
        found = {}
        for some in chunks(ids, 100):
            for row in self._connection.execute(select(m.review_item).where(_among(some)).with_for_update()):
                if row.choice is None:
                    continue
                place = ObjectId(row.connector, row.object, row.key)
                found[place] = ReviewDecision(row.id, row.choice, row.identity_id)
        return found

    def open(self, items: Mapping[ObjectId, tuple[str, Sequence[int]]]) -> None:
        now = datetime.now(UTC)
        known = {
            ObjectId(row.connector, row.object, row.key): row
            for some in chunks(items, 100)
            for row in self._connection.execute(select(m.review_item).where(_among(some)))
        }
        for place, (rule, candidates) in items.items():
            found = {"rule": rule, "candidates": dump(list(candidates)).decode()}
            row = known.get(place)
            if row is None:
                self._connection.execute(insert(m.review_item), {**place._asdict(), **found, "opened_at": now})
            elif (row.rule, row.candidates) != (found["rule"], found["candidates"]):
                self._connection.execute(update(m.review_item).where(_ITEM.id == row.id).values(found))

    def close(self, ids: Collection[ObjectId]) -> None:
        for some in chunks(ids, 100):
            self._connection.execute(delete(m.review_item).where(_ITEM.choice.is_(None), _among(some)))


def _among(ids: Collection[ObjectId]) -> ColumnElement[bool]:
    same = [and_(_ITEM.connector == one.connector, _ITEM.object == one.object, _ITEM.key == one.key) for one in ids]
    return or_(*same)


class SqlReviews:
    """``ReviewStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(self, *, decided: bool) -> list[ReviewItem]:
        query = select(m.review_item).order_by(_ITEM.id)
        if not decided:
            query = query.where(_ITEM.choice.is_(None))
        with self._database.read() as connection:
            return [_item(row) for row in connection.execute(query)]

    def item(self, number: int) -> ReviewItem | None:
        with self._database.read() as connection:
            row = connection.execute(select(m.review_item).where(_ITEM.id == number)).one_or_none()
        return _item(row) if row is not None else None

    def decide(self, item: ReviewItem, choice: str | None, identity_id: int | None, event: Record) -> None:
        """Remember a choice, or take it back (``None``); the next run goes by it.

        Raises:
            NotFound: a run has closed the item meanwhile.
        """
        now = datetime.now(UTC) if choice else None
        values = {"choice": choice, "identity_id": identity_id, "decided_by": event.actor, "decided_at": now}
        objects = m.connector_object.c
        place = (objects.connector == item.connector, objects.object == item.object, objects.key == item.key)
        with self._database.write() as connection:
            # The item first: a batch holds it from the look at it until the objects are written.
            if not connection.execute(update(m.review_item).where(_ITEM.id == item.id).values(values)).rowcount:
                hint = "Its object is gone, or no longer in doubt. See `identitymesh review list`."
                raise NotFound(f"review item {item.id} was closed by a run in this moment", hint=hint)
            connection.execute(update(m.connector_object).where(*place).values(due=_AT_ONCE))
            SqlAuditTrail(connection).append([event])


def _item(row: Any) -> ReviewItem:
    return ReviewItem(
        row.id,
        row.connector,
        row.object,
        row.key,
        row.rule,
        tuple(load(row.candidates)),
        row.opened_at,
        row.choice,
        row.identity_id,
        row.decided_by if row.choice else None,
        row.decided_at,
    )
