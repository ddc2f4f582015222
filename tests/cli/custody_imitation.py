"""The custody of an installation, imitated: answers records made by hand."""
# ruff: noqa: ARG002 - an imitation takes what the real one takes

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from identitymesh.redaction import Secret
from identitymesh.runs.credential_rotation import RotationReport
from identitymesh.runs.reports import Progress
from identitymesh.secrets.bundles import Difference, Exported, Imported, Policy
from identitymesh.secrets.migration.planning import MigrationPlan
from identitymesh.secrets.migration.work import MigrationReport
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rotation import Retired, RotationRow
from identitymesh.storage.backups import BackupReport
from identitymesh.storage.continuity import Pause
from identitymesh.storage.doctor import Finding
from identitymesh.storage.drill import DrillReport
from identitymesh.storage.restoring import RestoreReport

if TYPE_CHECKING:
    from tests.cli.imitation import FakeInstallation


@dataclass
class FakeSchema:
    database: str = "sqlite:///identitymesh.db"
    before: str | None = "0001"
    wanted: str = "0003"


@dataclass
class FakeRotation:
    asked: list[bytes] = field(default_factory=list)

    def find(self, ref: SecretReference) -> RotationRow | None:
        return None

    def rotations(self) -> Sequence[RotationRow]:
        return []

    def rotate(
        self, ref: SecretReference, ask: Callable[[], Secret], *, at_server: bool, retire_days: int
    ) -> RotationReport:
        self.asked.append(ask().reveal())
        return RotationReport(ref.text, "1", "2", at_server, resumed=False, probed={"hr": "reads user"}, retire_at=None)

    def abandon(self, ref: SecretReference) -> None:
        """Nothing to do."""

    def retire(self, ref: SecretReference | None) -> Sequence[Retired]:
        return [Retired("secret://hr/reader", ("1",))]


@dataclass
class FakeBundles:
    def export(self, recipients: Sequence[str], keyring: str | None) -> Exported:
        return Exported(b"age-encryption.org/v1", 1, tuple(recipients))

    def bring(self, sealed: bytes, identity: Secret, *, on_conflict: Policy, dry_run: bool) -> Imported:
        difference = Difference("6f0c4d8e", "2026-03-01T08:30:00Z", ("secret://hr/reader",), (), (), ())
        return Imported(difference, ("secret://hr/reader",), (), dry_run)


START = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


class FakeMigrations:
    plans = MigrationPlan("database", "openbao", 10, 11, 1, 0, 64, 16384, 30.0, 12.5, ())
    report = MigrationReport("database", "openbao", "drain", 11, 11, 11, 2, START, "ada, process 7 on host", 1.5)

    def status(self) -> MigrationReport | None:
        return self.report

    def plan(self, source: str, target: str, progress: Progress) -> MigrationPlan:
        return self.plans

    def run(self, source: str, target: str, progress: Progress) -> MigrationReport:
        progress("copying", target, 1, 11)
        return self.report

    def abort(self, progress: Progress) -> MigrationReport:
        return replace(self.report, state="done")

    def back(self, progress: Progress) -> MigrationReport:
        return replace(self.report, resumed=True)

    def scrub(self, progress: Progress, *, purge: bool) -> MigrationReport:
        return replace(self.report, state="done")


BACKUP = BackupReport("mesh.backup", "6f0c4d8e", "0003", "2026-03-01T08:30:00Z", 21, 1000, 4096, authenticated=True)


class FakeBackups:
    def create(self, file: Path) -> BackupReport:
        return BACKUP

    def newest(self) -> Path:
        return Path("mesh.backup")

    def drill(self, file: Path, recovery_key: Secret) -> DrillReport:
        return DrillReport(str(file), "6f0c4d8e", "2026-03-01T08:30:00Z", 10, 12, (), 1.5)

    def resume(self) -> Pause | None:
        return None


@dataclass
class FakeCustody:
    installation: FakeInstallation

    def open(self, home: Path | None, /) -> AbstractContextManager[FakeInstallation]:
        return self.installation.open(home)

    def serve(self, home: Path | None, stop: threading.Event, /) -> None:
        """Told to stop at once."""
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()

    def doctor(self, home: Path | None, /) -> Sequence[Finding]:
        return []

    def support_bundle(self, home: Path | None, file: Path, /) -> Sequence[str]:
        return ["versions.json"]

    def schema(self, home: Path | None, /) -> FakeSchema:
        return FakeSchema()

    def upgrade(self, home: Path | None, /) -> FakeSchema:
        return FakeSchema()

    def verify_backup(self, file: Path, /) -> BackupReport:
        return BACKUP

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
        return RestoreReport(
            "6f0c4d8e",
            "2026-03-01T08:30:00Z",
            1000,
            "abcd-efgh-jkmn-pqrs-tvwx",
            verified=False,
            authenticated=True,
            resumed=False,
            lost_slots=("mesh1 (host-file, 1)",),
        )
