"""What most tests begin with, made once in each process and copied for each test: the schema, an installation.

An installation is proven by a process of its own when it is made, and its schema is a dozen migrations: together half a
second, which a copy does not take. Whoever needs two installations that differ makes the other one himself.
"""

from __future__ import annotations

import functools
import os
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Table, insert, select

from identitymesh.redaction import Secret
from identitymesh.secrets.setup import InitResult, initialise
from identitymesh.storage import schema
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from identitymesh.storage.tables import audit, secrets
from tests.servers.postgresql import PostgresDatabase

# What a new installation has rows in, in the order of their references.
FILLED: tuple[Table, ...] = (secrets.installation, secrets.keyring, secrets.keyring_slot, audit.audit)
NUMBERED = "sequence"  # the database gives it


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(prefix="im-schema-") as folder:
        file = Path(folder) / "mesh.db"
        with closing(open_database(f"sqlite:///{file}")) as database:
            schema.upgrade(database)
        return file.read_bytes()


def migrated_file(file: Path) -> None:
    """An SQLite database with the schema and nothing in it."""
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as opened:
        opened.write(_migrated())


def migrate(given: PostgresDatabase) -> None:
    """The schema in an empty database; for `PostgresServer.template`."""
    with closing(open_database(given.url, password=Secret(given.password))) as database:
        schema.upgrade(database)


@dataclass(frozen=True)
class Original:
    """An installation with the provider ``database``: its files by name, with their modes, and its rows by table."""

    result: InitResult
    files: dict[str, tuple[int, bytes]]
    rows: dict[str, list[dict[str, Any]]]

    @classmethod
    def make(cls, actor: str, label: str) -> Self:
        with tempfile.TemporaryDirectory(prefix="im-original-") as name:
            host, file = Path(name) / "host", Path(name) / "mesh.db"
            migrated_file(file)
            with closing(open_database(f"sqlite:///{file}")) as database:
                result = initialise(
                    SqlSecretRows(database),
                    host,
                    provider="database",
                    actor=actor,
                    label=label,
                    announce=lambda _result: None,
                )
                with database.read() as connection:
                    rows = {
                        table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
                        for table in FILLED
                    }
            files = {path.name: (path.stat().st_mode & 0o777, path.read_bytes()) for path in host.iterdir()}
        return cls(result, files, rows)

    def copy(self, database: Database, host: Path) -> InitResult:
        """The same in a database that has the tables and no rows, with a host folder that is new."""
        host.mkdir(mode=0o700)
        for name, (mode, content) in self.files.items():
            path = host / name
            path.write_bytes(content)
            path.chmod(mode)
        with database.write() as connection:
            for table in FILLED:
                for row in self.rows[table.name]:
                    connection.execute(insert(table), {key: value for key, value in row.items() if key != NUMBERED})
        return replace(self.result, host=host)


@functools.cache
def original(actor: str, label: str) -> Original:
    """The one of this process: everybody who asks gets the same keys, and its recovery key."""
    return Original.make(actor, label)
