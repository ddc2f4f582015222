"""Makes backups, checks them, and loads them: one snapshot, one file, one transaction."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Integer, MetaData, column, delete, func, insert, select, table, text, update

from identitymesh import __version__
from identitymesh.audit import Record
from identitymesh.errors import KeyringError, UsageError
from identitymesh.secrets.keyring import CONNECTORS, Document
from identitymesh.secrets.private_files import sync_directory
from identitymesh.secrets.protectors import RECOVERY
from identitymesh.secrets.rows import KeyringRow, SlotRow
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import installation
from identitymesh.storage import revisions, schema
from identitymesh.storage.archive import LEFT_OUT, TYPES, Archive, Writer, refused
from identitymesh.storage.audit import SqlAuditTrail
from identitymesh.storage.continuity import LOST_SLOT, put_event, put_pause
from identitymesh.storage.database import Database
from identitymesh.storage.secrets import SqlSecretTransaction, SqlSecretView
from identitymesh.storage.tables import continuity as k
from identitymesh.storage.tables import every_table
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r
from identitymesh.storage.tables import secrets as s

ROWS: Final = 1_000
BACKUP: Final = "backup"
RESTORE: Final = "restore"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What is in a backup."""

    file: str
    installation: str
    schema: str
    created: str
    tables: int
    rows: int
    bytes: int
    authenticated: bool


def create(database: Database, secrets: SecretStore, file: Path, actor: str) -> BackupReport:
    """Write a backup of the whole database, but for what opens the keyring; the file appears when it is complete.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} exists already", hint="Choose another name, or move it away first.")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        digest = _write(database, secrets, temporary)
        temporary.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {(error.strerror or type(error).__name__).lower()}") from None
    finally:
        temporary.unlink(missing_ok=True)
    report = verify(file)
    detail = {"file": str(file.resolve()), "digest": digest, "rows": report.rows}
    with database.write() as connection:
        put_event(connection, BACKUP, actor, detail)
        SqlAuditTrail(connection).append([Record("backup.create", "*", actor, payload=detail)])
    return report


def _write(database: Database, secrets: SecretStore, file: Path) -> str:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(handle, "w+b") as opened, database.read() as connection:
        view = SqlSecretView(connection)
        home, session = installation(view), secrets.session(view)
        writer = Writer(opened)
        for one in every_table().sorted_tables:
            if one.name not in LEFT_OUT:
                rows = connection.execution_options(yield_per=ROWS).execute(select(one))
                writer.table(one, (tuple(row) for row in rows))
        about = {
            "schema": revisions.head(),
            "product": __version__,
            "installation": home.id,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            document: Document | None = session.open(CONNECTORS)
        except KeyringError:
            document = None  # a host that lost its key still makes backups; restoring says that nobody vouches for it
        digest = writer.finish(about, document)
        opened.flush()
        os.fsync(opened.fileno())
    return digest


def verify(file: Path) -> BackupReport:
    """Read a backup to its end and compare it with its hashes. Needs no key and no database.

    Raises:
        BackupRefused: it is damaged.
    """
    with Archive(file) as archive:
        manifest = archive.manifest
        rows = archive.verify()
        return BackupReport(
            str(file),
            manifest.installation,
            manifest.schema,
            manifest.created,
            len(manifest.tables),
            rows,
            file.stat().st_size,
            manifest.authenticated,
        )


def keyrings_of(archive: Archive) -> dict[str, KeyringRow]:
    """The keyring rows in a backup."""
    names = [name for name, _kind in archive.manifest.table("keyring").columns]
    try:
        rows = [KeyringRow(**dict(zip(names, row, strict=True))) for row in archive.rows("keyring")]
    except TypeError:
        raise refused("its keyrings are of another version") from None
    return {row.name: row for row in rows}


def restored_from(database: Database) -> tuple[str | None, str | None]:
    """The installation that a database holds, and the digest of the backup that it was restored from."""
    if schema.current(database) != revisions.head():
        return None, None
    with database.read() as connection:
        known = connection.scalar(select(s.installation.c.id))
        detail = connection.scalar(select(k.custody_event.c.detail).where(k.custody_event.c.name == RESTORE))
    return known, json.loads(detail)["digest"] if detail else None


def generations(database: Database) -> Mapping[str, int]:
    """The generation of each keyring that a database holds."""
    if schema.current(database) != revisions.head():
        return {}
    with database.read() as connection:
        return {
            row.name: row.generation for row in connection.execute(select(s.keyring.c.name, s.keyring.c.generation))
        }


def load(
    database: Database,
    archive: Archive,
    keyrings: Mapping[str, Document],
    sealed: Mapping[str, bytes],
    actor: str,
    *,
    own: Collection[str],
) -> None:
    """Put a backup in the place of what the database holds: everything and the pause, or nothing.

    ``keyrings`` and the age files that hold them replace those of the backup; ``own`` are slots of this host.

    Raises:
        BackupRefused: it was made by a newer version, or is damaged.
    """
    manifest = archive.manifest
    if not schema.is_known(manifest.schema):
        raise refused(
            f"it has schema {manifest.schema}, which this program does not know; use the version that made it"
        )
    with database.write() as connection:
        schema.rebuild(connection, manifest.schema)
        for one in manifest.tables:
            _fill(connection, archive, one.name, one.columns)
        schema.upgrade_within(connection)
        _restart_numbering(connection, every_table())
        _make_harmless(connection, actor)
        _settle(connection, keyrings, sealed, actor, own)
        detail = {"digest": manifest.digest, "created": manifest.created, "installation": manifest.installation}
        put_event(connection, RESTORE, actor, detail)
        SqlAuditTrail(connection).append([Record("backup.restore", "*", actor, payload=detail)])
        # What was restored is this installation's newest backup, and as old as it is.
        detail = {"file": str(archive.path.resolve()), "digest": manifest.digest}
        put_event(connection, BACKUP, actor, detail, _made(manifest.created))


def _made(created: str) -> datetime:
    try:
        return datetime.fromisoformat(created)
    except ValueError:
        raise refused("it does not say when it was made") from None


def _fill(connection: Connection, archive: Archive, name: str, columns: tuple[tuple[str, str], ...]) -> None:
    if name not in every_table().tables or name in LEFT_OUT:
        raise refused(f"it has a table {name[:40]!r} that this program does not restore")
    target = table(name, *(column(title, TYPES[kind]) for title, kind in columns))
    names = [title for title, _kind in columns]
    batch: list[dict[str, Any]] = []
    for row in archive.rows(name):
        batch.append(dict(zip(names, row, strict=True)))
        if len(batch) == ROWS:
            connection.execute(insert(target), batch)
            batch = []
    if batch:
        connection.execute(insert(target), batch)


def _restart_numbering(connection: Connection, tables: MetaData) -> None:
    """PostgreSQL's sequences do not notice rows that came with their numbers."""
    if connection.dialect.name != "postgresql":
        return
    for one in tables.sorted_tables:
        key = one.autoincrement_column
        if key is None or not isinstance(key.type, Integer):
            continue
        sequence = connection.scalar(select(func.pg_get_serial_sequence(one.name, key.name)))
        if sequence is not None:
            last = connection.scalar(select(func.coalesce(func.max(key), 0)))
            values = {"name": sequence, "last": max(int(last or 0), 1), "used": bool(last)}
            connection.execute(text("SELECT setval(:name, :last, :used)"), values)


