"""Migration between providers: its states, what is stored of it, and who works on it.

::

    (none) --begin--> copy --> verify --> drain --scrub--> scrub --> (none)
                        |         |          |
                        +--abort--+          +--back--> copy, the other way round
                             |
                           abort --> (none)

``copy``: every version that is in use is written to the target, too; the source is used. ``verify``: each is read back
and compared. The arrow to ``drain`` is the cut over, one transaction: provider, ledger and open rotations name the
target from then on, if nothing has changed since it was verified. ``drain``: the source still has everything, and is
asked where the target says *not found*. ``scrub``: the source is emptied; only this cannot be taken back. Killed
anywhere, the same command carries on from the last commit. A fence in the row, compared by every step, keeps two apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from identitymesh.errors import Busy, LeaseLost
from identitymesh.secrets.rotation import RotationTransaction, RotationView
from identitymesh.secrets.rows import SecretRows

COPY: Final = "copy"
VERIFY: Final = "verify"
DRAIN: Final = "drain"
SCRUB: Final = "scrub"
ABORT: Final = "abort"
LEASE: Final = timedelta(seconds=60)
_HOLDER: Final = re.compile(r"process (\d+) on (.*)")


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """The one migration that is open. ``back``: it goes from ``second`` to ``first``, because it was turned round."""

    first: str
    second: str
    state: str
    actor: str
    started: datetime
    changed: datetime
    holder: str
    fence: int
    until: datetime
    back: bool = False
    purge: bool = False
    cut_over: datetime | None = None
    fallbacks: int = 0

    @property
    def source(self) -> str:
        """The provider that is left."""
        return self.second if self.back else self.first

    @property
    def target(self) -> str:
        """The provider that everything goes to."""
        return self.first if self.back else self.second


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One version of a secret that both providers have, by the id that each gave it."""

    ref: str
    first_version: str
    second_version: str
    pending: bool = False
    verified: bool = False


class MigrationView(RotationView, Protocol):
    """A snapshot that knows migrations."""

    def migration(self) -> MigrationRow | None: ...

    def items(self, refs: Iterable[str] | None = None) -> Sequence[ItemRow]:
        """Of these refs, or of all."""

    def running_since_before(self, moment: datetime) -> Sequence[str]:
        """Runs that began before a moment and still live, in words."""


class MigrationTransaction(RotationTransaction, MigrationView, Protocol):
    """A write transaction that knows migrations."""

    def insert_migration(self, row: MigrationRow) -> bool:
        """False when there is one."""

    def move_migration(self, row: MigrationRow, *, before: MigrationRow) -> bool:
        """False when the stored one is not ``before``: another migration, another's, or a step further.

        The count of fallbacks stays as it is stored.
        """

    def delete_migration(self, row: MigrationRow) -> bool:
        """With all its items; False as above."""

    def put_items(self, rows: Iterable[ItemRow]) -> None:
        """Insert or replace."""

    def forget_items(self, rows: Iterable[ItemRow]) -> None: ...

    def unverify_items(self) -> None:
        """All of them are to be compared once more."""

    def set_draining(self, source: str | None) -> None:
        """Which provider is asked when the active one has not what the ledger names."""

    def set_closing(self, until: datetime | None) -> None:
        """Who wants to store a value waits till then for the cut over."""

    def renumber(self, *, back: bool) -> None:
        """Ledger and rotations name the versions of the target instead of those of the source."""


class MigrationRows(SecretRows, Protocol):
    """Opens snapshots and transactions."""

    def read(self) -> AbstractContextManager[MigrationView]: ...

    def write(self) -> AbstractContextManager[MigrationTransaction]: ...


def holder_of(actor: str, here: str) -> str:
    """Who works on it, for the one who comes second."""
    return f"{actor}, process {os.getpid()} on {here}"


def check_free(row: MigrationRow, now: datetime, here: str) -> None:
    """Whether this process may go on with it.

    Raises:
        Busy: its holder works on it.
    """
    if row.until <= now or _is_gone(row.holder, here):
        return
    raise Busy(
        f"{row.holder} migrates secrets from {row.source} to {row.target}, since {row.started:%Y-%m-%d %H:%M:%S} UTC",
        hint="Wait for it. Should that process be gone, the same command goes on in its place within "
        f"{int(LEASE.total_seconds())} seconds.",
    )


def lost(row: MigrationRow) -> LeaseLost:
    return LeaseLost(
        f"another process has taken over the migration from {row.source} to {row.target}",
        hint="Nothing is lost. See how far it is: identitymesh secrets migrate",
    )


def _is_gone(holder: str, here: str) -> bool:
    """A process of this very host that has ended. Of other hosts only their lease tells."""
    found = _HOLDER.search(holder)
    if found is None or found.group(2) != here or os.name != "posix":
        return False
    if int(found.group(1)) == os.getpid():
        return False
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
