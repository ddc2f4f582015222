"""Which attributes the rows of a query have, as far as the database says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from sqlalchemy import CursorResult

from identitymesh.connectors.contract import AttributeInfo
from identitymesh.connectors.kinds.sql.settings import SqlObject
from identitymesh.connectors.kinds.sql.snapshots import Snapshot

_POSTGRES: Final = {
    "bool": "boolean",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "float4": "decimal",
    "float8": "decimal",
    "numeric": "decimal",
    "bytea": "binary",
    "date": "datetime",
    "timestamp": "datetime",
    "timestamptz": "datetime",
}
# The rules of SQLite for the affinity of a column, https://sqlite.org/datatype3.html section 3.1, shortened.
_SQLITE: Final = (
    ("INT", "integer"),
    ("BOOL", "boolean"),
    ("BLOB", "binary"),
    ("REAL", "decimal"),
    ("FLOA", "decimal"),
    ("DOUB", "decimal"),
    ("NUM", "decimal"),
    ("DEC", "decimal"),
)


def describe(result: CursorResult[Any], snapshot: Snapshot, selected: SqlObject) -> Sequence[AttributeInfo]:
    """One attribute for each column. SQLite knows types for tables alone; all columns of a query are text there."""
    description = result.cursor.description or ()
    writable = selected.table is not None
    if result.dialect.name == "postgresql":
        return [_postgres(column[0], int(str(column[1])), writable=writable) for column in description]
    declared = _declared(snapshot, selected)
    return [AttributeInfo(column[0], declared.get(column[0], "string"), writable=writable) for column in description]


def _postgres(name: str, oid: int, *, writable: bool) -> AttributeInfo:
    info = psycopg.adapters.types.get(oid)
    kind = "string" if info is None else _POSTGRES.get(info.name, "string")
    return AttributeInfo(name, kind, many=info is not None and info.array_oid == oid, writable=writable)


def _declared(snapshot: Snapshot, selected: SqlObject) -> dict[str, str]:
    if selected.table is None:
        return {}
    schema, _, table = selected.table.rpartition(".")
    prefix = snapshot.quote(schema) + "." if schema else ""
    pragma = f"PRAGMA {prefix}table_info({snapshot.quote(table)})"
    rows = snapshot.rows(pragma)
    return {str(row.name): _sqlite(str(row.type)) for row in rows}


def is_view(snapshot: Snapshot, selected: SqlObject) -> bool:
    """Whether this is a view of SQLite."""
    schema, _, name = (selected.table or "").rpartition(".")
    prefix = snapshot.quote(schema) + "." if schema else ""
    # Names of tables are compared without regard to case there.
    statement = f"SELECT type FROM {prefix}sqlite_master WHERE lower(name) = lower(:name)"  # noqa: S608  prefix is quoted
    found = snapshot.rows(statement, name=name)
    return any(row.type == "view" for row in found)


def _sqlite(declared: str) -> str:
    return next((kind for part, kind in _SQLITE if part in declared.upper()), "string")
