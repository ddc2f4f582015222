"""Where the custody of keys works from, and how it opens and stores keyrings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from identitymesh.errors import KeyringConflict, KeyringMissing
from identitymesh.secrets.age import seal_document
from identitymesh.secrets.anchors import AnchorFile
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.protectors import NO_MEANS, Means, Place, Protector, find_protector
from identitymesh.secrets.rows import CustodyRows, CustodyTransaction, KeyringRow, SecretView, SlotRow


class Progress(Protocol):
    """What long work reports to; fits that of runs."""

    def __call__(self, phase: str, subject: str, done: int, total: int | None, /) -> None: ...


def unwatched(phase: str, subject: str, done: int, total: int | None, /) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Station:
    """One host at work on the keyrings of one database. ``here`` names the host, in slots and messages."""

    rows: CustodyRows
    host: Path
    actor: str
    here: str
    means: Means = NO_MEANS
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def open(self, name: str) -> Document:
        """The keyring, through a slot of this host and checked against its anchor.

        Raises:
            KeyringError: it does not open here.
        """
        with self.rows.read() as view:
            session = KeyringSession(self.host, view, (name,), self.means)
        return session.open(name)

    def stored(self, name: str) -> tuple[KeyringRow, tuple[SlotRow, ...]]:
        """The row of a keyring and its slots, unopened.

        Raises:
            KeyringMissing: there is none.
        """
        with self.rows.read() as view:
            return stored_in(view, name)

    def protector(self, keyring: str, slot: SlotRow) -> Protector:
        """What guards a slot on this host."""
        return find_protector(slot.type, Place(self.host, keyring, None, slot.id, slot.guarded, self.means))

    def remember(self, document: Document) -> None:
        """Move this host's anchor after a commit."""
        AnchorFile(self.host, document.keyring).advance(document)

    def moment(self) -> str:
        """Now, as documents write it."""
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def stored_in(view: SecretView, name: str) -> tuple[KeyringRow, tuple[SlotRow, ...]]:
    """As :meth:`Station.stored`, in a snapshot that is open already."""
    row = view.keyring(name)
    if row is None:
        raise KeyringMissing(
            f"keyring {name}: the database has no such keyring",
            hint="Check database.url. Only `identitymesh init` makes a keyring, once, in a new folder.",
        )
    return row, tuple(view.slots(name))


def store(transaction: CustodyTransaction, before: Document, after: Document, now: datetime) -> None:
    """Put a changed keyring in the place of the one that it was made from.

    Raises:
        KeyringConflict: somebody else changed it in the meantime; nothing was written.
        KeyringBroken: it would break a rule of keyrings.
    """
    name = after.keyring
    opened = {slot.id: (slot.opened, slot.opened_by) for slot in transaction.slots(name)}
    rows = [
        SlotRow(
            name,
            slot.id,
            slot.type,
            slot.label,
            slot.state.value,
            slot.recipient,
            None,
            *opened.get(slot.id, (None, None)),
        )
        for slot in after.slots
    ]
    row = KeyringRow(name, after.generation, seal_document(after), now)
    if not transaction.replace_keyring(row, rows, expected_generation=before.generation):
        raise KeyringConflict(f"keyring {name}: somebody else changed it just now", hint="Run the command again.")
