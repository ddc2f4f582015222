"""What runs by itself: when each connector is due, what is paused, and which services live."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("expression", sa.Text(), nullable=True),
        sa.Column("nominal", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_by", sa.String(length=255), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_due", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_started", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_ended", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("last_state", sa.String(length=16), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("connector", "mode", name=op.f("pk_schedule")),
    )
    op.create_table(
        "schedule_pause",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("connector", name=op.f("pk_schedule_pause")),
    )
    op.create_table(
        "service",
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_service")),
    )
    op.add_column("run", sa.Column("due", sa.String(length=160), nullable=True))
    alive = sa.text("state != 'abandoned'")
    op.create_index("uq_run_due", "run", ["due"], unique=True, sqlite_where=alive, postgresql_where=alive)


def downgrade() -> None:
    op.drop_index("uq_run_due", table_name="run")
    op.drop_column("run", "due")
    op.drop_table("service")
    op.drop_table("schedule_pause")
    op.drop_table("schedule")
