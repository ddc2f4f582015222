"""The least that could store what a first synchronisation leaves: the same rows, by the driver alone."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from identitymesh.storage.database import PRAGMAS

ROWS_OF_PEOPLE: Final = ("connector_object", "identity", "join_key", "account", "audit", "plan_row")
_TOGETHER: Final = 1_000


def insert_again(made: Path, place: Path) -> float:
    """Seconds for the very rows that a first synchronisation left in ``made``, in a new database below ``place``.

    The same tables, indexes and settings of SQLite, transactions of 1,000 rows; reading them does not count.
    """
    source = sqlite3.connect(made)
    bare = sqlite3.connect(place / "bare.db", isolation_level=None)
    schema = source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'")
    for (statement,) in schema.fetchall():
        bare.execute(statement)
    for (table,) in bare.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table not in ROWS_OF_PEOPLE and not table.startswith("sqlite"):
            _insert(bare, {table: source.execute(f"SELECT * FROM {table}").fetchall()})  # noqa: S608 - names of ours
    for pragma in PRAGMAS:
        bare.execute(f"PRAGMA {pragma}")
    rows = {table: source.execute(f"SELECT * FROM {table} ORDER BY rowid") for table in ROWS_OF_PEOPLE}  # noqa: S608 - names of ours
    spent = 0.0
    while any((batch := {table: cursor.fetchmany(_TOGETHER) for table, cursor in rows.items()}).values()):
        begun = time.perf_counter()
        _insert(bare, batch)
        spent += time.perf_counter() - begun
    bare.close()
    source.close()
    return spent


def _insert(bare: sqlite3.Connection, batch: dict[str, list[tuple[object, ...]]]) -> None:
    bare.execute("BEGIN IMMEDIATE")
    for table, rows in batch.items():
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            bare.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - names of ours
    bare.execute("COMMIT")
