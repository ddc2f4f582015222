"""What secrets need from the database: rows as values, and the narrow protocols that storage implements.

All that a row says is a hint until something sealed confirms it: whoever can write the
database can write any of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from identitymesh.audit import Record
    from identitymesh.lease import Lease


DATABASE: Final = "database"  # the provider that keeps values in these rows


@dataclass(frozen=True, slots=True)
class InstallationRow:
    """One for each database. ``provider`` is the active provider of secrets.

    ``draining``: the one that they were in before, which still has what the active one may lack.
    ``closing``: till then who stores a value waits for the cut over to another provider.
    """

    id: str
    provider: str
    created: datetime
    draining: str | None = None
    closing: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyringRow:
    """A keyring as stored: an age file, and the generation that compare-and-set uses."""

    name: str
    generation: int
    sealed: bytes
    changed: datetime


@dataclass(frozen=True, slots=True)
class SlotRow:
    """Tells what could open a keyring before it is open. ``guarded`` is what a protector keeps here, if anything.

    ``opened`` and ``opened_by`` tell of its last successful opening.
    """

    keyring: str
    id: str
    type: str
    label: str
    state: str
    recipient: str
    guarded: bytes | None = None
    opened: datetime | None = None
    opened_by: str | None = None


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One version of a secret in the ``database`` provider. ``expires`` in seconds since 1970, 0 is never."""

    ref: str
    version: int
    keyring: str
    key_id: int
    sealed: bytes
    created: datetime
    expires: int = 0


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What is known about a ref, whatever provider holds its value. ``audience`` is JSON text as stored."""

    ref: str
    keyring: str
    audience: str
    audience_mac: bytes
    created: datetime
    changed: datetime
    current_version: str | None = None
    pending_version: str | None = None
    owner: str | None = None
    description: str | None = None
    cadence_days: int | None = None
    last_used: datetime | None = None
    last_used_version: str | None = None
    last_used_by: str | None = None
    expires: datetime | None = None  # afterwards nobody can open it, and it is removed
    follow: str = "current"  # or "pinned": a vault's own current version is then not followed

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class StoredSecret(NamedTuple):
    """What opening the current version of one ref needs, as one statement found it."""

    ref: str
    provider: str
    keyring: str
    generation: int
    keyring_sealed: bytes
    audience: str
    audience_mac: bytes
    version: int
    key_id: int
    sealed: bytes
    expires: int


class SealedValue(Protocol):
    """The part of :class:`SealedRow` that its value depends on."""

    @property
    def ref(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def keyring(self) -> str: ...
    @property
    def key_id(self) -> int: ...
    @property
    def sealed(self) -> bytes: ...
    @property
    def expires(self) -> int: ...


class StoredAudience(Protocol):
    """The part of :class:`LedgerRow` that says where a value may go."""

    @property
    def ref(self) -> str: ...
    @property
    def audience(self) -> str: ...
    @property
    def audience_mac(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Use:
    """A value was handed out: which version, to whom."""

    ref: str
    version: str
    by: str


@dataclass(frozen=True, slots=True)
class RotationRow:
    """An open rotation of data keys. Only ``holder`` may go on, until ``until``; every step names the ``fence``.

    Fences count from 1 in each rotation: together with the new key, whose number never comes back, one names a holder.
    """

    keyring: str
    state: str
    reason: str
    subject: str
    new_key: int
    started: datetime
    holder: str
    fence: int
    until: datetime


class SecretView(Protocol):
    """One snapshot for reading. Everything read in it fits together."""

    def installation(self) -> InstallationRow | None: ...

    def keyring(self, name: str) -> KeyringRow | None: ...

    def slots(self, keyring: str) -> Sequence[SlotRow]: ...

    def ledger(self, refs: Iterable[str] | None = None) -> Mapping[str, LedgerRow]:
        """The rows of these refs, or of all (``None``), by ref."""

    def counterparts(self, wanted: Iterable[tuple[str, str]], active: str) -> Mapping[tuple[str, str], str]:
        """During a migration, of (ref, version) pairs of the active provider: the version at the other one."""

    def sealed(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], SealedRow]:
        """The stored versions among (ref, version) pairs."""

    def expired(self, now: datetime) -> Sequence[str]:
        """The refs whose time is over."""

    def version_numbers(self, refs: Iterable[str] | None = None) -> Sequence[tuple[str, int]]:
        """(ref, version) of every stored version of these refs, or of all, each ref's in order."""


