"""Leases: who may write to the mesh, or export to a target, and until when.

The lease lives in its own row with a fence that grows at each take-over; every
checkpoint names the fence. Times are the database's on PostgreSQL and this host's on
SQLite, where everybody is on one host. A holder that is known to be dead (same host,
no such process) is taken over at once, others when their time is up.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, text, update

from identitymesh.errors import Busy, LeaseLost, RowConflict
from identitymesh.lease import MESH, Deadline, Lease, uptime
from identitymesh.storage.database import Database
from identitymesh.storage.tables import runs as r

_LEASE = r.lease.c
STILL_PART = 5  # of a lease's life: who is silent for so long in a transaction, and let it run out, stands still

# On PostgreSQL: a lease that ran out, the session that has its row locked (a row's xmax is the transaction that did
# so), and that waits for its client in the middle of a transaction, also of a COPY.
_END_WHO_STANDS_STILL = text("""
    SELECT pg_terminate_backend(session.pid)
    FROM lease JOIN pg_stat_activity AS session ON session.backend_xid = lease.xmax
    WHERE lease.name = :name AND lease.until < clock_timestamp()
      AND session.wait_event = 'ClientRead'
      AND session.state_change < clock_timestamp() - make_interval(secs => :seconds)
""")


def assert_held(connection: Connection, lease: Lease) -> None:
    """Lock the lease's row for this transaction.

    Raises:
        LeaseLost: another process holds it now.
    """
    query = select(_LEASE.fence).where(_LEASE.name == lease.name, _LEASE.holder == lease.holder).with_for_update()
    if connection.scalar(query) != lease.fence:
        raise LeaseLost(
            f"this run lost its lease on {lease.name} to another process",
            hint="Nothing of this batch was written. See `identitymesh runs list` for who runs now.",
        )


class SqlLeases:
    """Takes, keeps and gives back leases. ``seconds`` is how long a lease lives without being renewed."""

    def __init__(self, database: Database, *, seconds: float = 15.0) -> None:
        self._database = database
        self.seconds = seconds
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{process_start(os.getpid())}:{secrets.token_hex(8)}"

    def acquire(self, name: str, purpose: str) -> Lease:
        """Take a lease.

        Raises:
            Busy: somebody living holds it; the message says who and until when.
        """
        asked = uptime()
        try:
            with self._database.write() as connection:
                if connection.dialect.name == "postgresql":
                    # The server ends what is idle (``STILL_SECONDS``), but half a COPY is not, and stays for ever.
                    patience = {"name": name, "seconds": self.seconds / STILL_PART}
                    connection.execute(_END_WHO_STANDS_STILL, patience)
                row = connection.execute(select(r.lease).where(_LEASE.name == name).with_for_update()).one_or_none()
                now = _now(connection)
                if row is not None and row.until > now and not _dead(row):
                    raise Busy(
                        f"{row.purpose} holds {name} since this or an earlier minute (process {row.pid} on {row.host})",
                        hint=f"Wait for it to end; if it has died, its lease is free in {_seconds(row.until - now)} s.",
                    )
                fence = (row.fence if row is not None else 0) + 1
                if row is not None:  # else somebody may have taken it since we looked: the insert says so
                    connection.execute(delete(r.lease).where(_LEASE.name == name))
                connection.execute(insert(r.lease), self._row(name, fence, now, purpose))
        except RowConflict:  # two took a free lease in the same moment
            raise Busy(f"another process has just taken {name}", hint="Wait for it to end.") from None
        return Lease(name, self.holder, fence, Deadline(asked + self.seconds))

    def _row(self, name: str, fence: int, now: datetime, purpose: str) -> dict[str, Any]:
        return {
            "name": name,
            "holder": self.holder,
            "fence": fence,
            "until": now + timedelta(seconds=self.seconds),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "purpose": purpose,
        }

    def renew(self, lease: Lease) -> None:
        """Let it live on.

        Raises:
            LeaseLost: it was taken over.
        """
        asked = uptime()
        with self._database.write() as connection:
            assert_held(connection, lease)
            until = _now(connection) + timedelta(seconds=self.seconds)
            connection.execute(update(r.lease).where(_LEASE.name == lease.name).values(until=until))
        lease.deadline.at = asked + self.seconds

    def release(self, lease: Lease) -> None:
        """Give it back; nothing happens when it is ours no more. The fence stays and goes on growing."""
        with self._database.write() as connection:
            mine = (_LEASE.name == lease.name, _LEASE.holder == lease.holder, _LEASE.fence == lease.fence)
            connection.execute(update(r.lease).where(*mine).values(until=_now(connection) - timedelta(seconds=1)))

    def forget(self, name: str) -> None:
        """Remove a lease that nobody will ever take again: its fence need not be remembered."""
        with self._database.write() as connection:
            connection.execute(delete(r.lease).where(_LEASE.name == name))

    def held(self, name: str) -> bool:
        """Whether somebody living holds it."""
        with self._database.write() as connection:
            row = connection.execute(select(r.lease).where(_LEASE.name == name)).one_or_none()
            return row is not None and is_alive(connection, row)


def end_runs(connection: Connection) -> None:
    """For what runs must not see half: nobody runs until the commit, and who stood still meanwhile has lost its leases.

    Raises:
        Busy: a run is under way.
    """
    of_runs = or_(_LEASE.name == MESH, _LEASE.name.like("run:%"), _LEASE.name.like("export:%"))
    rows = connection.execute(select(r.lease).where(of_runs).order_by(_LEASE.name).with_for_update())
    for row in rows.all():
        if is_alive(connection, row):
            raise Busy(
                f"{row.purpose} is under way (process {row.pid} on {row.host})",
                hint="A connector is renamed while nothing runs: apply again when it has ended.",
            )
    connection.execute(update(r.lease).where(of_runs).values(fence=_LEASE.fence + 1))


def is_alive(connection: Connection, row: Any) -> bool:
    """Whether somebody living holds this lease."""
    return bool(row.until > _now(connection)) and not _dead(row)


def _now(connection: Connection) -> datetime:
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    found: datetime = connection.scalar(select(func.clock_timestamp()))  # type: ignore[assignment]
    return found


def _seconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds()))


def _dead(row: Any) -> bool:
    """A holder on this host whose process is gone, or whose number another process has now."""
    if row.host != socket.gethostname():
        return False
    started = process_start(row.pid)
    return started is None or not row.holder.startswith(f"{row.host}:{row.pid}:{started}:")


def process_start(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; ``None`` when there is none. Unknown reads as "?"."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return None if Path("/proc/self").is_dir() else "?"
    except OSError:
        return "?"
