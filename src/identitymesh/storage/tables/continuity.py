"""Tables of what must go on: open rotations of credentials, the pause after a restore, and what was done last."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Integer, String, Table, Text

from identitymesh.storage.tables.base import Moment, metadata
from identitymesh.storage.tables.secrets import REF

secret_rotation = Table(  # one for each ref: a rotation that is open, or whose old version waits to be retired
    "secret_rotation",
    metadata,
    Column("ref", String(REF), ForeignKey("secret_ledger.ref", ondelete="CASCADE"), primary_key=True),
    Column("state", String(16), nullable=False),  # pending | changing (perhaps changed at the server) | switched
    Column("old_version", String(64), nullable=False),
    Column("new_version", String(64), nullable=False),
    Column("at_server", Boolean, nullable=False),
    Column("retire_days", Integer, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("started", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("retire_at", Moment),
)

pause = Table(  # while there is a row, no run and no plan starts
    "pause",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("actor", String(255), nullable=False),
    CheckConstraint("singleton = 1", name="singleton"),
)

unread_target = Table(  # restored, and not read since: nothing is exported there before a complete read
    "unread_target",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("since", Moment, nullable=False),
)

custody_event = Table(  # the last time of each: backup, drill, restore, lost-slot:ID
    "custody_event",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("at", Moment, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("detail", Text, nullable=False),
)
