"""The support bundle: what somebody needs who helps, and no value of anybody."""

from __future__ import annotations

import io
import json
import platform
import sqlite3
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from identitymesh import __version__
from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import replace_private
from identitymesh.storage import revisions, schema
from identitymesh.storage.database import Database
from identitymesh.storage.doctor import Finding
from identitymesh.storage.tables import every_table
from identitymesh.storage.tables.runs import run

RUNS: Final = 200
PACKAGES: Final = ("alembic", "cryptography", "psycopg", "pydantic", "pyrage", "sqlalchemy", "typer")


def collect(
    database: Database | None, settings: Mapping[str, str], findings: Sequence[Finding], file: Path
) -> tuple[str, ...]:
    """Write the bundle, mode 0600; answers the names of its files.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} exists already", hint="Choose another name, or move it away first.")
    parts: dict[str, Any] = {
        "versions.json": _versions(database),
        "settings.json": dict(settings),
        "doctor.json": [asdict(one) for one in findings],
    }
    if database is not None:
        parts |= {"schema.json": _schema(database), "runs.json": _runs(database)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(content, indent=1, sort_keys=True) + "\n")
    try:
        replace_private(file, Secret(buffer.getvalue()), mode=0o600)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {(error.strerror or '').lower()}") from None
    return tuple(parts)


def _versions(database: Database | None) -> dict[str, str]:
    found = {"identitymesh": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
    found["sqlite"] = sqlite3.sqlite_version
    if database is not None:
        found["database"] = database.dialect
        if database.dialect == "postgresql":
            with database.read() as connection:
                found["postgresql"] = str(connection.exec_driver_sql("SHOW server_version").scalar())
    return found | {name: metadata.version(name) for name in PACKAGES}


def _schema(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        rows = {
            one.name: connection.scalar(select(func.count()).select_from(one)) for one in every_table().sorted_tables
        }
    return {"revision": schema.current(database), "program": revisions.head(), "rows": rows}


def _runs(database: Database) -> list[dict[str, Any]]:
    """How runs went; their error texts stay out, they can name people."""
    c = run.c
    query = select(c.id, c.command, c.mode, c.state, c.definition_version, c.started_at, c.ended_at, c.error_code)
    with database.read() as connection:
        rows = connection.execute(query.order_by(c.id.desc()).limit(RUNS)).mappings()
        return [{name: str(value) if value is not None else None for name, value in row.items()} for row in rows]
