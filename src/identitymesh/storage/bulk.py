"""Many rows at once, past SQLAlchemy: COPY on PostgreSQL, the driver's `executemany` on SQLite.

Core spends more time on the parameters of a row than SQLite on storing it; PostgreSQL
takes rows by COPY several times as fast as by INSERT. Values are those that Core would
bind: a :class:`~identitymesh.storage.tables.base.Moment` is stored as Core stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, exc

from identitymesh.storage.tables.base import Moment


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
    values = list(_tuples(names, rows, [name for name in names if isinstance(table.c[name].type, Moment)]))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", values)  # noqa: S608  our names


def _tuples(
    names: Sequence[str], rows: Sequence[Mapping[str, Any]], moments: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """What SQLite binds: moments as Core writes them there. A batch has few different ones, each is written once."""
    written: dict[datetime | None, str | None] = {None: None}
    for row in rows:
        for name in moments:
            value = row[name]
            if value not in written:
                written[value] = value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        yield tuple([written[row[name]] if name in moments else row[name] for name in names])


def _copy(connection: Connection, statement: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    driver = connection.dialect.loaded_dbapi
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for row in rows:
                copy.write_row([row[name] for name in names])
    except driver.Error as error:
        # As Core would have raised it, so that one seam translates all errors of the database.
        raise exc.DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error
