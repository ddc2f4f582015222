"""Reads the ledger of an SQLite database with the driver alone, for a list that is to be there at once.

Only reading, only what :class:`~identitymesh.secrets.properties.LedgerView` names, and only in a database of exactly
this program's version. The same columns as in ``storage/secrets.py``: the records of ``secrets/rows.py`` name them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from identitymesh.errors import SchemaOutdated, StorageError
from identitymesh.secrets.rows import KeyringRow, LedgerRow, SlotRow
from identitymesh.storage.revisions import head

_MOMENTS: Final = ("created", "changed", "last_used", "expires", "opened")


class Glance:
    """One snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def check(self, provider: str) -> None:
        """Raise as :func:`glance` does."""
        if self._connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(head(),)]:
            raise SchemaOutdated("the database has another schema")
        if self._connection.execute("SELECT provider FROM installation").fetchall() != [(provider,)]:
            raise StorageError("the secrets are kept elsewhere")

    def keyring(self, name: str) -> KeyringRow | None:
        return next((KeyringRow(**row) for row in self._rows("keyring WHERE name = ?", KeyringRow, name)), None)

    def slots(self, keyring: str) -> Sequence[SlotRow]:
        source = (
            "(SELECT keyring_slot.*, slot_guard.guarded FROM keyring_slot LEFT JOIN slot_guard "
            "ON slot_guard.keyring = keyring_slot.keyring AND slot_guard.slot = keyring_slot.id) "
            "WHERE keyring = ? ORDER BY id"
        )
        return [SlotRow(**row) for row in self._rows(source, SlotRow, keyring)]

    def ledger(self) -> Mapping[str, LedgerRow]:
        return {row["ref"]: LedgerRow(**row) for row in self._rows("secret_ledger", LedgerRow)}

    def _rows(self, source: str, record: Any, *values: str) -> Iterator[dict[str, Any]]:
        names = [field.name for field in fields(record)]
        query = f"SELECT {', '.join(names)} FROM {source}"  # noqa: S608 - names of our own code
        for row in self._connection.execute(query, values):
            found = dict(zip(names, row, strict=True))
            yield {name: _moment(value) if name in _MOMENTS else value for name, value in found.items()}


def _moment(text: str | None) -> datetime | None:
    """SQLite keeps moments as text without a zone, always UTC."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextmanager
def glance(file: Path, *, provider: str) -> Iterator[Glance]:
    """A snapshot of an SQLite database that exists, has this schema, and whose active provider is this one.

    Raises:
        sqlite3.Error, StorageError: it is not; who opens it in the ordinary way learns in words what is wrong.
    """
    # rw, and not ro: beside a database in WAL mode that nobody else has open, files must be made.
    uri = f"file:{quote(str(file))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        view = Glance(connection)
        view.check(provider)
        yield view
