"""Tables of secrets: the installation, keyrings, the ledger, and the sealed values of the ``database`` provider."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from identitymesh.storage.tables.base import Moment, metadata

REF = 255

installation = Table(
    "installation",
    metadata,
    # One row at most: its key can have one value only.
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("created", Moment, nullable=False),
    Column("draining", String(64)),
    Column("closing", Moment),
    CheckConstraint("singleton = 1", name="singleton"),
)

keyring = Table(
    "keyring",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("changed", Moment, nullable=False),
)

keyring_slot = Table(
    "keyring_slot",
    metadata,
    Column("keyring", String(32), ForeignKey("keyring.name", ondelete="CASCADE"), primary_key=True),
    Column("id", String(36), primary_key=True),
    Column("type", String(32), nullable=False),
    Column("label", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("opened", Moment),
    Column("opened_by", String(255)),
)

# What protectors keep: a table of its own, because backups leave it out.
slot_guard = Table(
    "slot_guard",
    metadata,
    Column("keyring", String(32), ForeignKey("keyring.name", ondelete="CASCADE"), primary_key=True),
    Column("slot", String(36), primary_key=True),
    Column("guarded", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
)

keyring_rotation = Table(
    "keyring_rotation",
    metadata,
    Column("keyring", String(32), ForeignKey("keyring.name", ondelete="CASCADE"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("new_key", BigInteger, nullable=False),
    Column("started", Moment, nullable=False),
    Column("holder", String(255), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Moment, nullable=False),
)

secret_ledger = Table(
    "secret_ledger",
    metadata,
    Column("ref", String(REF), primary_key=True),
    Column("keyring", String(32), nullable=False),
    Column("audience", Text, nullable=False),
    Column("audience_mac", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("current_version", String(64)),
    Column("pending_version", String(64)),
    Column("owner", Text),
    Column("description", Text),
    Column("cadence_days", Integer),
    Column("last_used", Moment),
    Column("last_used_version", String(64)),
    Column("last_used_by", String(255)),
    Column("expires", Moment),
    Column("follow", String(16), nullable=False, server_default="current"),
)

secret_migration = Table(  # the one that is open
    "secret_migration",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("first", String(64), nullable=False),
    Column("second", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # copy | verify | drain | scrub | abort
    Column("back", Boolean, nullable=False),
    Column("purge", Boolean, nullable=False),
    Column("cut_over", Moment),
    Column("fallbacks", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("started", Moment, nullable=False),
    Column("changed", Moment, nullable=False),
    Column("holder", String(255), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Moment, nullable=False),
    CheckConstraint("singleton = 1", name="singleton"),
)

secret_migration_item = Table(  # one version that both providers have
    "secret_migration_item",
    metadata,
    Column("ref", String(REF), primary_key=True),
    Column("first_version", String(64), primary_key=True),
    Column("second_version", String(64), primary_key=True),
    Column("pending", Boolean, nullable=False),
    Column("verified", Boolean, nullable=False),
)

# No foreign key to the ledger: a lost ledger row must not take the values with it.
secret = Table(
    "secret",
    metadata,
    Column("ref", String(REF), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("keyring", String(32), nullable=False),
    Column("key_id", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", BigInteger, nullable=False),
)
