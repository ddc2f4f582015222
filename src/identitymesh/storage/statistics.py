"""What PostgreSQL believes of tables that have just grown.

Its planner goes by statistics, and autovacuum takes a minute or more to gather the first. A first synchronisation
fills empty tables within that minute: without statistics each question of a page read whole tables (measured: 60 % of
the time of 40,000 people).
"""

from __future__ import annotations

from typing import Final

from identitymesh.storage.database import Database
from identitymesh.storage.tables import mesh as m

FIRST: Final = 1_000  # rows of a process after which statistics are gathered for the first time
GROWTH: Final = 5  # and again whenever there are so many times more
_TABLES: Final = (m.connector_object, m.identity, m.join_key, m.account, m.waiting_key)


class Statistics:
    """Counts what one process inserts, and has the tables analysed as they grow. SQLite needs none of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inserted = 0
        self._next = FIRST

    def grown(self, rows: int) -> None:
        """``rows`` more were committed."""
        self._inserted += rows
        if self._inserted < self._next or self._database.dialect != "postgresql":
            return
        self._next = self._inserted * GROWTH
        names = ", ".join(table.name for table in _TABLES)
        with self._database.write() as connection:
            connection.exec_driver_sql(f"ANALYZE {names}")