def _make_harmless(connection: Connection, actor: str) -> None:
    """Nothing of what was about to happen when the backup was made happens now."""
    put_pause(connection, "a backup was restored; the targets may have moved on since it was made", actor)
    now = datetime.now(UTC)
    connection.execute(update(m.account).values(released=None, approved=None))
    connection.execute(update(r.plan_target).where(r.plan_target.c.state != "dropped").values(state="dropped"))
    running = r.run.c.state == "running"
    connection.execute(update(r.run).where(running).values(state="abandoned", ended_at=now, error_code="abandoned"))
    places = select(m.account.c.connector, m.account.c.object).union(
        select(r.import_state.c.connector, r.import_state.c.object)
    )
    rows = [{"connector": name, "object": kind, "since": now} for name, kind in connection.execute(places)]
    connection.execute(delete(k.unread_target))
    if rows:
        connection.execute(insert(k.unread_target), rows)


def _settle(
    connection: Connection,
    keyrings: Mapping[str, Document],
    sealed: Mapping[str, bytes],
    actor: str,
    own: Collection[str],
) -> None:
    """The keyrings that this host opens; what other hosts opened them with is marked as lost."""
    now = datetime.now(UTC)
    transaction = SqlSecretTransaction(connection)
    for name, document in keyrings.items():
        before = {slot.id: slot for slot in transaction.slots(name)}
        generation = connection.scalar(select(s.keyring.c.generation).where(s.keyring.c.name == name))
        rows = [
            before.get(slot.id)
            or SlotRow(name, slot.id, slot.type, slot.label, slot.state.value, slot.recipient, opened=now)
            for slot in document.slots
        ]
        row = KeyringRow(name, document.generation, sealed[name], now)
        if not transaction.replace_keyring(row, rows, expected_generation=int(generation or 0)):
            raise refused(f"it lacks the keyring {name}")
        for slot in before.values():
            if slot.type != RECOVERY and slot.id not in own:
                detail = {"keyring": name, "type": slot.type, "label": slot.label}
                put_event(connection, LOST_SLOT + slot.id, actor, detail)
