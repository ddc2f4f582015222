"""The migration of secrets between providers, and which provider still has what the active one may lack."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("draining", sa.String(length=64), nullable=True))
    op.add_column("installation", sa.Column("closing", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "secret_migration",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.String(length=64), nullable=False),
        sa.Column("second", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("back", sa.Boolean(), nullable=False),
        sa.Column("purge", sa.Boolean(), nullable=False),
        sa.Column("cut_over", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fallbacks", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_secret_migration_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_secret_migration")),
    )
    op.create_table(
        "secret_migration_item",
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("first_version", sa.String(length=64), nullable=False),
        sa.Column("second_version", sa.String(length=64), nullable=False),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("ref", "first_version", "second_version", name=op.f("pk_secret_migration_item")),
    )


def downgrade() -> None:
    op.drop_table("secret_migration_item")
    op.drop_table("secret_migration")
    op.drop_column("installation", "closing")
    op.drop_column("installation", "draining")
