"""Rows of secrets: implements what :mod:`identitymesh.secrets.rows` asks for, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from typing import Any

from sqlalchemy import (
    Connection,
    String,
    Table,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    text,
    true,
    tuple_,
    update,
)

from identitymesh.audit import Record
from identitymesh.lease import Lease
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.rows import (
    InstallationRow,
    KeyringRow,
    LedgerRow,
    SealedRow,
    SlotRow,
    StoredSecret,
    Use,
)
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.database import Database
from identitymesh.storage.rows import chunks
from identitymesh.storage.tables.secrets import (
    installation,
    keyring,
    keyring_slot,
    secret,
    secret_ledger,
    secret_migration,
    secret_migration_item,
    slot_guard,
)

NUMBER_DIGITS = 9  # of a version id that may be a number of ours, and not a vault's

# The columns of StoredSecret. A version is text in the ledger, and there it may say anything: so text is compared.
_ONE_SECRET = (
    select(
        secret_ledger.c.ref,
        installation.c.provider,
        keyring.c.name,
        keyring.c.generation,
        keyring.c.sealed,
        secret_ledger.c.audience,
        secret_ledger.c.audience_mac,
        secret.c.version,
        secret.c.key_id,
        secret.c.sealed,
        secret.c.expires,
    )
    .select_from(secret_ledger)
    .join(installation, true())
    .join(keyring, keyring.c.name == secret_ledger.c.keyring)
    .join(
        secret,
        (secret.c.ref == secret_ledger.c.ref)
        & (secret.c.keyring == secret_ledger.c.keyring)
        & (cast(secret.c.version, String) == secret_ledger.c.current_version),
    )
    .where(secret_ledger.c.ref == bindparam("ref"))
)


class SqlSecretRows:
    """Snapshots and transactions over the tables of secrets."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_secret: Callable[..., Sequence[Any] | None] | None = None

    def find(self, ref: str) -> StoredSecret | None:
        if self._one_secret is None:
            self._one_secret = self._database.prepare(_ONE_SECRET)
        row = self._one_secret(ref=ref)
        return None if row is None else StoredSecret._make(row)

    @contextmanager
    def read(self) -> Iterator[SqlSecretView]:
        with self._database.read() as connection:
            yield SqlSecretView(connection)

    @contextmanager
    def write(self) -> Iterator[SqlSecretTransaction]:
        with self._database.write() as connection:
            yield SqlSecretTransaction(connection)


