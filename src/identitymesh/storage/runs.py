"""Runs and definitions in the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, tuple_, update

from identitymesh.audit import Record
from identitymesh.errors import DefinitionOutdated, DueDone, RowConflict
from identitymesh.model.attributes import dump, load
from identitymesh.runs.contract import Issue, StoredDefinition, StoredRun
from identitymesh.secrets.rows import SecretTransaction
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.continuity import assert_not_paused
from identitymesh.storage.database import Database
from identitymesh.storage.leases import end_runs
from identitymesh.storage.secrets import SqlSecretTransaction
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r
from identitymesh.storage.tables import schedules as t

_BY_CONNECTOR = (
    m.connector_object,
    m.waiting_key,
    m.target_value,
    m.review_item,
    m.account,
    r.watermark,
    r.import_state,
    r.released,
    t.schedule,
    t.schedule_pause,
)
MESSAGE_LIMIT = 1_000  # characters of a message that are kept


class SqlRuns:
    """``RunStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, command: str, mode: str, actor: str, definition_version: int, due: str | None = None) -> int:
        row = {
            "command": command,
            "mode": mode,
            "state": "running",
            "actor": actor,
            "definition_version": definition_version,
            "started_at": datetime.now(UTC),
            "summary": "{}",
            "due": due,
        }
        try:
            with self._database.write() as connection:
                assert_not_paused(connection)
                latest = connection.scalar(select(func.max(r.definition.c.version)))
                if latest not in (None, definition_version):
                    raise DefinitionOutdated(
                        f"definition version {latest} was applied while a run of version {definition_version} began",
                        hint="Run again.",
                    )
                run_id = int(connection.execute(insert(r.run).returning(r.run.c.id), row).scalar_one())
                payload: dict[str, Any] = {"command": command, "mode": mode, "definition": definition_version}
                payload |= {"due": due} if due else {}
                SqlAuditTrail(connection).append(
                    [Record("run.start", str(run_id), actor, run=str(run_id), payload=payload)]
                )
        except RowConflict:
            if due is None:
                raise
            raise DueDone(f"the due run {due} was carried out already, or is going on") from None
        return run_id

    def finish(
        self,
        run_id: int,
        state: str,
        summary: Mapping[str, Any],
        issues: Sequence[Issue],
        *,
        code: str,
        error: str,
        stopped: bool = False,
    ) -> None:
        now = datetime.now(UTC)
        values = {
            "state": state,
            "ended_at": now,
            "summary": dump(dict(summary)).decode(),
            "error_code": code or None,
            "error": error[:MESSAGE_LIMIT] or None,
        }
        if stopped:
            values["due"] = None  # at once: whoever started it may not live to say so
        rows = [
            {
                "run_id": run_id,
                "connector": issue.connector,
                "subject": issue.subject[:MESSAGE_LIMIT],
                "code": issue.code,
                "message": issue.message[:MESSAGE_LIMIT],
                "at": now,
            }
            for issue in issues
        ]
        with self._database.write() as connection:
            actor = connection.scalar(select(r.run.c.actor).where(r.run.c.id == run_id)) or ""
            connection.execute(update(r.run).where(r.run.c.id == run_id).values(values))
            if rows:
                connection.execute(insert(r.run_issue), rows)
            payload = {"state": state, "code": code}
            SqlAuditTrail(connection).append([Record("run.end", str(run_id), actor, run=str(run_id), payload=payload)])

    def running(self) -> list[int]:
        with self._database.read() as connection:
            return list(connection.scalars(select(r.run.c.id).where(r.run.c.state == "running")))

    def abandon(self, run_id: int) -> None:
        """Its process is gone: say so, once."""
        error = "its process ended without a word; the run after it carried on"
        mine = (r.run.c.id == run_id, r.run.c.state == "running")
        with self._database.write() as connection:
            values = {"state": "abandoned", "ended_at": datetime.now(UTC), "error_code": "abandoned", "error": error}
            connection.execute(update(r.run).where(*mine).values(values))

    def get(self, run_id: int) -> StoredRun | None:
        with self._database.read() as connection:
            row = connection.execute(select(r.run).where(r.run.c.id == run_id)).one_or_none()
        return stored_run(row) if row is not None else None

    def latest(self, limit: int, *, state: str | None = None, connector: str | None = None) -> list[StoredRun]:
        query = select(r.run).order_by(r.run.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(r.run.c.state == state)
        if connector is not None:  # as dump() writes it: no spaces, names quoted
            query = query.where(r.run.c.summary.contains(f'"connector":"{connector}"', autoescape=True))
        with self._database.read() as connection:
            return [stored_run(row) for row in connection.execute(query)]

    def issues(self, run_id: int, limit: int) -> list[Issue]:
        columns = r.run_issue.c
        query = select(columns.connector, columns.subject, columns.code, columns.message)
        query = query.where(columns.run_id == run_id).order_by(columns.id).limit(limit)
        with self._database.read() as connection:
            return [Issue(*row) for row in connection.execute(query)]

    def issue_count(self, run_id: int) -> int:
        query = select(func.count()).select_from(r.run_issue).where(r.run_issue.c.run_id == run_id)
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)


