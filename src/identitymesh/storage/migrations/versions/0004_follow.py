"""Whether a vault's own current version of a secret is followed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("secret_ledger") as table:
        table.add_column(sa.Column("follow", sa.String(length=16), nullable=False, server_default="current"))


def downgrade() -> None:
    with op.batch_alter_table("secret_ledger") as table:
        table.drop_column("follow")
