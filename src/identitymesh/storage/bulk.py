"""Many rows at once, past SQLAlchemy: COPY on PostgreSQL, the driver's `executemany` on SQLite.

Core spends more time on the parameters of a row than SQLite on storing it; PostgreSQL
takes rows by COPY several times as fast as by INSERT. Values are those that Core would
bind: a :class:`~identitymesh.storage.tables.base.Moment` is stored as Core stores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, exc


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns; columns that are left out get the database's default."""
    if not rows:
        return
    names = list(rows[0])
    columns = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in names)
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table.name} ({columns}) FROM STDIN", names, rows)
        return
    marks = ", ".join("?" * len(names))
    values = [tuple(_plain(row[name]) for name in names) for row in rows]
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", values)  # noqa: S608  our names


def _plain(value: Any) -> Any:
    """As SQLAlchemy writes a moment into SQLite: UTC without a zone, six digits of seconds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return value


def _copy(connection: Connection, statement: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    driver = connection.dialect.loaded_dbapi
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for row in rows:
                copy.write_row([row[name] for name in names])
    except driver.Error as error:
        # As Core would have raised it, so that one seam translates all errors of the database.
        raise exc.DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error
