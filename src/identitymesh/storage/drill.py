"""The drill: a backup and the recovery key, in a blank folder, as after a fire. No connector runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from identitymesh.redaction import Secret
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import open_database
from identitymesh.storage.restoring import Target, Wish, restore
from identitymesh.storage.secrets import SqlSecretRows

MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What the recovery key brought back. ``problems`` in words, the first ones."""

    file: str
    installation: str
    backup_created: str
    secrets: int
    versions: int
    problems: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.problems


def drill(file: Path, recovery_key: Secret, actor: str, means: Means = NO_MEANS) -> DrillReport:
    """Restore a backup into a folder that nobody else may read, open every secret in it, and remove it all.

    Secrets that lie in a vault are asked for there, with what ``means`` says of it.

    Raises:
        BackupRefused, KeyringError: it cannot be restored.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="identitymesh-drill-"))  # mode 0700
    try:
        database = open_database(f"sqlite:///{folder / 'drill.db'}")
        try:
            wish = Wish(recovery_key, unauthenticated=True)
            restored = restore(file, Target(database, folder / "host", "drill", actor), wish)
            results = SecretStore(SqlSecretRows(database), folder / "host", means.vaults()).verify(actor=actor)
        finally:
            database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    problems = [problem for one in results for problem in one.problems]
    return DrillReport(
        str(file),
        restored.installation,
        restored.created,
        len(results),
        sum(one.opened for one in results),
        tuple(problems[:MOST_PROBLEMS]),
        round(time.monotonic() - began, 1),
    )
