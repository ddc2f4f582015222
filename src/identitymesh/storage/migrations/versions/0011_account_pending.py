"""The index of what is pending in the order in which it is exported: each chunk sorted all that was left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = "ix_account_pending"
PENDING = sa.text("kind IS NOT NULL")


def upgrade() -> None:
    op.drop_index(NAME, "account")
    columns = ["connector", "identity_id", "object", "kind"]
    op.create_index(NAME, "account", columns, sqlite_where=PENDING, postgresql_where=PENDING)


def downgrade() -> None:
    op.drop_index(NAME, "account")
    columns = ["connector", "kind", "identity_id"]
    op.create_index(NAME, "account", columns, sqlite_where=PENDING, postgresql_where=PENDING)
