"""Definitions, runs, leases, watermarks and plans."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from .base import Moment, RowId, metadata

definition = Table(
    "definition",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the text, hex
    Column("source", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("ruleset", Integer, nullable=False),  # version in which rules or mesh last changed
    Column("applied_at", Moment, nullable=False),
)

target_gate = Table(  # after a change of rules, connectors or scope the first plan of a target waits
    "target_gate",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("command", String(16), nullable=False),  # plan | run | release
    Column("mode", String(16), nullable=False),  # full | delta | none
    Column("state", String(16), nullable=False),  # running | done | problems | held | failed | abandoned
    Column("actor", Text, nullable=False),
    Column("definition_version", Integer),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("summary", Text, nullable=False, default="{}"),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("due", String(160)),  # which due moment of which schedule it carries out
    sqlite_autoincrement=True,
)
Index(  # each due run happens once; one whose process was killed is carried out again
    "uq_run_due",
    run.c.due,
    unique=True,
    sqlite_where=run.c.state != "abandoned",
    postgresql_where=run.c.state != "abandoned",
)

run_issue = Table(
    "run_issue",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("run_id", RowId, ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("connector", String(64), nullable=False),
    Column("subject", Text, nullable=False),  # key or anchor; empty: the connector as a whole
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("at", Moment, nullable=False),
)
Index("ix_run_issue_run", run_issue.c.run_id)

lease = Table(
    "lease",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", Text, nullable=False),  # unique for each process start
    Column("fence", BigInteger, nullable=False),
    Column("until", Moment, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
)

watermark = Table(
    "watermark",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("run_id", RowId, nullable=False),
    Column("at", Moment, nullable=False),
)

import_state = Table(
    "import_state",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("scope", String(64), nullable=False),  # digest of what decides which objects a complete read returns
    Column("names", String(64), nullable=False),  # digest of the attributes that were asked for
    Column("complete_at", Moment),
    Column("complete_run", RowId),
    Column("objects", Integer),
    Column("held_absences", Integer, nullable=False, default=0),
    Column("held_reason", Text),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("error_at", Moment),
)

date_mark = Table(  # the latest instant for which rules about dates were evaluated
    "date_mark",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    CheckConstraint("singleton = 1", name="singleton"),
)

rules_mark = Table(  # the rule set under which all was joined and evaluated; none: nobody knows
    "rules_mark",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("ruleset", Integer, nullable=False),
    CheckConstraint("singleton = 1", name="singleton"),
)

plan = Table(  # a run has at most one plan, and it bears the run's number
    "plan",
    metadata,
    Column("id", RowId, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("definition_version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
)

plan_target = Table(
    "plan_target",
    metadata,
    Column("plan_id", RowId, ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
    Column("connector", String(64), primary_key=True),
    Column("state", String(16), nullable=False),  # ready | held | incomplete | released | dropped
    Column("counts", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", Moment),
)

plan_row = Table(
    "plan_row",
    metadata,
    Column("plan_id", RowId, ForeignKey("plan.id", ondelete="CASCADE"), primary_key=True),
    Column("connector", String(64), primary_key=True),
    Column("identity_id", RowId, primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("row_digest", LargeBinary(16), nullable=False),
    Column("covered", Boolean, nullable=False),  # approved or released before: not judged again
)

released = Table(  # how much each target was given, for the limits over 24 hours
    "released",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("connector", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("at", Moment, nullable=False),
)
Index("ix_released_connector", released.c.connector, released.c.at)
