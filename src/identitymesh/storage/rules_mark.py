"""The mark that every stored object was joined under one rule set.

Without it, to find among a million objects that none waits for today's rules takes a second of every run.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_MARK = r.rules_mark
_OBJECT = m.connector_object.c


def settled(connection: Connection, ruleset: int) -> bool:
    """Whether every object was joined under these rules; ``False`` also when nobody knows."""
    return connection.scalar(select(_MARK.c.ruleset)) == ruleset


def settle(connection: Connection, ruleset: int) -> None:
    """Every object counts as joined under these rules."""
    connection.execute(delete(_MARK))  # first: waits for those that write objects at this moment, see below
    connection.execute(update(m.connector_object).where(_OBJECT.ruleset != ruleset).values(ruleset=ruleset))
    connection.execute(insert(_MARK), {"singleton": 1, "ruleset": ruleset})


def written_under(connection: Connection, ruleset: int) -> None:
    """Objects are written now, without the lease of the mesh, under rules that may not be today's any more."""
    connection.execute(select(_MARK.c.ruleset).with_for_update(read=True)).all()  # nobody settles before the commit
    connection.execute(delete(_MARK).where(_MARK.c.ruleset != ruleset))
