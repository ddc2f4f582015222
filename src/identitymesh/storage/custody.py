"""Rows of the custody of keys: rotations, batches of sealed values, HMACs of audiences. On SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, select, tuple_, update

from identitymesh.secrets.rows import LedgerRow, RotationRow, SealedRow
from identitymesh.storage.database import Database
from identitymesh.storage.rows import chunks
from identitymesh.storage.secrets import SqlSecretTransaction, SqlSecretView
from identitymesh.storage.tables.secrets import keyring_rotation, secret, secret_ledger


class SqlCustodyRows:
    """Snapshots and transactions for the commands that change keyrings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def read(self) -> Iterator[SqlCustodyView]:
        with self._database.read() as connection:
            yield SqlCustodyView(connection)

    @contextmanager
    def write(self) -> Iterator[SqlCustodyTransaction]:
        with self._database.write() as connection:
            yield SqlCustodyTransaction(connection)


class SqlCustodyView(SqlSecretView):
    """Reads on one connection."""

    def rotation(self, keyring: str) -> RotationRow | None:
        query = select(keyring_rotation).where(keyring_rotation.c.keyring == keyring)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else RotationRow(**row)

    def sealed_numbers(self, keyring: str) -> tuple[int, Mapping[int, int]]:
        query = select(secret.c.key_id, func.count()).where(secret.c.keyring == keyring).group_by(secret.c.key_id)
        by_key: dict[int, int] = {row[0]: row[1] for row in self._connection.execute(query)}
        return sum(by_key.values()), by_key

    def sealed_after(
        self, keyring: str, after: tuple[str, int], limit: int, *, except_key: int | None = None
    ) -> Sequence[SealedRow]:
        query = (
            select(secret)
            .where((secret.c.keyring == keyring) & (tuple_(secret.c.ref, secret.c.version) > after))
            .order_by(secret.c.ref, secret.c.version)
            .limit(limit)
        )
        if except_key is not None:
            query = query.where(secret.c.key_id != except_key)
        return [SealedRow(**row) for row in self._connection.execute(query).mappings()]


def _same_rotation(row: RotationRow, fence: int) -> ColumnElement[bool]:
    columns = keyring_rotation.c
    return and_(columns.keyring == row.keyring, columns.new_key == row.new_key, columns.fence == fence)


class SqlCustodyTransaction(SqlSecretTransaction, SqlCustodyView):
    """Reads and writes on one connection."""

    def insert_rotation(self, row: RotationRow) -> bool:
        return self._insert_new(keyring_rotation, asdict(row))

    def move_rotation(self, row: RotationRow, *, fence: int) -> bool:
        same = _same_rotation(row, fence)
        return self._connection.execute(update(keyring_rotation).where(same).values(asdict(row))).rowcount == 1

    def hold_rotation(self, row: RotationRow) -> bool:
        query = select(keyring_rotation.c.fence).where(_same_rotation(row, row.fence)).with_for_update()
        return self._connection.execute(query).scalar() is not None

    def delete_rotation(self, row: RotationRow) -> bool:
        return self._connection.execute(delete(keyring_rotation).where(_same_rotation(row, row.fence))).rowcount == 1

    def reseal(self, changes: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        free = self._lock_free([(before.ref, before.version) for before, _after in changes])
        statement = (
            update(secret)
            .where(
                (secret.c.ref == bindparam("at_ref"))
                & (secret.c.version == bindparam("at_version"))
                & (secret.c.sealed == bindparam("as_read"))
            )
            .values(sealed=bindparam("resealed"), key_id=bindparam("new_key"))
        )
        rows = [
            {
                "at_ref": before.ref,
                "at_version": before.version,
                "as_read": before.sealed,
                "resealed": after.sealed,
                "new_key": after.key_id,
            }
            for before, after in changes
            if (before.ref, before.version) in free
        ]
        if not rows:
            return 0
        self._connection.execute(statement, rows)
        return len(rows)

    def _lock_free(self, places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those of these rows that nobody holds; SQLite has one writer anyway."""
        found: set[tuple[str, int]] = set()
        for chunk in chunks(places):
            query = select(secret.c.ref, secret.c.version).where(tuple_(secret.c.ref, secret.c.version).in_(chunk))
            locked = self._connection.execute(query.with_for_update(skip_locked=True))
            found |= {(ref, version) for ref, version in locked}
        return found

    def lock_ledger_of(self, keyring: str, after: str, limit: int) -> Sequence[LedgerRow]:
        query = (
            select(secret_ledger)
            .where((secret_ledger.c.keyring == keyring) & (secret_ledger.c.ref > after))
            .order_by(secret_ledger.c.ref)
            .limit(limit)
            .with_for_update()
        )
        return [LedgerRow(**row) for row in self._connection.execute(query).mappings()]

    def put_audience_macs(self, macs: Mapping[str, bytes]) -> None:
        if not macs:
            return
        statement = (
            update(secret_ledger).where(secret_ledger.c.ref == bindparam("at")).values(audience_mac=bindparam("mac"))
        )
        self._connection.execute(statement, [{"at": ref, "mac": mac} for ref, mac in macs.items()])
