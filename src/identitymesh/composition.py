"""The one place that builds objects and joins them. Everything is imported late: ``--help`` needs none of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from identitymesh.installation import Installation
    from identitymesh.redaction import Secret
    from identitymesh.secrets.properties import SecretProperties
    from identitymesh.secrets.setup import InitResult
    from identitymesh.settings import Settings
    from identitymesh.storage.backups import BackupReport
    from identitymesh.storage.database import Database
    from identitymesh.storage.doctor import Finding, Patient
    from identitymesh.storage.restoring import RestoreReport


def main() -> None:
    """Entry point ``identitymesh``."""
    from identitymesh.cli.main import run

    sys.exit(
        run(open_installation=open_installation, initialise=initialise, custody=Custody(), list_secrets=list_secrets)
    )


def secretscli() -> None:
    """Entry point ``secretscli``."""
    from identitymesh.cli.main import run_secretscli

    sys.exit(run_secretscli(open_installation=open_installation, initialise=initialise))


def list_secrets() -> Sequence[SecretProperties] | None:
    """What `secrets list` shows, without Typer, pydantic and SQLAlchemy: with them it takes six times as long.

    For an installation on SQLite that is as this program left it. ``None`` for any other: open it, and list there;
    that also says what is wrong with it.
    """
    from identitymesh import settings as configuration
    from identitymesh.secrets.process import harden_process
    from identitymesh.secrets.properties import read_properties
    from identitymesh.secrets.rows import DATABASE
    from identitymesh.storage.addresses import plain_file
    from identitymesh.storage.glance import glance

    harden_process()
    try:
        settings = configuration.load()
        file, log = plain_file(settings.database.url), settings.logging
        if file is None or settings.secrets.provider != DATABASE or log.destination != "stderr" or log.level == "debug":
            return None
        return read_properties(glance(file, provider=DATABASE), settings.host, settings.means)
    except Exception:  # noqa: BLE001 - whatever it is, the ordinary way says it in its words
        return None


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """Fits the protocol of ``cli/custody.py``."""

    database: str
    before: str | None
    wanted: str


@contextmanager
def open_installation(
    home: Path | None = None,
    *,
    quiet: bool = True,
    actor: str | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Installation]:
    """Open the installation in a folder (``IDENTITYMESH_HOME`` or the current one).

    Args:
        home: the folder.
        quiet: for a command of a person, which says on standard error itself what went wrong; a service logs there.
        actor: who acts; the user of this process by default.
        clock: what rules and limits take for the time (aware); the clock of this host by default.

    Raises:
        SettingsError, StorageError: it cannot be opened; the message names the remedy.
    """
    from identitymesh import settings as configuration
    from identitymesh.allocator import share_arenas
    from identitymesh.audit import local_actor
    from identitymesh.installation import Installation
    from identitymesh.secrets.process import harden_process
    from identitymesh.storage import schema

    harden_process()
    share_arenas()
    settings = configuration.load(home)
    actor = actor or local_actor()
    with _logged(settings, quiet=quiet) as unlogged, closing(_database(settings, create=False)) as database:
        schema.assert_current(database)
        installation = Installation(settings, database, actor, clock or _now)
        found = installation.secrets.settle_provider(settings.secrets.provider, actor=actor)
        installation.findings = (*unlogged, *(f"{one.message}. {one.hint}" for one in found))
        yield installation


@contextmanager
def _logged(settings: Settings, *, quiet: bool = True) -> Iterator[tuple[str, ...]]:
    """The log is attached, and what goes wrong with secrets and connectors goes there, too."""
    from identitymesh import logs

    given = settings.logging
    wish = logs.Wish(given.level, given.format, given.destination, given.address, quiet=quiet)
    with logs.attached(wish) as told, logs.failures():
        yield told


class Custody:
    """What keeps an installation alive; fits the protocol of ``cli/custody.py``."""

    def open(self, home: Path | None = None, /) -> AbstractContextManager[Installation]:
        """The opened installation."""
        return open_installation(home)

    def serve(self, home: Path | None, stop: threading.Event, /) -> None:
        """Carry out what is due until ``stop`` is set."""
        from identitymesh.serving import serve

        with open_installation(home, quiet=False) as installation:
            serve(installation, stop)

    def schema(self, home: Path | None = None, /) -> SchemaReport:
        """Looks only."""
        return _schema(home, migrate=False)

    def upgrade(self, home: Path | None = None, /) -> SchemaReport:
        """Migrates, in one transaction."""
        return _schema(home, migrate=True)

    def verify_backup(self, file: Path, /) -> BackupReport:
        """Needs no installation."""
        from identitymesh.storage.backups import verify

        return verify(file)

    def doctor(self, home: Path | None = None, /) -> Sequence[Finding]:
        """Findings; that it does not open is one of them."""
        from identitymesh.errors import MeshError
        from identitymesh.storage.doctor import Finding, examine

        try:
            with open_installation(home) as installation, _database_of(installation) as database:
                return examine(_patient(installation, database))
        except MeshError as error:
            return [Finding(error.code, str(error), error.hint)]

    def support_bundle(self, home: Path | None, file: Path, /) -> Sequence[str]:
        """Also of an installation that does not open."""
        from identitymesh.errors import MeshError, UsageError
        from identitymesh.storage.support import collect

        findings = self.doctor(home)
        try:
            with open_installation(home) as installation, _database_of(installation) as database:
                return collect(database, installation.settings.names(), findings, file)
        except UsageError:
            raise
        except MeshError:
            return collect(None, {}, findings, file)

    def restore(
        self,
        home: Path | None,
        file: Path,
        recovery_key: Secret,
        *,
        database_url: str | None,
        fingerprint: str | None,
        replace: bool,
        unauthenticated: bool,
    ) -> RestoreReport:
        """Restore a backup into the database of a folder; makes its settings if there are none.

        Raises:
            UsageError: another database is meant than the settings say.
        """
        from socket import gethostname

        from identitymesh import settings as configuration
        from identitymesh.audit import local_actor
        from identitymesh.errors import UsageError
        from identitymesh.secrets.process import harden_process
        from identitymesh.storage.backups import verify
        from identitymesh.storage.restoring import Target, Wish, restore

        harden_process()
        verify(file)  # before anything is made here
        folder = (home or configuration.find_folder()).resolve()
        _create_settings(folder, database_url)
        settings = configuration.load(folder)
        # The same one is meant when a restore that was killed is run again.
        if database_url is not None and settings.database.url != configuration.database_at(folder, database_url):
            raise UsageError(
                f"{folder / configuration.FILE} names another database already",
                hint="Leave --database out, or restore in a new folder.",
            )
        with _logged(settings), closing(_database(settings, create=True)) as database:
            target = Target(database, settings.host, gethostname(), local_actor())
            wish = Wish(recovery_key, fingerprint, replace=replace, unauthenticated=unauthenticated)
            return restore(file, target, wish)


def _schema(home: Path | None, *, migrate: bool) -> SchemaReport:
    from identitymesh import settings as configuration
    from identitymesh.storage import revisions, schema

    settings = configuration.load(home)
    with _logged(settings), closing(_database(settings, create=False)) as database:
        report = SchemaReport(database.describe(), schema.current(database), revisions.head())
        if migrate and report.before is not None and schema.is_known(report.before):
            schema.upgrade(database)
        elif migrate:
            schema.assert_current(database)  # empty, or newer: says what to do
        return report


def _create_settings(folder: Path, database_url: str | None) -> bool:
    """Write the settings of a new folder; whether they were not there yet."""
    from identitymesh import settings as configuration
    from identitymesh.storage.database import check_url

    if database_url is not None:
        check_url(database_url)  # before it is written into a file: it may carry a password
    return configuration.create(folder, database_url)


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _database_of(installation: Installation) -> Iterator[Database]:
    database = _database(installation.settings, create=False)
    try:
        yield database
    finally:
        database.close()


def _patient(installation: Installation, database: Database) -> Patient:
    from identitymesh.storage.continuity import Continuity
    from identitymesh.storage.database import sqlite_file
    from identitymesh.storage.doctor import Patient

    return Patient(
        database=database,
        database_file=sqlite_file(installation.settings.database.url),
        host=installation.settings.host,
        keys=installation.keys,
        secrets=installation.secrets.list,
        connectors=installation.engine.connectors,
        rotations=installation.rotation.rotations,
        migration=installation.migrations.status,
        continuity=Continuity(database, installation.actor),
        check_provider=installation.secrets.check_provider,
        told=installation.findings,
    )


def _database(settings: Settings, *, create: bool) -> Database:
    from identitymesh.errors import DatabaseUnreachable
    from identitymesh.storage.database import open_database, sqlite_file

    file = sqlite_file(settings.database.url)
    if file is not None and not create and not file.exists():
        raise DatabaseUnreachable(
            f"there is no database {file}",
            hint="Correct database.url, or run `identitymesh init` in a new folder.",
        )
    if file is not None and create and not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return open_database(
        settings.database.url,
        password=settings.database_password(),
        root_certificate=settings.database.root_certificate,
    )


def initialise(home: Path | None, database_url: str | None, announce: Callable[[InitResult], None]) -> InitResult:
    """Make settings, database and keyrings in a folder; ``announce`` shows the recovery key before any is stored.

    Raises:
        KeyringExists: there is an installation already; nothing was changed.
    """
    from socket import gethostname

    from identitymesh import settings as configuration
    from identitymesh.audit import local_actor
    from identitymesh.secrets import setup
    from identitymesh.secrets.process import harden_process
    from identitymesh.secrets.providers import assert_usable
    from identitymesh.storage import schema
    from identitymesh.storage.secrets import SqlSecretRows

    harden_process()
    folder = (home or configuration.find_folder()).resolve()
    _create_settings(folder, database_url)
    settings = configuration.load(folder)
    assert_usable(settings.secrets.provider, settings.means)
    with _logged(settings), closing(_database(settings, create=True)) as database:
        schema.upgrade(database)
        return setup.initialise(
            SqlSecretRows(database),
            settings.host,
            provider=settings.secrets.provider,
            actor=local_actor(),
            label=gethostname(),
            announce=announce,
        )
