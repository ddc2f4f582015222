"""Whether somebody looks after the schedules: services that are gone, and what is due for too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from identitymesh.lease import MESH
from identitymesh.runs.schedules import INSTALLATION, Entry, ServiceSeen
from identitymesh.runs.timetable import OVERDUE, SILENT
from identitymesh.storage.database import Database
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.schedules import SqlSchedules

SERVE = "identitymesh serve"


def unattended(database: Database, *, scheduled: bool, now: datetime) -> Iterator[tuple[str, str, str]]:
    """Code, message and command of each finding. ``scheduled``: the definition in force has schedules."""
    store = SqlSchedules(database, holder="")
    services = store.services()
    entries = [one for one in store.entries() if one.connector != INSTALLATION]
    living = [one for one in services if one.living(now, SILENT)]
    for one in services:
        if one.ended_at is None and one not in living:
            yield "service-gone", _gone(one), SERVE
    wanted = scheduled or any(one.asked_at is not None for one in entries)
    if wanted and not living and not any(one.ended_at is None for one in services):
        yield "no-service", "there are schedules, but no service carries them out", SERVE
    if halted := store.halted():
        if wanted and not halted.endswith("start again"):  # a pause after a restore is a finding of its own
            yield "schedules-paused", halted, "identitymesh schedule resume"
        return
    leases = SqlLeases(database)
    for entry in entries:
        since = entry.since(now)
        if since is None or now - since <= OVERDUE:
            continue
        if not leases.held(MESH) and not leases.held(f"schedule:{entry.connector}"):  # else it runs, or is about to
            yield "schedule-overdue", _overdue(entry, since), "identitymesh schedule list"


def _gone(one: ServiceSeen) -> str:
    return f"the service on {one.host} (process {one.pid}) was last seen at {one.seen_at:%Y-%m-%d %H:%M} UTC"


def _overdue(entry: Entry, since: datetime) -> str:
    why = f": {entry.last_error}" if entry.tries and entry.last_error else ""
    return f"{entry.connector}, {entry.mode}: due since {since:%Y-%m-%d %H:%M} UTC and not carried out{why}"
