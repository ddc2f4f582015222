"""Values that are given to one person alone, and what accounts of targets hold of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "reserved_value",
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("attribute", sa.String(length=128), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("identity_id", _ROW_ID, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("rule", sa.String(length=128), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identity.id"], name=op.f("fk_reserved_value_identity_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("type", "attribute", "folded", name=op.f("pk_reserved_value")),
    )
    op.create_index("ix_reserved_value_identity", "reserved_value", ["identity_id"])
    op.create_table(
        "target_value",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("attribute", sa.String(length=128), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_target_value")),
    )
    op.create_index("ix_target_value_object", "target_value", ["connector", "object", "key"])
    op.create_index("ix_target_value_folded", "target_value", ["object", "attribute", "folded"])


def downgrade() -> None:
    op.drop_table("target_value")
    op.drop_table("reserved_value")
