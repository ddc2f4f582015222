"""What was read (connector objects), who is who (identities), and what targets should hold (accounts)."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
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

connector_object = Table(
    "connector_object",
    metadata,
    Column("connector", String(64), primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("state", String(16), nullable=False),  # joined | unjoined | ambiguous | aside (no join rule)
    Column("identity_id", RowId, nullable=True),
    Column("joined_by", String(128)),
    Column("correlate", Text),  # value of the target's correlate attribute, when a projection names one
    Column("ruleset", Integer, nullable=False),  # rule set under which it was last joined
    Column("absent_run", RowId),  # a complete import did not show it, and its absence is held since this run
    Column("absent_approved", Boolean, nullable=False, default=False),
    Column("changed_at", Moment, nullable=False),
    Column("due", Moment),  # joined again then, although nothing changes at the source: a rule asks what day it is
)
Index("ix_connector_object_identity", connector_object.c.identity_id)
Index(
    "ix_connector_object_due",
    connector_object.c.due,
    sqlite_where=connector_object.c.due.is_not(None),
    postgresql_where=connector_object.c.due.is_not(None),
)
Index(
    "ix_connector_object_absent",
    connector_object.c.connector,
    connector_object.c.object,
    sqlite_where=connector_object.c.absent_run.is_not(None),
    postgresql_where=connector_object.c.absent_run.is_not(None),
)
Index(
    "ix_connector_object_correlate",
    connector_object.c.connector,
    connector_object.c.object,
    connector_object.c.correlate,
    sqlite_where=connector_object.c.correlate.is_not(None),
    postgresql_where=connector_object.c.correlate.is_not(None),
)

waiting_key = Table(  # join keys of objects that are joined to nobody: tried again when an identity gets such a key
    "waiting_key",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("connector", String(64), nullable=False),
    Column("object", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("attribute", String(128), nullable=False),  # of the mesh
    Column("value", Text, nullable=False),
)
Index("ix_waiting_key_object", waiting_key.c.connector, waiting_key.c.object, waiting_key.c.key)
Index("ix_waiting_key_value", waiting_key.c.object, waiting_key.c.attribute, waiting_key.c.value)

identity = Table(
    "identity",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("type", String(64), nullable=False),
    Column("anchor", Text),
    Column("document", Text, nullable=False),
    Column("present", Boolean, nullable=False),  # a source with `create` holds it
    Column("left_at", Moment),
    Column("ruleset", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("due", Moment),  # evaluated again then, although nothing changes at any source
    sqlite_autoincrement=True,
)
Index(
    "ix_identity_due",
    identity.c.due,
    sqlite_where=identity.c.due.is_not(None),
    postgresql_where=identity.c.due.is_not(None),
)
Index("ix_identity_anchor", identity.c.type, identity.c.anchor)

join_key = Table(
    "join_key",
    metadata,
    Column("type", String(64), primary_key=True),
    Column("attribute", String(128), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("identity_id", RowId, ForeignKey("identity.id", ondelete="CASCADE"), primary_key=True),
)
Index("ix_join_key_identity", join_key.c.identity_id)

reserved_value = Table(  # what a person has or ever had in an attribute that is unique: given to nobody else
    "reserved_value",
    metadata,
    Column("type", String(64), primary_key=True),
    Column("attribute", String(128), primary_key=True),
    Column("folded", Text, primary_key=True),  # without case, in one normal form
    Column("identity_id", RowId, ForeignKey("identity.id", ondelete="CASCADE"), nullable=False),
    Column("value", Text, nullable=False),
    Column("rule", String(128)),  # the rule that gave it; null: it came from somewhere else
    Column("at", Moment, nullable=False),
)
Index("ix_reserved_value_identity", reserved_value.c.identity_id)

target_value = Table(  # what accounts of targets hold of such attributes, ours or not
    "target_value",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("connector", String(64), nullable=False),
    Column("object", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("attribute", String(128), nullable=False),  # of the mesh
    Column("folded", Text, nullable=False),
)
Index("ix_target_value_object", target_value.c.connector, target_value.c.object, target_value.c.key)
Index("ix_target_value_folded", target_value.c.object, target_value.c.attribute, target_value.c.folded)

review_item = Table(  # an object for which a join rule finds several people, and what somebody decided of it
    "review_item",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("connector", String(64), nullable=False),
    Column("object", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("rule", String(128), nullable=False),
    Column("candidates", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("choice", String(16)),  # join | create | ignore; null: nobody decided yet
    Column("identity_id", RowId),
    Column("decided_by", Text),
    Column("decided_at", Moment),
    sqlite_autoincrement=True,
)
Index("ix_review_item_object", review_item.c.connector, review_item.c.object, review_item.c.key, unique=True)

account = Table(
    "account",
    metadata,
    Column("identity_id", RowId, ForeignKey("identity.id", ondelete="CASCADE"), primary_key=True),
    Column("connector", String(64), primary_key=True),
    Column("object", String(64), primary_key=True),
    Column("rule", String(128), nullable=False),
    Column("key", Text),  # how the target names it; null until it exists there
    Column("correlate", Text),
    Column("intent", String(16), nullable=False),  # present | disabled | deleted | kept
    Column("desired", Text),  # canonical image of the managed attributes; null: should not exist
    Column("known", Text),  # the same of what the target holds; null: does not exist there
    Column("echo", Text),  # what the target made of our last write, if not what we wrote
    Column("kind", String(16)),  # create | update | disable | delete; null: nothing to do
    Column("row_digest", LargeBinary(16)),  # of (kind, desired, known); approval and release cover exactly this
    Column("approved", LargeBinary(16)),
    Column("released", LargeBinary(16)),
    Column("status", String(16), nullable=False),  # idle | sending | parked
    Column("attempts", Integer, nullable=False, default=0),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("initial", Text),  # what a create writes once beside the image; of passwords only how long they are
    Column("changed_at", Moment, nullable=False),
    Column("exported_at", Moment),
)
Index("ix_account_key", account.c.connector, account.c.object, account.c.key)
Index("ix_account_correlate", account.c.connector, account.c.object, account.c.correlate)
Index(
    "ix_account_pending",
    account.c.connector,
    account.c.identity_id,
    account.c.object,
    account.c.kind,
    sqlite_where=account.c.kind.is_not(None),
    postgresql_where=account.c.kind.is_not(None),
)