def stored_run(row: Any) -> StoredRun:
    return StoredRun(
        id=row.id,
        command=row.command,
        mode=row.mode,
        state=row.state,
        actor=row.actor,
        definition_version=row.definition_version,
        started_at=row.started_at,
        ended_at=row.ended_at,
        summary=load(row.summary),
        error_code=row.error_code,
        error=row.error,
        due=row.due,
    )


class SqlDefinitions:
    """``DefinitionStore`` of ``runs/contract.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> StoredDefinition | None:
        return self._one(select(r.definition).order_by(r.definition.c.version.desc()).limit(1))

    def last_from(self, source: str) -> StoredDefinition | None:
        columns = r.definition.c
        return self._one(select(r.definition).where(columns.source == source).order_by(columns.version.desc()).limit(1))

    def _one(self, query: Any) -> StoredDefinition | None:
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return StoredDefinition(row.version, row.text, row.source, row.actor, row.ruleset, row.applied_at)

    def add(
        self,
        definition: StoredDefinition,
        gates: Mapping[str, str],
        events: Sequence[Record],
        renames: Mapping[str, str],
        reread: Collection[tuple[str, str]] = (),
        *,
        also: Callable[[SecretTransaction], None] | None = None,
    ) -> None:
        row = {
            "version": definition.version,
            "text": definition.text,
            "digest": hashlib.sha256(definition.text.encode()).hexdigest(),
            "source": definition.source,
            "actor": definition.actor,
            "ruleset": definition.ruleset,
            "applied_at": definition.applied_at,
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(r.definition), row)
                if also is not None:
                    also(SqlSecretTransaction(connection))
                if renames:
                    end_runs(connection)
                for old, new in renames.items():
                    for table in (t.schedule, t.schedule_pause):  # what a connector of that name once had
                        connection.execute(delete(table).where(table.c.connector == new))
                    for table in _BY_CONNECTOR:
                        connection.execute(update(table).where(table.c.connector == old).values(connector=new))
                for place in reread:
                    at = (r.watermark.c.connector, r.watermark.c.object)
                    connection.execute(delete(r.watermark).where(tuple_(*at) == place))
                for connector, reason in gates.items():
                    connection.execute(delete(r.target_gate).where(r.target_gate.c.connector == connector))
                    gate = {"connector": connector, "version": definition.version, "reason": reason}
                    connection.execute(insert(r.target_gate), gate)
                SqlAuditTrail(connection).append(events)
        except RowConflict:
            raise DefinitionOutdated(
                "another definition was applied in this moment",
                hint="Look at `identitymesh definition show` and apply again.",
            ) from None
