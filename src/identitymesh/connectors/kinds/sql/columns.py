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
_SQLITE: Final = (("INT", "integer"), ("BOOL", "boolean"), ("BLOB", "binary"), ("REAL", "decimal"), ("FLOA", "decimal"))


def describe(result: CursorResult[Any], snapshot: Snapshot, selected: SqlObject) -> Sequence[AttributeInfo]:
    """One attribute for each column. SQLite knows types for tables alone; all columns of a query are text there."""
    description = result.cursor.description or ()
    if result.dialect.name == "postgresql":
        return [_postgres(column[0], int(str(column[1]))) for column in description]
    declared = _declared(snapshot, selected)
    return [AttributeInfo(column[0], declared.get(column[0], "string"), writable=False) for column in description]


def _postgres(name: str, oid: int) -> AttributeInfo:
    info = psycopg.adapters.types.get(oid)
    kind = "string" if info is None else _POSTGRES.get(info.name, "string")
    return AttributeInfo(name, kind, many=info is not None and info.array_oid == oid, writable=False)


def _declared(snapshot: Snapshot, selected: SqlObject) -> dict[str, str]:
    if selected.table is None:
        return {}
    schema, _, table = selected.table.rpartition(".")
    prefix = snapshot.quote(schema) + "." if schema else ""
    pragma = f"PRAGMA {prefix}table_info({snapshot.quote(table)})"
    rows = snapshot.rows(pragma)
    return {str(row.name): _sqlite(str(row.type)) for row in rows}


def _sqlite(declared: str) -> str:
    return next((kind for part, kind in _SQLITE if part in declared.upper()), "string")
