"""The mesh in the database: transactions under a lease, and the long reads of a run. See ``runs/contract.py``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    and_,
    case,
    delete,
    exists,
    insert,
    literal,
    not_,
    or_,
    select,
    tuple_,
    update,
)

from identitymesh.audit import Record
from identitymesh.lease import Lease
from identitymesh.model.objects import StoredObject
from identitymesh.pipeline.importing import UNSETTLED
from identitymesh.runs.contract import ImportState
from identitymesh.storage import rules_mark
from identitymesh.storage.batches import SqlMeshTransaction
from identitymesh.storage.bulk import pairs
from identitymesh.storage.continuity import unread, was_read
from identitymesh.storage.database import Database
from identitymesh.storage.leases import assert_held
from identitymesh.storage.rows import OBJECTS, chunks, stored_object
from identitymesh.storage.statistics import Statistics
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_OBJECT = m.connector_object.c


class SqlMesh:
    """``MeshStore``: transactions under a lease, and the long reads of a run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statistics = Statistics(database)

    @contextmanager
    def transaction(self, lease: Lease) -> Iterator[SqlMeshTransaction]:
        with self._database.write() as connection:
            assert_held(connection, lease)
            transaction = SqlMeshTransaction(connection)
            yield transaction
        self._statistics.grown(transaction.inserted)

    def known_digests(self, connector: str, object_class: str, ruleset: int) -> dict[str, bytes]:
        settled = and_(_OBJECT.ruleset == ruleset, _OBJECT.state.in_(("joined", "aside")), _OBJECT.absent_run.is_(None))
        digest = case((settled, _OBJECT.digest), else_=literal(UNSETTLED, LargeBinary))
        query = select(_OBJECT.key, digest).where(_OBJECT.connector == connector, _OBJECT.object == object_class)
        with self._database.read() as connection:
            return pairs(connection, query)

    def held_absences(self, connector: str, object_class: str) -> dict[str, bool]:
        query = select(_OBJECT.key, _OBJECT.absent_approved).where(
            _OBJECT.connector == connector, _OBJECT.object == object_class, _OBJECT.absent_run.is_not(None)
        )
        with self._database.read() as connection:
            return {row.key: row.absent_approved for row in connection.execute(query)}

    def hold_absences(self, connector: str, object_class: str, keys: Sequence[str], run_id: int, lease: Lease) -> None:
        """Note that a complete import did not show these objects; who was noted before keeps that run."""
        for some in chunks(keys):
            with self.transaction(lease) as tx:
                tx.hold_absent((connector, object_class), some, run_id)

    def import_state(self, connector: str, object_class: str) -> ImportState | None:
        columns = r.import_state.c
        query = select(r.import_state).where(columns.connector == connector, columns.object == object_class)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return ImportState(**{name: getattr(row, name) for name in ImportState.__slots__})

    def put_import_state(self, connector: str, object_class: str, state: ImportState, lease: Lease) -> None:
        columns = r.import_state.c
        values = {name: getattr(state, name) for name in ImportState.__slots__}
        with self.transaction(lease) as tx:
            place = and_(columns.connector == connector, columns.object == object_class)
            tx._connection.execute(delete(r.import_state).where(place))  # noqa: SLF001  same module
            row = {"connector": connector, "object": object_class, **values}
            tx._connection.execute(insert(r.import_state), row)  # noqa: SLF001  same module
            if state.complete_at is not None:
                was_read(tx._connection, connector, object_class, state.complete_at)  # noqa: SLF001  same module

    def unread(self) -> set[tuple[str, str]]:
        with self._database.read() as connection:
            return unread(connection)

    def watermark(self, connector: str, object_class: str) -> str | None:
        columns = r.watermark.c
        query = select(columns.value).where(columns.connector == connector, columns.object == object_class)
        with self._database.read() as connection:
            return connection.scalar(query)

    # -- who is due ----------------------------------------------------------------

    def objects_due(self, now: datetime, size: int) -> Iterator[list[StoredObject]]:
        """Objects that are joined again by this instant, each once."""
        places = tuple_(_OBJECT.connector, _OBJECT.object, _OBJECT.key)
        last: tuple[str, str, str] = ("", "", "")
        while self._any(_OBJECT.due <= now):
            query = OBJECTS.where(_OBJECT.due <= now, places > last)
            with self._database.read() as connection:
                query = query.order_by(_OBJECT.connector, _OBJECT.object, _OBJECT.key).limit(size)
                found = [stored_object(row) for row in connection.execute(query)]
            if not found:
                return
            yield found
            last = (found[-1].id.connector, found[-1].id.object, found[-1].id.key)

    def identities_due(self, now: datetime, size: int) -> Iterator[list[int]]:
        """Identities that are evaluated again by this instant, each once."""
        last = 0
        while self._any(m.identity.c.due <= now):
            query = select(m.identity.c.id).where(m.identity.c.due <= now, m.identity.c.id > last)
            with self._database.read() as connection:
                found = list(connection.scalars(query.order_by(m.identity.c.id).limit(size)))
            if not found:
                return
            yield found
            last = found[-1]

    def _any(self, condition: ColumnElement[bool]) -> bool:
        """Whether there is any such row: an index says so, where pages in the order of the key walk through all."""
        with self._database.read() as connection:
            return bool(connection.scalar(select(exists().where(condition))))

    def date_mark(self) -> datetime | None:
        with self._database.read() as connection:
            return connection.scalar(select(r.date_mark.c.at))

    def put_date_mark(self, at: datetime, lease: Lease, events: Sequence[Record] = ()) -> None:
        with self.transaction(lease) as tx:
            tx._connection.execute(delete(r.date_mark))  # noqa: SLF001  same module
            tx._connection.execute(insert(r.date_mark), {"singleton": 1, "at": at})  # noqa: SLF001  same module
            tx.audit(events)

    # -- after a change of rules -------------------------------------------------

    def settled(self, ruleset: int) -> bool:
        with self._database.read() as connection:
            return rules_mark.settled(connection, ruleset)

    def settle(self, ruleset: int, lease: Lease) -> None:
        with self.transaction(lease) as tx:
            rules_mark.settle(tx._connection, ruleset)  # noqa: SLF001  same module

    def objects_to_rejoin(self, ruleset: int, rules: Collection[str], size: int) -> Iterator[list[StoredObject]]:
        """Objects joined to nobody, or by a rule that is not among ``rules``, last joined under other rules."""
        query = OBJECTS.where(_OBJECT.ruleset != ruleset, _loose(rules))
        query = query.order_by(_OBJECT.connector, _OBJECT.object, _OBJECT.key).limit(size)
        while True:  # what was taken has today's rule set and is not found again
            with self._database.read() as connection:
                found = [stored_object(row) for row in connection.execute(query)]
            if not found:
                return
            yield found

    def settle_objects(self, ruleset: int, rules: Collection[str], lease: Lease) -> None:
        """Every link that one of ``rules`` made counts as made today; an export may just have stored others."""
        linked = and_(_OBJECT.ruleset != ruleset, not_(_loose(rules)))
        with self.transaction(lease) as tx:
            tx._connection.execute(update(m.connector_object).where(linked).values(ruleset=ruleset))  # noqa: SLF001  same module

    def identities_to_refresh(self, ruleset: int, size: int) -> Iterator[list[int]]:
        last = 0  # without it each page would walk again over all that were refreshed before
        while True:
            query = select(m.identity.c.id).where(m.identity.c.ruleset != ruleset, m.identity.c.id > last)
            with self._database.read() as connection:
                found = list(connection.scalars(query.order_by(m.identity.c.id).limit(size)))
            if not found:
                return
            yield found
            last = found[-1]


def _loose(rules: Collection[str]) -> ColumnElement[bool]:
    """Joined to nobody, or by a rule that is not among these."""
    return or_(_OBJECT.state != "joined", _OBJECT.joined_by.not_in(list(rules)))
