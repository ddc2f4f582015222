"""What accounts get once, when they are created, and secrets that expire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("secret_ledger") as table:
        table.add_column(sa.Column("expires", sa.DateTime(timezone=True), nullable=True))
    op.add_column("account", sa.Column("initial", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("account", "initial")
    with op.batch_alter_table("secret_ledger") as table:
        table.drop_column("expires")
