"""Backups, drills and the pause of one opened installation, as commands use them."""

from __future__ import annotations

from pathlib import Path

from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.store import SecretStore
from identitymesh.storage import backups
from identitymesh.storage.backups import BACKUP, BackupReport
from identitymesh.storage.continuity import Continuity, Pause
from identitymesh.storage.database import Database
from identitymesh.storage.drill import DrillReport, drill

DRILL = "drill"


class Keeping:
    """What is done now against what may happen later."""

    def __init__(self, database: Database, secrets: SecretStore, actor: str, means: Means = NO_MEANS) -> None:
        self._database = database
        self._means = means
        self._secrets = secrets
        self._actor = actor
        self._continuity = Continuity(database, actor)

    def create(self, file: Path) -> BackupReport:
        """See :func:`identitymesh.storage.backups.create`."""
        return backups.create(self._database, self._secrets, file, self._actor)

    def newest(self) -> Path:
        """The backup that was made last.

        Raises:
            UsageError: none was made here, or it is not there any more.
        """
        made = self._continuity.events().get(BACKUP)
        if made is None:
            raise UsageError("no backup was made here yet", hint="Make one: identitymesh backup create --to FILE")
        file = Path(str(made.detail["file"]))
        if not file.is_file():
            raise UsageError(
                f"the newest backup, {file}, is not there any more", hint="Name it: identitymesh drill FILE"
            )
        return file

    def drill(self, file: Path, recovery_key: Secret) -> DrillReport:
        """Try a backup, and note when that succeeded."""
        report = drill(file, recovery_key, self._actor, self._means)
        if report.ok:
            self._continuity.note(DRILL, file=report.file, secrets=report.secrets, seconds=report.seconds)
        return report

    def pause(self) -> Pause | None:
        return self._continuity.pause()

    def resume(self) -> Pause | None:
        """Let runs start again."""
        return self._continuity.resume()
