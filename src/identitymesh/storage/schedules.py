"""Schedules, their pauses, and the services that carry them out."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from identitymesh import __version__
from identitymesh.audit import Record
from identitymesh.lease import Lease
from identitymesh.runs.contract import StoredRun
from identitymesh.runs.schedules import INSTALLATION, End, Entry, ServiceSeen, Times
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.continuity import pause_of
from identitymesh.storage.database import Database
from identitymesh.storage.leases import assert_held, process_start
from identitymesh.storage.runs import MESSAGE_LIMIT, stored_run
from identitymesh.storage.tables import runs as r
from identitymesh.storage.tables import schedules as t

_ROW: Final = t.schedule.c
_REMEMBERED: Final = timedelta(days=7)


class SqlSchedules:
    """``ScheduleStore`` of ``runs/schedules.py``, and what people do with schedules. ``holder`` names this process."""

    def __init__(self, database: Database, *, holder: str) -> None:
        self._database = database
        self._holder = holder

    def entries(self) -> list[Entry]:
        with self._database.read() as connection:
            paused = set(connection.scalars(select(t.schedule_pause.c.connector)))
            rows = connection.execute(select(t.schedule).order_by(_ROW.connector, _ROW.mode))
            return [_entry(row, paused=row.connector in paused) for row in rows]

    def paused(self) -> set[str]:
        with self._database.read() as connection:
            return set(connection.scalars(select(t.schedule_pause.c.connector)))

    def halted(self) -> str:
        with self._database.read() as connection:
            found = pause_of(connection)
            if found is not None:
                return f"{found.reason}; identitymesh resume lets runs start again"
            by = connection.scalar(select(t.schedule_pause.c.actor).where(t.schedule_pause.c.connector == INSTALLATION))
            return f"all schedules were paused by {by}" if by is not None else ""

    def put_times(self, times: Mapping[tuple[str, str], Times], gone: Sequence[tuple[str, str]]) -> None:
        with self._database.write() as connection:
            for key, one in times.items():
                values = {"expression": one.expression, "nominal": one.nominal, "due_at": one.due_at}
                _put(connection, key, values)
            for key in gone:
                connection.execute(delete(t.schedule).where(_is(key)))

    def begin(self, entry: Entry, lease: Lease, now: datetime) -> bool:
        with self._database.write() as connection:
            assert_held(connection, lease)
            row = connection.execute(select(t.schedule).where(_is(entry.key)).with_for_update()).one_or_none()
            paused = set(connection.scalars(select(t.schedule_pause.c.connector)))
            if row is None or INSTALLATION in paused or _entry(row, paused=entry.connector in paused) != entry:
                return False
            values = {"tries": entry.tries + 1, "last_started": now}
            connection.execute(update(t.schedule).where(_is(entry.key)).values(values))
        return True

    def settle(self, entry: Entry, lease: Lease, end: End) -> None:
        values = {
            "expression": end.times.expression,
            "nominal": end.times.nominal,
            "due_at": end.times.due_at,
            "tries": 0,
            "not_before": None,
            "last_due": end.last_due,
            "last_ended": end.at,
            "last_run": end.run,
            "last_state": end.outcome.state,
            "last_error": end.outcome.error[:MESSAGE_LIMIT] or None,
        }
        with self._database.write() as connection:
            assert_held(connection, lease)
            connection.execute(update(t.schedule).where(_is(entry.key)).values(values))
            served = and_(_is(entry.key), _ROW.asked_at == entry.asked_at)  # two hosts have two clocks
            connection.execute(update(t.schedule).where(served).values(asked_at=None, asked_by=None))

    def postpone(self, entry: Entry, lease: Lease, until: datetime, *, counted: bool, error: str) -> None:
        values: dict[str, Any] = {"not_before": until, "tries": entry.tries + (1 if counted else 0)}
        if error:
            values["last_error"] = error[:MESSAGE_LIMIT]
        with self._database.write() as connection:
            assert_held(connection, lease)
            connection.execute(update(t.schedule).where(_is(entry.key)).values(values))

    def run_of(self, name: str) -> StoredRun | None:
        query = select(r.run).where(r.run.c.due == name, r.run.c.state != "abandoned")
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return stored_run(row) if row is not None else None

    # -- services ----------------------------------------------------------------

    def seen(self, now: datetime) -> None:
        c = t.service.c
        with self._database.write() as connection:
            mine = update(t.service).where(c.holder == self._holder).values(seen_at=now, ended_at=None)
            if connection.execute(mine).rowcount:
                return
            connection.execute(delete(t.service).where(c.seen_at < now - _REMEMBERED))
            others = connection.execute(select(t.service).where(c.host == socket.gethostname(), c.ended_at.is_(None)))
            for other in others.all():  # those that were killed here: this one has taken their place
                if not _lives(other):
                    connection.execute(delete(t.service).where(c.holder == other.holder))
            row = {"holder": self._holder, "host": socket.gethostname(), "pid": os.getpid(), "version": __version__}
            connection.execute(insert(t.service), row | {"started_at": now, "seen_at": now})

    def gone(self, now: datetime) -> None:
        with self._database.write() as connection:
            mine = t.service.c.holder == self._holder
            connection.execute(update(t.service).where(mine).values(seen_at=now, ended_at=now))

    def services(self) -> list[ServiceSeen]:
        here = socket.gethostname()
        query = select(t.service).order_by(t.service.c.started_at)
        with self._database.read() as connection:
            return [
                ServiceSeen(
                    host=row.host,
                    pid=row.pid,
                    version=row.version,
                    started_at=row.started_at,
                    seen_at=row.seen_at,
                    ended_at=row.ended_at,
                    dead=row.host == here and not _lives(row),
                )
                for row in connection.execute(query)
            ]

    # -- what people do ----------------------------------------------------------

    def ask(self, connector: str, mode: str, actor: str, now: datetime) -> None:
        """Somebody wants a run now."""
        with self._database.write() as connection:
            _put(connection, (connector, mode), {"asked_at": now, "asked_by": actor, "not_before": None})
            SqlAuditTrail(connection).append([Record("schedule.ask", connector, actor, payload={"mode": mode})])

    def pause(self, connectors: Sequence[str], actor: str, now: datetime) -> list[str]:
        """Those of these connectors that were not paused yet; ``*`` is all of them."""
        changed = []
        with self._database.write() as connection:
            before = set(connection.scalars(select(t.schedule_pause.c.connector)))
            for name in connectors:
                if name not in before:
                    connection.execute(insert(t.schedule_pause), {"connector": name, "actor": actor, "since": now})
                    changed.append(name)
            SqlAuditTrail(connection).append([Record("schedule.pause", name, actor) for name in changed])
        return changed

    def resume(self, connectors: Sequence[str], actor: str) -> list[str]:
        """Those of these connectors that were paused."""
        column = t.schedule_pause.c.connector
        with self._database.write() as connection:
            changed = sorted(set(connection.scalars(select(column).where(column.in_(connectors)))))
            connection.execute(delete(t.schedule_pause).where(column.in_(connectors)))
            SqlAuditTrail(connection).append([Record("schedule.resume", name, actor) for name in changed])
        return changed


def _put(connection: Connection, key: tuple[str, str], values: Mapping[str, Any]) -> None:
    if not connection.execute(update(t.schedule).where(_is(key)).values(**values)).rowcount:
        connection.execute(insert(t.schedule), {"connector": key[0], "mode": key[1], "tries": 0, **values})


def _is(key: tuple[str, str]) -> ColumnElement[bool]:
    return and_(_ROW.connector == key[0], _ROW.mode == key[1])


def _entry(row: Row[Any], *, paused: bool) -> Entry:
    return Entry(**row._mapping, paused=paused)  # noqa: SLF001 - how SQLAlchemy calls it


def _lives(row: Row[Any]) -> bool:
    started = process_start(row.pid)
    return started is not None and row.holder.startswith(f"{row.host}:{row.pid}:{started}:")
