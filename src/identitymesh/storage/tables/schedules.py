"""Tables of what runs by itself: when each connector is due, what is paused, and which services live."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from identitymesh.storage.tables.base import Moment, RowId, metadata

schedule = Table(
    "schedule",
    metadata,
    Column("connector", String(64), primary_key=True),  # "*": the installation itself
    Column("mode", String(16), primary_key=True),  # full | delta | housekeeping
    Column("expression", Text),  # zone and cron expression; NULL: only when somebody asks for it
    Column("nominal", Moment),  # the next moment by the expression
    Column("due_at", Moment),  # the same, staggered
    Column("asked_at", Moment),  # run-now
    Column("asked_by", String(255)),
    Column("tries", Integer, nullable=False, default=0),  # starts of what is due that came to no end
    Column("not_before", Moment),
    Column("last_due", Moment),  # nominal moment that was carried out last
    Column("last_started", Moment),
    Column("last_ended", Moment),
    Column("last_run", RowId),
    Column("last_state", String(16)),
    Column("last_error", Text),
)

schedule_pause = Table(  # while there is a row, nothing starts by itself; "*": of no connector
    "schedule_pause",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("actor", String(255), nullable=False),
    Column("since", Moment, nullable=False),
)

service = Table(  # one row for each start of `serve`
    "service",
    metadata,
    Column("holder", String(255), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("ended_at", Moment),
)
