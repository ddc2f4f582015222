"""The audit trail as people read it: who, what, when, of whom. Values of people are not in it, only their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select

from identitymesh.audit import Record
from identitymesh.errors import NotFound
from identitymesh.storage.audit import OF_PEOPLE, read_audit
from identitymesh.storage.database import Database
from identitymesh.storage.people import SqlPeople
from identitymesh.storage.tables.mesh import identity

_OF_VALUES: Final = ("before", "after")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One record. ``person``: the anchor, where it is about one; ``changed``: attributes; ``details``: all else."""

    sequence: int
    at: datetime | None
    actor: str
    action: str
    subject: str
    outcome: str
    run: str | None
    person: str | None
    changed: Sequence[str]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditWish:
    """Which records: all that fit every one of these. ``action`` may end in ``.*``."""

    person: str | None = None
    action: str | None = None
    actor: str | None = None
    run: str | None = None
    before: int | None = None
    limit: int = 100


class AuditLog:
    """The audit trail of one installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._find: Callable[[str], list[int]] = SqlPeople(database).find

    def list(self, wish: AuditWish) -> Sequence[AuditEntry]:
        """The newest first.

        Raises:
            NotFound: nobody is called as ``person``.
        """
        subjects: list[str] | None = None
        if wish.person is not None:
            subjects = [str(one) for one in self._find(wish.person)]
            if not subjects:
                raise NotFound(f"nobody is called {wish.person!r}", hint="Name an anchor, a join key or an account.")
        with self._database.read() as connection:
            found = read_audit(
                connection,
                subjects=subjects,
                action=wish.action,
                actor=wish.actor,
                run=wish.run,
                people=subjects is not None,
                before=wish.before,
                limit=wish.limit,
            )
            anchors = _anchors(connection, [one.record for one in found])
        return [_entry(one.sequence, one.record, anchors) for one in found]


def _about_a_person(record: Record) -> bool:
    return record.action.startswith(OF_PEOPLE) and record.subject.isdecimal()


def _anchors(connection: Connection, records: Sequence[Record]) -> Mapping[str, str]:
    ids = {int(one.subject) for one in records if _about_a_person(one)}
    query = select(identity.c.id, identity.c.anchor).where(identity.c.id.in_(ids), identity.c.anchor.is_not(None))
    return {str(number): anchor for number, anchor in connection.execute(query)} if ids else {}


def _entry(sequence: int, record: Record, anchors: Mapping[str, str]) -> AuditEntry:
    names: set[str] = set()
    before, after = (record.payload.get(name) or {} for name in _OF_VALUES)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    details = {name: value for name, value in record.payload.items() if name not in _OF_VALUES}
    return AuditEntry(
        sequence,
        record.at,
        record.actor,
        record.action,
        record.subject,
        record.outcome,
        record.run,
        anchors.get(record.subject) if _about_a_person(record) else None,
        sorted(names),
        details,
    )
