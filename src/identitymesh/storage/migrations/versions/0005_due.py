"""When rules about dates are due, and the instant for which they were evaluated last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("connector_object", "identity"):
        op.add_column(table, sa.Column("due", sa.DateTime(timezone=True), nullable=True))
        op.create_index(
            f"ix_{table}_due",
            table,
            ["due"],
            sqlite_where=sa.text("due IS NOT NULL"),
            postgresql_where=sa.text("due IS NOT NULL"),
        )
    op.create_table(
        "date_mark",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_date_mark_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_date_mark")),
    )


def downgrade() -> None:
    op.drop_table("date_mark")
    for table in ("identity", "connector_object"):
        op.drop_index(f"ix_{table}_due", table_name=table)
        op.drop_column(table, "due")
