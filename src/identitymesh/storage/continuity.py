"""What must outlive a process: the pause, targets that have to be read again, and when what was done last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from identitymesh.audit import Record
from identitymesh.errors import Paused
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.database import Database
from identitymesh.storage.tables.continuity import custody_event, pause, unread_target

LOST_SLOT = "lost-slot:"


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing runs, and since when."""

    reason: str
    since: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Event:
    """The last time of something."""

    name: str
    at: datetime
    actor: str
    detail: Mapping[str, Any]


class Continuity:
    """Reads and writes these rows."""

    def __init__(self, database: Database, actor: str) -> None:
        self._database = database
        self._actor = actor

    def pause(self) -> Pause | None:
        """The pause that is in force."""
        with self._database.read() as connection:
            return pause_of(connection)

    def resume(self) -> Pause | None:
        """Let runs start again; answers the pause that was lifted, if there was one."""
        with self._database.write() as connection:
            found = pause_of(connection)
            if found is not None:
                connection.execute(delete(pause))
                payload = {"reason": found.reason}
                SqlAuditTrail(connection).append([Record("run.resume", "*", self._actor, payload=payload)])
        return found

    def events(self) -> Mapping[str, Event]:
        """Every event by its name."""
        with self._database.read() as connection:
            rows = list(connection.execute(select(custody_event)))
        return {row.name: Event(row.name, row.at, row.actor, json.loads(row.detail)) for row in rows}

    def note(self, name: str, **detail: Any) -> None:
        """Remember that something was done now."""
        with self._database.write() as connection:
            put_event(connection, name, self._actor, detail)
            SqlAuditTrail(connection).append([Record(f"custody.{name}", name, self._actor, payload=detail)])


def pause_of(connection: Connection) -> Pause | None:
    row = connection.execute(select(pause.c.reason, pause.c.since, pause.c.actor)).one_or_none()
    return None if row is None else Pause(*row)


def assert_not_paused(connection: Connection) -> None:
    """Every starter of runs asks this in the transaction that begins the run.

    Raises:
        Paused: a person has to say that it may go on.
    """
    found = pause_of(connection)
    if found is not None:
        raise Paused(
            f"nothing runs since {found.since:%Y-%m-%d %H:%M} UTC: {found.reason}",
            hint="Check that nothing else works on these targets any more, then: identitymesh resume",
        )


def put_pause(connection: Connection, reason: str, actor: str) -> None:
    connection.execute(delete(pause))
    connection.execute(insert(pause), {"singleton": 1, "reason": reason, "since": datetime.now(UTC), "actor": actor})


def put_event(
    connection: Connection, name: str, actor: str, detail: Mapping[str, Any], at: datetime | None = None
) -> None:
    connection.execute(delete(custody_event).where(custody_event.c.name == name))
    text = json.dumps(dict(detail), sort_keys=True)
    row = {"name": name, "at": at or datetime.now(UTC), "actor": actor, "detail": text}
    connection.execute(insert(custody_event), row)


def unread(connection: Connection) -> set[tuple[str, str]]:
    """Connectors and object classes that were restored and have not been read completely since."""
    query = select(unread_target.c.connector, unread_target.c.object)
    return {(connector, kind) for connector, kind in connection.execute(query)}


def was_read(connection: Connection, connector: str, object_class: str, at: datetime) -> None:
    """A complete read ended."""
    c = unread_target.c
    done = (c.connector == connector) & (c.object == object_class) & (c.since <= at)
    connection.execute(delete(unread_target).where(done))
