"""Migrations of secrets between providers: implements what :mod:`identitymesh.secrets.migration` asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, String, and_, cast, delete, func, insert, literal, select, tuple_, update

from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.migration.state import ItemRow, MigrationRow
from identitymesh.storage.leases import is_alive
from identitymesh.storage.rotations import SqlRotationTransaction, SqlRotationView
from identitymesh.storage.rows import chunks
from identitymesh.storage.secrets import SqlSecretRows
from identitymesh.storage.tables.continuity import secret_rotation
from identitymesh.storage.tables.runs import lease, run
from identitymesh.storage.tables.secrets import installation, secret_ledger
from identitymesh.storage.tables.secrets import secret_migration as migration
from identitymesh.storage.tables.secrets import secret_migration_item as item

_KEY = (item.c.ref, item.c.first_version, item.c.second_version)


class SqlMigrationView(SqlRotationView):
    """Reads on one connection."""

    def migration(self) -> MigrationRow | None:
        columns = [column for column in migration.c if column is not migration.c.singleton]
        row = self._connection.execute(select(*columns)).mappings().first()
        return None if row is None else MigrationRow(**row)

    def items(self, refs: Iterable[str] | None = None) -> Sequence[ItemRow]:
        query = select(item).order_by(*_KEY)
        queries = [query] if refs is None else [query.where(item.c.ref.in_(chunk)) for chunk in chunks(sorted(refs))]
        return [ItemRow(*row) for one in queries for row in self._connection.execute(one)]

    def running_since_before(self, moment: datetime) -> Sequence[str]:
        name = literal("run:") + cast(run.c.id, String)
        query = select(run.c.id, lease).join(lease, lease.c.name == name)
        query = query.where(run.c.state == "running", run.c.started_at < moment)
        return [f"run {row.id}" for row in self._connection.execute(query) if is_alive(self._connection, row)]


def _same(row: MigrationRow) -> ColumnElement[bool]:
    """Fences count from 1 in each migration, and every step of a holder changes ``changed``."""
    columns = migration.c
    return and_(columns.fence == row.fence, columns.started == row.started, columns.changed == row.changed)


class SqlMigrationTransaction(SqlRotationTransaction, SqlMigrationView):
    """Reads and writes on one connection."""

    def insert_migration(self, row: MigrationRow) -> bool:
        return self._insert_new(migration, {"singleton": 1, **asdict(row)})

    def move_migration(self, row: MigrationRow, *, before: MigrationRow) -> bool:
        values = {name: value for name, value in asdict(row).items() if name != "fallbacks"}
        return self._connection.execute(update(migration).where(_same(before)).values(values)).rowcount == 1

    def delete_migration(self, row: MigrationRow) -> bool:
        self._connection.execute(delete(item))
        return self._connection.execute(delete(migration).where(_same(row))).rowcount == 1

    def put_items(self, rows: Iterable[ItemRow]) -> None:
        values = [asdict(row) for row in rows]
        if values:
            self._connection.execute(insert(item), values)

    def forget_items(self, rows: Iterable[ItemRow]) -> None:
        for chunk in chunks((row.ref, row.first_version, row.second_version) for row in rows):
            self._connection.execute(delete(item).where(tuple_(*_KEY).in_(chunk)))

    def unverify_items(self) -> None:
        self._connection.execute(update(item).values(verified=False))

    def set_draining(self, source: str | None) -> None:
        self._connection.execute(update(installation).values(draining=source))

    def set_closing(self, until: datetime | None) -> None:
        self._connection.execute(update(installation).values(closing=until))

    def renumber(self, *, back: bool) -> None:
        own, other = item.c.first_version, item.c.second_version
        if back:
            own, other = other, own
        for table, names in ((secret_ledger, ("current_version", "pending_version")), (secret_rotation, _ROTATED)):
            moved = {}
            for name in names:
                column = table.c[name]
                there = select(other).where(item.c.ref == table.c.ref, own == column).scalar_subquery()
                moved[name] = func.coalesce(there, column)
            mine = select(secret_ledger.c.ref).where(secret_ledger.c.keyring == CONNECTORS)
            self._connection.execute(update(table).where(table.c.ref.in_(mine)).values(moved))


_ROTATED = ("old_version", "new_version")


class SqlMigrationRows(SqlSecretRows):
    """Snapshots and transactions over secrets, their rotations and their migration."""

    @contextmanager
    def read(self) -> Iterator[SqlMigrationView]:
        with self._database.read() as connection:
            yield SqlMigrationView(connection)

    @contextmanager
    def write(self) -> Iterator[SqlMigrationTransaction]:
        with self._database.write() as connection:
            yield SqlMigrationTransaction(connection)
