"""The audit trail. Rows are appended in the transaction of what they tell, and never changed."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text

from identitymesh.storage.tables.base import Moment, RowId, metadata

audit = Table(
    "audit",
    metadata,
    Column("sequence", RowId, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("run", String(64)),
    Column("payload", Text, nullable=False),
    Index(None, "subject", "sequence"),
    Index(None, "run"),
    sqlite_autoincrement=True,  # a sequence number is never given twice
)
