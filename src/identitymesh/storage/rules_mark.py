"""The mark that every object was joined, and every identity evaluated, under one rule set.

Without it, to find among a million that none waits for today's rules takes seconds of every run.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, insert, select

from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_MARK = r.rules_mark


def settled(connection: Connection, ruleset: int) -> bool:
    """Whether everything is settled under these rules; ``False`` also when nobody knows."""
    return connection.scalar(select(_MARK.c.ruleset)) == ruleset


def settle(connection: Connection, ruleset: int) -> None:
    """Set the mark, if all of it is true."""
    connection.execute(delete(_MARK))  # first: waits for those that write objects at this moment, see below
    for table in (m.connector_object, m.identity):
        if connection.scalar(select(exists().where(table.c.ruleset != ruleset))):
            return
    connection.execute(insert(_MARK), {"singleton": 1, "ruleset": ruleset})


def written_under(connection: Connection, ruleset: int) -> None:
    """Objects are written now, without the lease of the mesh, under rules that may not be today's any more."""
    connection.execute(select(_MARK.c.ruleset).with_for_update(read=True)).all()  # nobody settles before the commit
    connection.execute(delete(_MARK).where(_MARK.c.ruleset != ruleset))
