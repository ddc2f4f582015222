"""Many rows at once, past SQLAlchemy: COPY and arrays on PostgreSQL, hundreds of rows a statement on SQLite.

Core spends more time on the parameters of a row than SQLite on storing it; PostgreSQL
takes rows by COPY several times as fast as by INSERT, and SQLite takes some hundred with
one statement a fifth faster than one by one, and lets other threads work meanwhile. A row
is a tuple of what the driver binds; a moment in it went through :func:`as_stored`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import orjson
from sqlalchemy import ARRAY, ColumnElement, Connection, Select, Table, Text, any_, bindparam, exc, func, select

BoundMoment = datetime | str
_TOGETHER: Final = 250  # rows; SQLite takes 32,766 values in a statement


def as_stored(connection: Connection, moment: datetime | None) -> BoundMoment | None:
    """As a column of the type ``Moment`` takes it from the driver; SQLite keeps UTC as text, to the microsecond."""
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(" ", "microseconds") if _is_sqlite(connection) else utc


def as_read(moment: BoundMoment) -> datetime:
    """What the driver gives for a column of the type ``Moment``; the inverse of :func:`as_stored`."""
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def among(
    connection: Connection, column: ColumnElement[Any], values: Sequence[str] | Sequence[int]
) -> ColumnElement[bool]:
    """``column`` has one of these values: one parameter, however many they are."""
    if _is_sqlite(connection):
        each = func.json_each(bindparam(None, orjson.dumps(values).decode(), Text)).table_valued("value")
        return column.in_(select(each.c.value))
    return column == any_(bindparam(None, values, ARRAY(column.type)))


def pairs(connection: Connection, query: Select[Any]) -> dict[str, bytes]:
    """All rows of a query of two columns, which may be millions."""
    if not _is_sqlite(connection):
        rows = connection.execution_options(yield_per=5000).execute(query)
        return {row[0]: row[1] for row in rows}
    # A row of SQLAlchemy takes longer to make than the driver's takes to read.
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    driver = connection.dialect.loaded_dbapi
    try:
        return dict(connection.connection.cursor().execute(str(compiled), values))
    except driver.Error as error:
        raise exc.DBAPIError.instance(str(compiled), None, error, driver.Error, dialect=connection.dialect) from error


def insert_rows(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows with values for ``names``; columns that are left out get the database's default."""
    if not rows:
        return
    columns = ", ".join(_quoted(connection, names))
    if _is_sqlite(connection):
        _insert(connection, f"INSERT INTO {table.name} ({columns}) VALUES", rows)
    else:
        _copy(connection, f"COPY {table.name} ({columns}) FROM STDIN", rows)


def update_rows(
    connection: Connection, table: Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Set ``names`` in the rows that ``keys`` name; each of ``rows`` has the values of ``names``, then of ``keys``."""
    if not rows:
        return
    if _is_sqlite(connection):
        sets = ", ".join(f"{one} = ?" for one in _quoted(connection, names))
        where = " AND ".join(f"{one} = ?" for one in _quoted(connection, keys))
        connection.exec_driver_sql(f"UPDATE {table.name} SET {sets} WHERE {where}", rows)  # noqa: S608  our names
        return
    columns = _quoted(connection, [*names, *keys])
    types = [table.c[name].type.compile(connection.dialect) for name in (*names, *keys)]
    arrays = ", ".join(f"%s::{one}[]" for one in types)
    sets = ", ".join(f"{one} = given.{one}" for one in columns[: len(names)])
    where = " AND ".join(f"{table.name}.{one} = given.{one}" for one in columns[len(names) :])
    connection.exec_driver_sql(
        f"UPDATE {table.name} SET {sets} FROM unnest({arrays}) AS given ({', '.join(columns)}) WHERE {where}",  # noqa: S608  our names
        tuple(map(list, zip(*rows, strict=True))),
    )


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _quoted(connection: Connection, names: Sequence[str]) -> list[str]:
    return [connection.dialect.identifier_preparer.quote(name) for name in names]


def _insert(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    row = f"({', '.join('?' * len(rows[0]))})"
    whole = len(rows) - len(rows) % _TOGETHER
    if whole:
        several = f"{statement} {', '.join([row] * _TOGETHER)}"
        for start in range(0, whole, _TOGETHER):
            connection.exec_driver_sql(several, tuple(chain.from_iterable(rows[start : start + _TOGETHER])))
    if rest := rows[whole:]:
        connection.exec_driver_sql(f"{statement} {row}", rest)


def _copy(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    driver = connection.dialect.loaded_dbapi
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        # As Core would have raised it, so that one seam translates all errors of the database.
        raise exc.DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error
