"""Custody of keys: what protectors keep, last openings, rotations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slot_guard",
        sa.Column("keyring", sa.String(length=32), nullable=False),
        sa.Column("slot", sa.String(length=36), nullable=False),
        sa.Column("guarded", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["keyring"], ["keyring.name"], name=op.f("fk_slot_guard_keyring"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("keyring", "slot", name=op.f("pk_slot_guard")),
    )
    op.create_table(
        "keyring_rotation",
        sa.Column("keyring", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("new_key", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["keyring"], ["keyring.name"], name=op.f("fk_keyring_rotation_keyring"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("keyring", name=op.f("pk_keyring_rotation")),
    )
    with op.batch_alter_table("keyring_slot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("opened", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("opened_by", sa.String(length=255), nullable=True))
        batch_op.drop_column("guarded")


def downgrade() -> None:
    with op.batch_alter_table("keyring_slot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("guarded", sa.LargeBinary(), nullable=True))
        batch_op.drop_column("opened_by")
        batch_op.drop_column("opened")
    op.drop_table("keyring_rotation")
    op.drop_table("slot_guard")
