"""What the commands around rotation, bundles, backups and repair need, said by the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from identitymesh.cli.contract import Installation

if TYPE_CHECKING:
    from identitymesh.redaction import Secret
    from identitymesh.runs.credential_rotation import RotationReport
    from identitymesh.runs.reports import Progress
    from identitymesh.secrets.bundles import Exported, Imported, Policy
    from identitymesh.secrets.migration.planning import MigrationPlan
    from identitymesh.secrets.migration.work import MigrationReport
    from identitymesh.secrets.references import SecretReference
    from identitymesh.secrets.rotation import Retired, RotationRow
    from identitymesh.storage.backups import BackupReport
    from identitymesh.storage.continuity import Pause
    from identitymesh.storage.doctor import Finding
    from identitymesh.storage.drill import DrillReport
    from identitymesh.storage.restoring import RestoreReport


class SchemaReport(Protocol):
    """Which schema a database had before the command, and which one this program works with."""

    @property
    def database(self) -> str: ...
    @property
    def before(self) -> str | None: ...
    @property
    def wanted(self) -> str: ...


class RotationCommands(Protocol):
    """Rotation of one credential, see :mod:`identitymesh.runs.credential_rotation`."""

    def find(self, ref: SecretReference) -> RotationRow | None: ...
    def rotations(self) -> Sequence[RotationRow]: ...
    def rotate(
        self, ref: SecretReference, ask: Callable[[], Secret], *, at_server: bool, retire_days: int
    ) -> RotationReport: ...
    def abandon(self, ref: SecretReference) -> None: ...
    def retire(self, ref: SecretReference | None) -> Sequence[Retired]: ...


class BundleCommands(Protocol):
    """Secrets in and out, see :mod:`identitymesh.secrets.bundles`."""

    def export(self, recipients: Sequence[str], keyring: str | None) -> Exported: ...
    def bring(self, sealed: bytes, identity: Secret, *, on_conflict: Policy, dry_run: bool) -> Imported: ...


class MigrationCommands(Protocol):
    """From provider to provider, see :mod:`identitymesh.secrets.migration`."""

    def status(self) -> MigrationReport | None: ...
    def plan(self, source: str, target: str, progress: Progress) -> MigrationPlan: ...
    def run(self, source: str, target: str, progress: Progress) -> MigrationReport: ...
    def abort(self, progress: Progress) -> MigrationReport: ...
    def back(self, progress: Progress) -> MigrationReport: ...
    def scrub(self, progress: Progress, *, purge: bool) -> MigrationReport: ...


class BackupCommands(Protocol):
    """Backups, drills and the pause, see :mod:`identitymesh.storage.keeping`."""

    def create(self, file: Path) -> BackupReport: ...
    def newest(self) -> Path: ...
    def drill(self, file: Path, recovery_key: Secret) -> DrillReport: ...
    def resume(self) -> Pause | None: ...


class KeptInstallation(Installation, Protocol):
    """An opened installation with what keeps it alive."""

    @property
    def rotation(self) -> RotationCommands: ...
    @property
    def bundles(self) -> BundleCommands: ...
    @property
    def backups(self) -> BackupCommands: ...
    @property
    def migrations(self) -> MigrationCommands: ...


class Custody(Protocol):
    """What keeps an installation alive, also when it does not open."""

    def open(self, home: Path | None, /) -> AbstractContextManager[KeptInstallation]: ...
    def serve(self, home: Path | None, stop: threading.Event, /) -> None: ...
    def schema(self, home: Path | None, /) -> SchemaReport: ...
    def upgrade(self, home: Path | None, /) -> SchemaReport: ...

    def doctor(self, home: Path | None, /) -> Sequence[Finding]: ...
    def support_bundle(self, home: Path | None, file: Path, /) -> Sequence[str]: ...
    def verify_backup(self, file: Path, /) -> BackupReport: ...

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
    ) -> RestoreReport: ...