class SecretTransaction(SecretView, Protocol):
    """A write transaction; committed as a whole or not at all."""

    def insert_installation(self, row: InstallationRow) -> bool:
        """False when there is one already."""

    def set_provider(self, name: str) -> None: ...

    def count_fallbacks(self, times: int) -> None:
        """The open migration had to ask the provider before so many times."""

    def insert_keyring(self, row: KeyringRow, slots: Sequence[SlotRow]) -> None: ...

    def replace_keyring(self, row: KeyringRow, slots: Sequence[SlotRow], *, expected_generation: int) -> bool:
        """Compare-and-set on the generation; False when somebody else was first.

        What is guarded for slots that are not listed any more goes with them.
        """

    def put_guard(self, keyring: str, slot: str, guarded: bytes, at: datetime) -> None:
        """Keep what a protector answered for a slot."""

    def mark_opened(self, keyring: str, slot: str, by: str, at: datetime) -> None:
        """Remember a successful opening of a slot."""

    def note_opened(self, slots: Iterable[tuple[str, str]], by: str, at: datetime, before: datetime) -> None:
        """As :meth:`mark_opened` for (keyring, slot), where that was last said ``before``. Waits for nobody."""

    def hold_keyring(self, name: str, generation: int) -> bool:
        """Keep the keyring as it is until the commit; False when its generation is another one."""

    def lock_ledger_whole(self) -> None:
        """Nobody else changes the ledger until the end of the transaction."""

    def last_number(self, ref: str) -> int:
        """The highest number that a version of it has, or had when it was copied by a migration that is not over."""

    def hold_lease(self, lease: Lease) -> None:
        """Nobody takes it over before the commit; raises ``LeaseLost`` when somebody has."""

    def lock_ledger(self, ref: str) -> LedgerRow | None:
        """The row of a ref, kept for this transaction alone until its end."""

    def put_ledger(self, row: LedgerRow) -> None:
        """Insert or replace the row of a ref."""

    def insert_ledger(self, row: LedgerRow) -> bool:
        """False when another transaction made the row of this ref first."""

    def insert_sealed(self, row: SealedRow) -> None: ...

    def delete_sealed(self, ref: str) -> int: ...

    def delete_versions(self, ref: str, versions: Sequence[int]) -> None:
        """Remove these sealed versions of the ``database`` provider."""

    def delete_ledger(self, ref: str) -> None: ...

    def mark_used(self, uses: Iterable[Use], at: datetime) -> None: ...

    def audit(self, records: Iterable[Record]) -> None: ...


class SecretRows(Protocol):
    """Opens snapshots and transactions. Never keep one open while a protector, a vault or a person is waited for."""

    def read(self) -> AbstractContextManager[SecretView]: ...

    def write(self) -> AbstractContextManager[SecretTransaction]: ...

    def find(self, ref: str) -> StoredSecret | None:
        """The current version of a secret of the database, its audience and its keyring, in one statement.

        ``None`` when one of them is not there, or the database did not answer: :meth:`read` then says why.
        """


class CustodyView(SecretView, Protocol):
    """What the custody of keys reads besides."""

    def rotation(self, keyring: str) -> RotationRow | None: ...

    def sealed_numbers(self, keyring: str) -> tuple[int, Mapping[int, int]]:
        """How many values a keyring has sealed, in all and by key id."""

    def sealed_after(
        self, keyring: str, after: tuple[str, int], limit: int, *, except_key: int | None = None
    ) -> Sequence[SealedRow]:
        """The next values in the order of ref and version; ``except_key`` leaves out those under that key."""


class CustodyTransaction(SecretTransaction, CustodyView, Protocol):
    """What the custody of keys writes besides."""

    def insert_rotation(self, row: RotationRow) -> bool:
        """False when one is open for this keyring."""

    def move_rotation(self, row: RotationRow, *, fence: int) -> bool:
        """Compare-and-set on the key and the fence; False when another process took it over, or finished it."""

    def hold_rotation(self, row: RotationRow) -> bool:
        """Keep it as it is until the commit; False when it is another one, or somebody else's."""

    def delete_rotation(self, row: RotationRow) -> bool: ...

    def reseal(self, changes: Sequence[tuple[SealedRow, SealedRow]]) -> int:
        """Put the second row of each pair in the place of the first, where that still stands as it was read.

        Waits for nobody: a row that another transaction holds is left for the next pass.
        """

    def lock_ledger_of(self, keyring: str, after: str, limit: int) -> Sequence[LedgerRow]:
        """The next rows of a keyring by ref, kept for this transaction until its end."""

    def put_audience_macs(self, macs: Mapping[str, bytes]) -> None: ...


class CustodyRows(Protocol):
    """As :class:`SecretRows`, for the commands that change keyrings."""

    def read(self) -> AbstractContextManager[CustodyView]: ...

    def write(self) -> AbstractContextManager[CustodyTransaction]: ...
