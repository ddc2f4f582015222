"""Open rotations of credentials, the pause after a restore, and when backups and drills were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "secret_rotation",
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("old_version", sa.String(length=64), nullable=False),
        sa.Column("new_version", sa.String(length=64), nullable=False),
        sa.Column("at_server", sa.Boolean(), nullable=False),
        sa.Column("retire_days", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retire_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["ref"], ["secret_ledger.ref"], name=op.f("fk_secret_rotation_ref"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_secret_rotation")),
    )
    op.create_table(
        "pause",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_pause_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_pause")),
    )
    op.create_table(
        "unread_target",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("connector", "object", name=op.f("pk_unread_target")),
    )
    op.create_table(
        "custody_event",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_custody_event")),
    )


def downgrade() -> None:
    op.drop_table("custody_event")
    op.drop_table("unread_target")
    op.drop_table("pause")
    op.drop_table("secret_rotation")
