"""Errors of the two drivers as errors of the product.

A server's message about data can quote values (and the row of a constraint always does), so
what is passed on is its first line for failures of structure, rights and connection, and the
name of the kind for everything else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from identitymesh.errors import (
    ColumnsError,
    ColumnsForbidden,
    ColumnsUnfit,
    DatabaseLocked,
    DatabaseUnreachable,
    DiskFull,
    MeshError,
)

LONGEST: Final = 300
_AGAIN: Final = "What was committed until then is kept: run the same command again, it goes on from there."


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn a driver's error into one of ours. The driver's own is not kept: it may hold a password or a value."""
    failure: MeshError | None = None
    try:
        yield
    except psycopg.Error as error:
        failure = postgres_failure(error, where)
    except sqlite3.Error as error:
        failure = sqlite_failure(error, where)
    if failure is not None:
        raise failure from None


def postgres_failure(error: psycopg.Error, where: str) -> MeshError:
    """Our error for one of psycopg's."""
    state = error.sqlstate or ""
    text = _first_line(error)
    found: MeshError
    if state == "53100" or "no space left" in text.lower():
        found = DiskFull(f"{where}: the server's disk is full", hint=f"Make room. {_AGAIN}")
    elif state in {"55P03", "40001", "40P01", "57014"}:
        found = DatabaseLocked(f"{where}: locked by another session for too long", hint=f"Wait for it to end. {_AGAIN}")
    elif state == "42501":
        found = ColumnsForbidden(f"{where}: {text}", hint="Run this as the owner of the table.")
    elif state == "25006":
        found = ColumnsForbidden(f"{where}: the server takes no writes: {text}", hint="Name the primary in the URL.")
    elif state[:2] in {"42", "2B", "0A", "3F"}:
        found = ColumnsUnfit(f"{where}: {text}")
    elif state[:2] == "23":
        constraint = error.diag.constraint_name or error.diag.column_name or "of the table"
        found = ColumnsUnfit(
            f"{where}: the constraint {constraint} refuses an encrypted value",
            hint="Change the constraint, so that it takes the new columns or rows.",
        )
    elif not state or state[:2] in {"08", "28", "3D", "53", "57", "58"}:
        found = DatabaseUnreachable(
            f"{where}: {text}", hint=f"Check that the server runs and takes this login. {_AGAIN}"
        )
    else:
        found = ColumnsError(f"{where}: the server refused a statement ({state})")
    return found


def sqlite_failure(error: sqlite3.Error, where: str) -> MeshError:
    """Our error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    text = _first_line(error)
    found: MeshError
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        found = DiskFull(f"{where}: the disk is full, or cannot be written", hint=f"Make room. {_AGAIN}")
    elif name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        found = DatabaseLocked(f"{where}: locked by another program", hint=f"Wait for it to end. {_AGAIN}")
    elif name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        found = ColumnsForbidden(f"{where}: {text}", hint="Run this as the user that owns the file.")
    elif name.startswith(("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT")):
        found = DatabaseUnreachable(f"{where}: {text}")
    elif name.startswith("SQLITE_CONSTRAINT"):
        found = ColumnsUnfit(
            f"{where}: a constraint refuses an encrypted value ({name.removeprefix('SQLITE_CONSTRAINT_').lower()})",
            hint="Change the constraint, so that it takes the new columns or rows.",
        )
    elif name in {"SQLITE_ERROR", "SQLITE_SCHEMA"}:
        found = ColumnsUnfit(f"{where}: {text}")
    else:
        found = ColumnsError(f"{where}: SQLite refused a statement ({name or type(error).__name__})")
    return found


def _first_line(error: Exception) -> str:
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = [line.strip() for line in str(primary or error).splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line] or lines
    return (telling[0] if telling else type(error).__name__)[:LONGEST]
