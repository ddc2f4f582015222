"""A mark that everything is settled under one rule set, in place of an index that each person was a part of.

Who is absent has an index, which is nearly empty. Identities have no digest any more: nothing was compared by it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ABSENT = sa.text("absent_run IS NOT NULL")


def upgrade() -> None:
    op.drop_index("ix_identity_ruleset", "identity")
    op.drop_column("identity", "digest")
    place = ["connector", "object"]
    op.create_index(
        "ix_connector_object_absent", "connector_object", place, sqlite_where=ABSENT, postgresql_where=ABSENT
    )
    op.create_table(
        "rules_mark",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ruleset", sa.Integer(), nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_rules_mark_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_rules_mark")),
    )


def downgrade() -> None:
    op.drop_table("rules_mark")
    op.drop_index("ix_connector_object_absent", "connector_object")
    op.add_column("identity", sa.Column("digest", sa.LargeBinary(16), nullable=False, server_default=sa.text("''")))
    op.create_index("ix_identity_ruleset", "identity", ["ruleset", "id"])
