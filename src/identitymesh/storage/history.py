"""How long the history of runs is kept: runs with their plans and what went wrong in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, select

from identitymesh.storage.database import Database
from identitymesh.storage.tables import runs as r

ALWAYS: Final = 50  # so many of the latest runs stay, however old
_PIECE: Final = 10  # runs of one transaction: a plan may have a million rows


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be: runs that had ended before ``before``."""

    runs: int
    before: datetime


class History:
    """The runs of one installation, kept for ``keep``."""

    def __init__(self, database: Database, *, keep: timedelta) -> None:
        self._database = database
        self._keep = keep

    def prune(self, *, dry_run: bool = False) -> Pruned:
        """Remove old runs, a few in each transaction.

        Kept are the latest runs, the newest plan of each target (a person may still decide on it), and the last
        complete import of each connector.
        """
        before = datetime.now(UTC) - self._keep
        with self._database.read() as connection:
            old = _old(connection, before)
        for start in range(0, 0 if dry_run else len(old), _PIECE):
            with self._database.write() as connection:
                connection.execute(delete(r.run).where(r.run.c.id.in_(old[start : start + _PIECE])))
        return Pruned(len(old), before)


def _old(connection: Connection, before: datetime) -> Sequence[int]:
    latest = select(r.run.c.id).order_by(r.run.c.id.desc()).limit(ALWAYS)
    newest = select(func.max(r.plan_target.c.plan_id)).group_by(r.plan_target.c.connector)
    needed = select(r.import_state.c.complete_run).where(r.import_state.c.complete_run.is_not(None))
    query = (
        select(r.run.c.id)
        .where(r.run.c.state != "running", r.run.c.ended_at < before)
        .where(r.run.c.id.not_in(latest), r.run.c.id.not_in(newest), r.run.c.id.not_in(needed))
        .order_by(r.run.c.id)
    )
    return list(connection.scalars(query))
