"""Under which rules every object was joined, and no digest of identities any more: nothing was compared by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("identity", "digest")
    op.create_table(
        "rules_mark",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ruleset", sa.Integer(), nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_rules_mark_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_rules_mark")),
    )


def downgrade() -> None:
    op.drop_table("rules_mark")
    op.add_column("identity", sa.Column("digest", sa.LargeBinary(16), nullable=False, server_default=sa.text("''")))
