"""Appends audit records inside the caller's transaction, and reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from identitymesh.audit import Record, encode_payload
from identitymesh.model.attributes import load
from identitymesh.storage.bulk import BoundMoment, as_stored, insert_rows
from identitymesh.storage.tables.audit import audit

BATCH: Final = 1000
OF_PEOPLE: Final = ("identity.", "account.")
_FIELDS: Final = ("at", "actor", "action", "subject", "outcome", "run", "payload")


class SqlAuditTrail:
    """An :class:`~identitymesh.audit.AuditTrail` on one connection, that is in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, records: Iterable[Record]) -> int:
        """Store records in order with one statement for each thousand; memory does not grow with their number."""
        now = as_stored(self._connection, datetime.now(UTC))
        rows = (self._row(record, now) for record in records)
        count = 0
        while batch := list(islice(rows, BATCH)):
            insert_rows(self._connection, audit, _FIELDS, batch)
            count += len(batch)
        return count

    def _row(self, record: Record, now: BoundMoment | None) -> tuple[Any, ...]:
        at = now if record.at is None else as_stored(self._connection, record.at)
        payload = encode_payload(record.payload)
        return at, record.actor, record.action, record.subject, record.outcome, record.run, payload


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as stored, with its place in the sequence."""

    sequence: int
    record: Record


def read_audit(  # noqa: PLR0913 - each narrows what is read, and all are named
    connection: Connection,
    *,
    subject: str | None = None,
    subjects: Collection[str] | None = None,
    action: str | None = None,
    actor: str | None = None,
    run: str | None = None,
    people: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> Sequence[StoredRecord]:
    """The newest records first; ``action`` may end in ``.*`` and then means all of that thing.

    ``people``: only what happened to people and their accounts, whose subjects are numbers of identities.
    """
    query = select(audit).order_by(audit.c.sequence.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    if subjects is not None:
        query = query.where(audit.c.subject.in_(subjects))
    if actor is not None:
        query = query.where(audit.c.actor == actor)
    if action is not None and action.endswith(".*"):
        query = query.where(audit.c.action.startswith(action[:-1], autoescape=True))
    elif action is not None:
        query = query.where(audit.c.action == action)
    if run is not None:
        query = query.where(audit.c.run == run)
    if people:
        query = query.where(or_(*(audit.c.action.startswith(thing) for thing in OF_PEOPLE)))
    if before is not None:
        query = query.where(audit.c.sequence < before)
    return list(_stored(connection.execute(query).mappings()))


def _stored(rows: Iterable[Any]) -> Iterator[StoredRecord]:
    for row in rows:
        record = Record(
            row["action"], row["subject"], row["actor"], row["outcome"], row["run"], load(row["payload"]), row["at"]
        )
        yield StoredRecord(row["sequence"], record)
