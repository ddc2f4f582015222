"""Opens keyrings on this host: slot, age file, anchor, in this order.

The key file is the first choice; then the slots that this host made, as its own list has
them; then what the service manager delivered. A slot that does not open is no reason to
stop while another one does; when none does, the first one's error is told.

What was opened is used again only while nothing of it has changed (:mod:`.memory`), so a
removed slot or a replaced keyring is noticed at the next operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from identitymesh.errors import (
    AnchorBroken,
    HostKeyWrong,
    KeyringBroken,
    KeyringError,
    KeyringMissing,
    KeyringRolledBack,
    KeyringSubstituted,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.age import NotSealedToUs, open_age, recipient_of
from identitymesh.secrets.anchors import Anchor, AnchorFile
from identitymesh.secrets.host_slots import HostSlots
from identitymesh.secrets.keyring import KEYRINGS, Document, Slot, SlotState, decode
from identitymesh.secrets.memory import KeyringMemory
from identitymesh.secrets.protectors import HOST_FILE, NO_MEANS, SYSTEMD_CREDS, Means, Place, Protector, find_protector
from identitymesh.secrets.rows import KeyringRow, SlotRow


class KeyringView(Protocol):
    """The part of a snapshot that opening keyrings needs."""

    def keyring(self, name: str) -> KeyringRow | None: ...

    def slots(self, keyring: str) -> Sequence[SlotRow]: ...


class KeyringSession:
    """The keyrings as one snapshot of the database holds them, opened when first asked for.

    Lives as long as one operation, or one run. Made as the first thing inside a snapshot,
    used after it: no transaction waits for a protector.
    """

    def __init__(
        self,
        host: Path,
        view: KeyringView,
        names: Sequence[str] = KEYRINGS,
        means: Means = NO_MEANS,
        memory: KeyringMemory | None = None,
    ) -> None:
        self._host = host
        self._means = means
        self._memory = memory or KeyringMemory(host, means)
        # Before the snapshot: what another process commits and remembers in between is newer, not rolled back.
        self._anchors = {name: _remembered(host, name) for name in names}
        self._rows = {name: view.keyring(name) for name in names}
        self._slots = {name: tuple(view.slots(name)) for name in names}
        self._opened: dict[str, Document | KeyringError] = {}

    def open(self, name: str) -> Document:
        """The keyring, checked against the anchor of this host.

        Raises:
            HostKeyMissing, HostKeyUnsafe, HostKeyWrong, AnchorBroken: this host cannot open it.
            KeyringMissing, KeyringBroken, KeyringSubstituted, KeyringRolledBack: it is not what it should be.
        """
        if name not in self._opened:
            try:
                self._opened[name] = self._open(name)
            except KeyringError as error:
                self._opened[name] = error
        found = self._opened[name]
        if isinstance(found, KeyringError):
            raise found
        return found

    def _open(self, name: str) -> Document:
        if name not in self._rows:
            raise KeyringMissing(f"there is no keyring {name[:40]!r}", hint=f"The keyrings are {', '.join(KEYRINGS)}.")
        row = self._rows[name]
        if row is not None:
            remembered = self._memory.recall(name, row.generation, row.sealed, self._slots[name])
            if remembered is not None:
                return remembered.document
        protectors = own_protectors(self._host, name, self._slots[name], self._means)
        if row is None:
            raise _missing(name, protectors[0])
        errors: list[KeyringError] = []
        for protector in protectors:
            try:
                return self._open_through(row, protector)
            except (KeyringSubstituted, KeyringRolledBack, AnchorBroken, KeyringBroken):
                raise  # about the keyring, not about the way in
            except KeyringError as error:
                errors.append(error)
        raise errors[0]

    def _open_through(self, row: KeyringRow, protector: Protector) -> Document:
        before = self._memory.traces(row.name)
        identity = protector.identity()
        anchor = self._anchors[row.name]
        if isinstance(anchor, KeyringError):
            raise anchor
        document = open_row(row, identity, self._slots[row.name])
        anchor.check(document)
        check_row(row, document)
        slot = check_slot(document, recipient_of(identity))
        AnchorFile(self._host, row.name).advance(document)
        self._memory.opened_through(row.name, slot.id)
        self._memory.keep(row, self._slots[row.name], protector.type, before, document)
        return document


def _remembered(host: Path, name: str) -> Anchor | KeyringError:
    try:
        return AnchorFile(host, name).read()
    except KeyringError as error:
        return error


def own_protectors(host: Path, keyring: str, slots: Sequence[SlotRow], means: Means) -> tuple[Protector, ...]:
    """What this host may open a keyring with, best first; at least the key file, be it missing."""
    key_file = find_protector(HOST_FILE, Place(host, keyring))
    by_id = {slot.id: slot for slot in slots}
    found = [
        find_protector(own.type, Place(host, keyring, None, own.id, by_id[own.id].guarded, means))
        for own in HostSlots(host, keyring).read()
        if own.id in by_id
    ]
    if means.credentials is not None and not any(one.type == SYSTEMD_CREDS for one in found):
        delivered = find_protector(SYSTEMD_CREDS, Place(host, keyring, means=means))
        found += [delivered] if delivered.exists() else []
    return (key_file, *found) if key_file.exists() or not found else tuple(found)


def held(host: Path, means: Means = NO_MEANS) -> tuple[str, ...]:
    """The keyrings that this host has a way into. A web-only host may hold ``application`` alone."""
    return tuple(name for name in KEYRINGS if HostSlots(host, name).read() or _has_key(host, name, means))


def _has_key(host: Path, name: str, means: Means) -> bool:
    return any(protector.exists() for protector in own_protectors(host, name, (), means))


def open_row(row: KeyringRow, identity: Secret, slots: Sequence[SlotRow] = (), *, given: str = "") -> Document:
    """Decrypt and read a stored keyring. No anchor is asked: the caller does that.

    ``given`` says in words what was typed, where it is not the key of this host.

    Raises:
        HostKeyWrong: the identity is none of the keyring's slots.
        KeyringSubstituted: it should be one, by the rows, but the sealed file knows nothing of it.
        KeyringBroken: the file is damaged.
    """
    try:
        return decode(open_age(row.sealed, identity, row.name), row.name)
    except NotSealedToUs:
        pass
    # Rows are hints: they choose between two refusals, never whether to refuse.
    if recipient_of(identity) in {slot.recipient for slot in slots}:
        raise KeyringSubstituted(
            f"keyring {row.name}: the stored keyring is not sealed to this host's key, though its slot is listed",
            hint="Nothing was released. The keyring row was exchanged, replaced or damaged: restore it from a backup.",
        )
    if given:
        raise HostKeyWrong(
            f"keyring {row.name}: {given} opens none of its slots",
            hint="It belongs to another installation, or was replaced since. Take the one of the recovery sheet whose "
            "fingerprint `identitymesh keys status` shows on a host that works; for an old backup, the one of then.",
        )
    known = ", ".join(f"{slot.type} {slot.label}".strip() for slot in slots) or "none"
    raise HostKeyWrong(
        f"keyring {row.name}: the key of this host opens none of its slots ({known})",
        hint="Check that the folder (IDENTITYMESH_HOME) and database.url belong together; "
        "a new host joins with the recovery key.",
    )


def check_row(row: KeyringRow, document: Document) -> None:
    """The row's own columns agree with what is sealed.

    Raises:
        KeyringSubstituted: the document is another keyring.
        KeyringBroken: the generation of the row was edited.
    """
    if document.keyring != row.name:
        raise KeyringSubstituted(
            f"keyring {row.name}: the keyring {document.keyring} stands in its place",
            hint="Nothing was released. Restore the database from a backup.",
        )
    if document.generation != row.generation:
        raise KeyringBroken(
            f"keyring {row.name}: its row says generation {row.generation}, the sealed document {document.generation}",
            hint="The row was edited outside Identity Mesh: restore the database from a backup.",
        )


def check_slot(document: Document, recipient: str) -> Slot:
    """The slot that opened it, which is one of its own and active.

    Raises:
        HostKeyWrong: it is not.
    """
    slot = document.slot_of(recipient)
    if slot is None or slot.state is not SlotState.ACTIVE:
        state = "is not in its slot list" if slot is None else "is still pending"
        raise HostKeyWrong(
            f"keyring {document.keyring}: the key of this host {state}",
            hint="Join this host to the keyring with the recovery key.",
        )
    return slot


def _missing(name: str, host_key: Protector) -> KeyringMissing:
    if host_key.exists():
        return KeyringMissing(
            f"keyring {name}: {host_key.describe()} is there, but the database has no such keyring",
            hint="Either database.url names another database, or `identitymesh init` was interrupted. "
            "In that case nothing was stored yet: remove the host folder and run it again.",
        )
    return KeyringMissing(
        f"keyring {name}: the database has no such keyring",
        hint="Run `identitymesh init` once in a new folder; no other command makes a keyring.",
    )
