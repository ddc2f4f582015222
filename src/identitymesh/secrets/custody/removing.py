"""Removes slots and replaces the recovery key: both renew the keyset secret and the data key.

One transaction, for all keyrings concerned: the keyring without the slot under a new
secret, endorsed by the old one; the HMACs of all its audiences under the new secret; the
row of the rotation that then seals every value again. From its commit on nobody seals with
a key that the removed slot could have read.

That guards against somebody who can write the database. Whoever held the removed slot may
have kept what he read: revoke that host's login to the database first.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import KeyringConflict, MeshError, SlotRefused, UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of, seal_document
from identitymesh.secrets.custody.changes import check_removal, renewed
from identitymesh.secrets.custody.rotation import RESEAL, RotationReport, new_rotation, rotate
from identitymesh.secrets.custody.station import Progress, Station, store, unwatched
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.host_slots import HostSlots
from identitymesh.secrets.keyring import KEYRINGS, Document, Slot, SlotState
from identitymesh.secrets.keyrings import own_protectors
from identitymesh.secrets.ledger import audience_mac, read_audience
from identitymesh.secrets.opentest import Attempt, open_in_fresh_process
from identitymesh.secrets.protectors import RECOVERY, Place
from identitymesh.secrets.rows import CustodyTransaction, SlotRow
from identitymesh.secrets.transactions import again

REMOVED: Final = "slot-removed"
REPLACED: Final = "recovery-replaced"
CHUNK: Final = 1000
LEAST_PREFIX: Final = 8


@dataclass(frozen=True, slots=True)
class RemovedSlots:
    """What was removed, by keyring, and the rotations that it forced."""

    slots: Mapping[str, Sequence[Slot]]
    rotations: Sequence[RotationReport]


@dataclass(frozen=True, slots=True)
class NewRecovery:
    """A recovery key that is about to take the place of the old one. Shown before anything is stored."""

    recovery_key: Secret
    fingerprint: str


def remove_slots(
    station: Station, wanted: str, keyrings: Sequence[str] = KEYRINGS, progress: Progress = unwatched
) -> RemovedSlots:
    """Remove the slots with this id (eight characters of it are enough) or label.

    Raises:
        UsageError: there is none.
        SlotRefused: it is the last of its kind, or this host's only way in. Nothing is changed.
        RotationIncomplete: the slot is gone, but values that do not open keep the old key.
    """
    unfinished = finish_open_rotations(station, keyrings, progress)
    continued = [report for name, report in unfinished if name == wanted]
    documents = {name: station.open(name) for name in keyrings}
    chosen = {name: _matching(document, wanted) for name, document in documents.items()}
    chosen = {name: slots for name, slots in chosen.items() if slots}
    if not chosen and continued:
        return RemovedSlots({}, continued)
    if not chosen:
        raise UsageError(f"no keyring has a slot {wanted!r}", hint="See them: identitymesh keys status")
    gone = {name: [slot.id for slot in slots] for name, slots in chosen.items()}
    for name, rows in again(lambda: _remove(station, gone, wanted)).items():
        _take_away(station, name, rows)
    return RemovedSlots(chosen, [rotate(station, name, progress) for name in chosen])


def replace_recovery(
    station: Station, announce: Callable[[NewRecovery], None], progress: Progress = unwatched
) -> Sequence[RotationReport]:
    """A new recovery key for both keyrings, in one transaction; then both are rotated.

    Killed before that transaction, nothing has changed and the key that was shown is of no
    use. Killed after it, the same command goes on with the rotations and makes no new key.

    Raises:
        KeyringError: this host does not hold both keyrings.
    """
    unfinished = finish_open_rotations(station, KEYRINGS, progress, only=REPLACED)
    if unfinished:
        return [report for _subject, report in unfinished]
    installation = station.open(KEYRINGS[0]).installation
    identity = new_identity()
    recipient = recipient_of(identity)
    announce(NewRecovery(identity, fingerprint(installation, recipient)))
    again(lambda: _replace(station, identity, recipient))
    return [rotate(station, name, progress) for name in KEYRINGS]


def finish_open_rotations(
    station: Station, keyrings: Sequence[str], progress: Progress, only: str | None = None
) -> Sequence[tuple[str, RotationReport]]:
    """Go on with rotations that were begun, so that one at a time changes the keys; with what each was for."""
    with station.rows.read() as view:
        found = [view.rotation(name) for name in keyrings]
    return [
        (row.subject, rotate(station, row.keyring, progress))
        for row in found
        if row is not None and (only is None or row.reason == only)
    ]


def _matching(document: Document, wanted: str) -> tuple[Slot, ...]:
    by_id = tuple(
        slot
        for slot in document.slots
        if slot.id == wanted or (len(wanted) >= LEAST_PREFIX and slot.id.startswith(wanted))
    )
    return by_id or tuple(slot for slot in document.slots if wanted and slot.label == wanted)


def _check(station: Station, document: Document, ids: Sequence[str]) -> Sequence[SlotRow]:
    """The rules; answers which of the slots are kept on this host."""
    check_removal(document, ids)
    _row, rows = station.stored(document.keyring)
    listed = {own.id for own in HostSlots(station.host, document.keyring).read()}
    ways = []
    for protector in own_protectors(station.host, document.keyring, rows, station.means):
        try:
            slot = document.slot_of(recipient_of(protector.identity()))
        except MeshError:
            continue
        ways += [slot.id] if slot is not None and slot.state is SlotState.ACTIVE else []
    if ways and all(way in ids for way in ways):
        raise SlotRefused(
            f"keyring {document.keyring}: this host opens it through that slot alone",
            hint="Run this on another host, or give this one another slot first: identitymesh keys slots add",
        )
    return [row for row in rows if row.id in ids and (row.id in listed or row.id in ways)]


def _remove(station: Station, gone: Mapping[str, Sequence[str]], wanted: str) -> Mapping[str, Sequence[SlotRow]]:
    """Check and remove by the same documents; answers which of the slots are kept on this host."""
    befores = [station.open(name) for name in gone]
    own = {before.keyring: _check(station, before, gone[before.keyring]) for before in befores}
    afters = [renewed(before, gone[before.keyring], station.moment()) for before in befores]
    _store_renewed(station, list(zip(befores, afters, strict=True)), REMOVED, wanted)
    return own


def _take_away(station: Station, keyring: str, rows: Sequence[SlotRow]) -> None:
    """What lies on this host for slots that are gone."""
    for row in rows:
        station.protector(keyring, row).remove()
        HostSlots(station.host, keyring).remove(row.id)


def _replace(station: Station, identity: Secret, recipient: str) -> None:
    """What is stored is proven first, as at ``init``: the new slot is active in it."""
    moment = station.moment()
    new = Slot(str(uuid.uuid4()), RECOVERY, "", SlotState.ACTIVE, recipient, moment)
    changes: list[tuple[Document, Document]] = []
    proofs: list[tuple[Attempt, Document]] = []
    for name in KEYRINGS:
        before = station.open(name)
        after = renewed(before, [slot.id for slot in before.slots if slot.type == RECOVERY], moment, (new,))
        changes.append((before, after))
        place = Place(station.host, name, identity, new.id)
        proofs.append((Attempt(RECOVERY, seal_document(after), place), after))
    open_in_fresh_process(proofs)
    _store_renewed(station, changes, REPLACED, new.id)


def _store_renewed(station: Station, changes: Sequence[tuple[Document, Document]], reason: str, subject: str) -> None:
    """All keyrings concerned, each as it was and as it becomes, in one transaction.

    Raises:
        KeyringConflict: one is no more what it was.
    """
    with station.rows.write() as transaction:
        for before, after in changes:
            store(transaction, before, after, station.clock())
            _audiences_follow(transaction, before, after)
            if not transaction.insert_rotation(new_rotation(station, after, RESEAL, reason, subject)):
                raise KeyringConflict(
                    f"keyring {after.keyring}: somebody rotates its keys just now", hint="Run the command again."
                )
            gone = [slot.id for slot in before.slots if slot not in after.slots]
            payload = {"gone": gone, "reason": reason, "generation": after.generation}
            transaction.audit([Record("keyring.slot.remove", after.keyring, station.actor, payload=payload)])
    for _before, after in changes:
        station.remember(after)


def _audiences_follow(transaction: CustodyTransaction, before: Document, after: Document) -> None:
    """HMACs under the new secret, for audiences that were whole; an edited one stays as wrong as it was."""
    last = ""
    while rows := transaction.lock_ledger_of(before.keyring, last, CHUNK):
        macs = {}
        for row in rows:
            try:
                macs[row.ref] = audience_mac(after, row.ref, read_audience(before, row))
            except MeshError:
                continue
        transaction.put_audience_macs(macs)
        last = rows[-1].ref
