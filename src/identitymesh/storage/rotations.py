"""Rotations of credentials: implements what :mod:`identitymesh.secrets.rotation` asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import delete, insert, select

from identitymesh.secrets.rotation import RotationRow
from identitymesh.storage.secrets import SqlSecretRows, SqlSecretTransaction, SqlSecretView
from identitymesh.storage.tables.continuity import secret_rotation


class SqlRotationView(SqlSecretView):
    """Reads on one connection."""

    def rotation(self, ref: str) -> RotationRow | None:
        query = select(secret_rotation).where(secret_rotation.c.ref == ref)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else RotationRow(**row)

    def rotations(self) -> Sequence[RotationRow]:
        query = select(secret_rotation).order_by(secret_rotation.c.ref)
        return [RotationRow(**row) for row in self._connection.execute(query).mappings()]


class SqlRotationTransaction(SqlSecretTransaction, SqlRotationView):
    """Reads and writes on one connection."""

    def put_rotation(self, row: RotationRow) -> None:
        self.delete_rotation(row.ref)
        self._connection.execute(insert(secret_rotation), asdict(row))

    def delete_rotation(self, ref: str) -> None:
        self._connection.execute(delete(secret_rotation).where(secret_rotation.c.ref == ref))


class SqlRotationRows(SqlSecretRows):
    """Snapshots and transactions over secrets and their rotations."""

    @contextmanager
    def read(self) -> Iterator[SqlRotationView]:
        with self._database.read() as connection:
            yield SqlRotationView(connection)

    @contextmanager
    def write(self) -> Iterator[SqlRotationTransaction]:
        with self._database.write() as connection:
            yield SqlRotationTransaction(connection)