class SqlSecretView:
    """Reads on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def installation(self) -> InstallationRow | None:
        columns = [column for column in installation.c if column is not installation.c.singleton]
        row = self._connection.execute(select(*columns)).mappings().first()
        return None if row is None else InstallationRow(**row)

    def keyring(self, name: str) -> KeyringRow | None:
        row = self._connection.execute(select(keyring).where(keyring.c.name == name)).mappings().first()
        return None if row is None else KeyringRow(**row)

    def slots(self, keyring: str) -> Sequence[SlotRow]:
        beside = (slot_guard.c.keyring == keyring_slot.c.keyring) & (slot_guard.c.slot == keyring_slot.c.id)
        query = (
            select(keyring_slot, slot_guard.c.guarded)
            .join(slot_guard, beside, isouter=True)
            .where(keyring_slot.c.keyring == keyring)
            .order_by(keyring_slot.c.id)
        )
        return [SlotRow(**row) for row in self._connection.execute(query).mappings()]

    def ledger(self, refs: Iterable[str] | None = None) -> Mapping[str, LedgerRow]:
        if refs is None:
            return self._ledger_rows(select(secret_ledger))
        found: dict[str, LedgerRow] = {}
        for chunk in chunks(refs):
            found.update(self._ledger_rows(select(secret_ledger).where(secret_ledger.c.ref.in_(chunk))))
        return found

    def _ledger_rows(self, query: Any) -> dict[str, LedgerRow]:
        return {row["ref"]: LedgerRow(**row) for row in self._connection.execute(query).mappings()}

    def counterparts(self, wanted: Iterable[tuple[str, str]], active: str) -> Mapping[tuple[str, str], str]:
        item = secret_migration_item.c
        first = self._connection.scalar(select(secret_migration.c.first))
        own, other = item.first_version, item.second_version
        if first != active:
            own, other = other, own
        found: dict[tuple[str, str], str] = {}
        for chunk in chunks(wanted):
            query = select(item.ref, own, other).where(tuple_(item.ref, own).in_(chunk))
            found.update(((ref, version), there) for ref, version, there in self._connection.execute(query))
        return found

    def sealed(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], SealedRow]:
        found: dict[tuple[str, int], SealedRow] = {}
        for chunk in chunks(wanted):
            query = select(secret).where(tuple_(secret.c.ref, secret.c.version).in_(chunk))
            for row in self._connection.execute(query).mappings():
                found[row["ref"], row["version"]] = SealedRow(**row)
        return found

    def expired(self, now: datetime) -> Sequence[str]:
        query = select(secret_ledger.c.ref).where(secret_ledger.c.expires <= now).order_by(secret_ledger.c.ref)
        return list(self._connection.scalars(query))

    def version_numbers(self, refs: Iterable[str] | None = None) -> Sequence[tuple[str, int]]:
        query = select(secret.c.ref, secret.c.version).order_by(secret.c.ref, secret.c.version)
        queries = [query] if refs is None else [query.where(secret.c.ref.in_(chunk)) for chunk in chunks(refs)]
        return [(name, number) for one in queries for name, number in self._connection.execute(one)]


class SqlSecretTransaction(SqlSecretView):
    """Reads and writes on one connection; make one over your own connection to join a larger transaction."""

    def insert_installation(self, row: InstallationRow) -> bool:
        return self._insert_new(installation, {"singleton": 1, **asdict(row)})

    def set_provider(self, name: str) -> None:
        self._connection.execute(update(installation).values(provider=name))

    def count_fallbacks(self, times: int) -> None:
        self._connection.execute(update(secret_migration).values(fallbacks=secret_migration.c.fallbacks + times))

    def insert_keyring(self, row: KeyringRow, slots: Sequence[SlotRow]) -> None:
        self._connection.execute(insert(keyring), asdict(row))
        self._insert_slots(slots)

    def replace_keyring(self, row: KeyringRow, slots: Sequence[SlotRow], *, expected_generation: int) -> bool:
        same = (keyring.c.name == row.name) & (keyring.c.generation == expected_generation)
        changed = self._connection.execute(update(keyring).where(same).values(asdict(row)))
        if changed.rowcount != 1:
            return False
        kept = [slot.id for slot in slots]
        gone = (slot_guard.c.keyring == row.name) & slot_guard.c.slot.not_in(kept)
        self._connection.execute(delete(slot_guard).where(gone))
        self._connection.execute(delete(keyring_slot).where(keyring_slot.c.keyring == row.name))
        self._insert_slots(slots)
        return True

    def _insert_slots(self, slots: Sequence[SlotRow]) -> None:
        rows = [{name: value for name, value in asdict(slot).items() if name != "guarded"} for slot in slots]
        self._connection.execute(insert(keyring_slot), rows)

    def put_guard(self, keyring: str, slot: str, guarded: bytes, at: datetime) -> None:
        values = {"keyring": keyring, "slot": slot, "guarded": guarded, "created": at}
        self._connection.execute(insert(slot_guard), values)

    def mark_opened(self, keyring: str, slot: str, by: str, at: datetime) -> None:
        one = (keyring_slot.c.keyring == keyring) & (keyring_slot.c.id == slot)
        self._connection.execute(update(keyring_slot).where(one).values(opened=at, opened_by=by))

    def note_opened(self, slots: Iterable[tuple[str, str]], by: str, at: datetime, before: datetime) -> None:
        c = keyring_slot.c
        for name, slot in slots:
            old = (c.keyring == name) & (c.id == slot) & (c.opened.is_(None) | (c.opened < before))
            free = select(c.id).where(old).with_for_update(skip_locked=True)
            self._connection.execute(
                update(keyring_slot).where(old, c.id.in_(free)).values(opened=at, opened_by=by[:255])
            )

    def hold_keyring(self, name: str, generation: int) -> bool:
        # On SQLite the write transaction is alone anyway.
        query = select(keyring.c.generation).where(keyring.c.name == name).with_for_update(read=True)
        return self._connection.execute(query).scalar() == generation

    def lock_ledger_whole(self) -> None:
        # Whoever stores a value shares the lock of the keyring until its commit, and takes that of the ledger after it.
        # On SQLite a write transaction is alone anyway.
        self._connection.execute(select(keyring.c.name).where(keyring.c.name == CONNECTORS).with_for_update())
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text("LOCK TABLE secret_ledger IN EXCLUSIVE MODE"))

    def last_number(self, ref: str) -> int:
        stored = self._connection.scalar(select(func.max(secret.c.version)).where(secret.c.ref == ref))
        copied = select(secret_migration_item.c.first_version, secret_migration_item.c.second_version)
        ids = (one for row in self._connection.execute(copied.where(secret_migration_item.c.ref == ref)) for one in row)
        return max([stored or 0, *(int(one) for one in ids if one.isdecimal() and len(one) <= NUMBER_DIGITS)])

    def hold_lease(self, lease: Lease) -> None:
        from identitymesh.storage.leases import assert_held  # runs alone have leases, and commands start faster without

        assert_held(self._connection, lease)

    def lock_ledger(self, ref: str) -> LedgerRow | None:
        query = select(secret_ledger).where(secret_ledger.c.ref == ref).with_for_update()
        row = self._connection.execute(query).mappings().first()
        return None if row is None else LedgerRow(**row)

    def put_ledger(self, row: LedgerRow) -> None:
        changed = self._connection.execute(
            update(secret_ledger).where(secret_ledger.c.ref == row.ref).values(asdict(row))
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(secret_ledger), asdict(row))

    def insert_ledger(self, row: LedgerRow) -> bool:
        return self._insert_new(secret_ledger, asdict(row))

    def insert_sealed(self, row: SealedRow) -> None:
        self._connection.execute(insert(secret), asdict(row))

    def delete_sealed(self, ref: str) -> int:
        return self._connection.execute(delete(secret).where(secret.c.ref == ref)).rowcount

    def delete_versions(self, ref: str, versions: Sequence[int]) -> None:
        self._connection.execute(delete(secret).where(secret.c.ref == ref, secret.c.version.in_(versions)))

    def delete_ledger(self, ref: str) -> None:
        self._connection.execute(delete(secret_ledger).where(secret_ledger.c.ref == ref))

    def mark_used(self, uses: Iterable[Use], at: datetime) -> None:
        # Sorted, so that two runs that use the same secrets lock their rows in the same order.
        rows = [
            {"key": use.ref, "used": at, "version": use.version, "by": use.by}
            for use in sorted(uses, key=lambda use: use.ref)
        ]
        if not rows:
            return
        statement = (
            update(secret_ledger)
            .where(secret_ledger.c.ref == bindparam("key"))
            .values(last_used=bindparam("used"), last_used_version=bindparam("version"), last_used_by=bindparam("by"))
        )
        self._connection.execute(statement, rows)

    def audit(self, records: Iterable[Record]) -> None:
        SqlAuditTrail(self._connection).append(records)

    def _insert_new(self, table: Table, values: Mapping[str, Any]) -> bool:
        """Insert, unless the key exists; a concurrent insert of the same key is waited for."""
        # Late: that of PostgreSQL takes 0.1 s to import, and an installation has one of the two.
        dialect: Any = import_module(f"sqlalchemy.dialects.{self._connection.dialect.name}")
        statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(*table.primary_key)
        return self._connection.execute(statement).first() is not None
