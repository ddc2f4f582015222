"""Adds slots: pending first, active when a fresh process has opened the stored keyring through them.

Only the public recipients of the other slots are needed. Killed anywhere, the same command
goes on: a pending slot of this host is tested and made active; a passphrase that was shown
for a slot that never came into use is replaced by a new one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from identitymesh.audit import Record
from identitymesh.errors import KeyringBroken, SlotRefused
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of
from identitymesh.secrets.custody.changes import with_active_slots, with_slot
from identitymesh.secrets.custody.passphrases import new_passphrase
from identitymesh.secrets.custody.station import Station, store
from identitymesh.secrets.host_slots import HostSlot, HostSlots
from identitymesh.secrets.keyring import Document, Slot, SlotState
from identitymesh.secrets.opentest import Attempt, try_in_fresh_process
from identitymesh.secrets.private_files import one_at_a_time
from identitymesh.secrets.protectors import HOST_FILE, RECOVERY, Place, SlotClass, find_protector, traits_of
from identitymesh.secrets.transactions import again

Announce = Callable[[Secret], None]


@dataclass(frozen=True, slots=True)
class AddedSlot:
    """A slot that is active now. ``already``: it was before."""

    keyring: str
    id: str
    type: str
    label: str
    already: bool


def add_slots(
    station: Station,
    slot_type: str,
    keyrings: Sequence[str],
    label: str,
    announce: Announce,
    *,
    own: Secret | None = None,
) -> Sequence[AddedSlot]:
    """A new slot of this type in each of these keyrings; one passphrase serves all of them.

    ``announce`` shows a generated passphrase, durably, before anything is stored.
    ``own`` is a passphrase that somebody chose.

    Raises:
        SlotRefused: such a slot is not added this way.
        KeyringError: its protector does not work here, or a keyring does not open.
        KeyringBroken: a fresh process did not open it; the slot stays pending.
    """
    if slot_type == RECOVERY:
        raise SlotRefused(
            "a second recovery key is not added: one recovery key opens both keyrings",
            hint="To replace it: identitymesh keys slots replace-recovery",
        )
    attended = traits_of(slot_type).slot_class is SlotClass.ATTENDED
    documents = [station.open(name) for name in keyrings]
    typed = own if attended else None
    if attended and own is None and any(_active(document, slot_type, label) is None for document in documents):
        typed = new_passphrase()
        announce(typed)
    return [add_slot(station, document.keyring, slot_type, label, typed) for document in documents]


def add_slot(station: Station, keyring: str, slot_type: str, label: str, typed: Secret | None = None) -> AddedSlot:
    """One slot in one keyring. What a host guards it is given by one command at a time: they share its key file."""
    with one_at_a_time(station.host / f"{keyring}.adding") if typed is None else nullcontext():
        return _add_slot(station, keyring, slot_type, label, typed)


def _add_slot(station: Station, keyring: str, slot_type: str, label: str, typed: Secret | None) -> AddedSlot:
    document = station.open(keyring)
    known = _own_key_file(station, document) if slot_type == HOST_FILE else _active(document, slot_type, label)
    if known is not None and known.state is SlotState.ACTIVE:
        return AddedSlot(keyring, known.id, slot_type, known.label, already=True)
    slot_id = make_pending(station, keyring, slot_type, label, typed)
    activate(station, keyring, [slot_id], typed)
    return AddedSlot(keyring, slot_id, slot_type, label, already=False)


def make_pending(station: Station, keyring: str, slot_type: str, label: str, typed: Secret | None) -> str:
    """The id of a pending slot: made now, or left by this command when it was killed."""
    document = station.open(keyring)
    left = [slot for slot in document.slots if _same(slot, slot_type, label) and slot.state is SlotState.PENDING]
    if typed is None:
        own = {slot.id for slot in HostSlots(station.host, keyring).read()}
        mine = _own_key_file(station, document) if slot_type == HOST_FILE else None
        found = mine or next((slot for slot in left if slot.id in own), None)
        if found is not None:
            return found.id
    slot_id = str(uuid.uuid4())
    place = Place(station.host, keyring, typed, slot_id, None, station.means)
    protector = find_protector(slot_type, place)
    identity, guarded = guard(place, slot_type)
    slot = Slot(slot_id, slot_type, label, SlotState.PENDING, recipient_of(identity), station.moment())
    if guarded is not None and typed is None:
        HostSlots(station.host, keyring).add(HostSlot(slot_id, slot_type))
    gone = [slot.id for slot in left] if typed is not None else []
    try:
        again(lambda: _store_pending(station, keyring, slot, guarded, gone))
    except BaseException:
        protector.remove()
        HostSlots(station.host, keyring).remove(slot_id)
        raise
    return slot_id


def guard(place: Place, slot_type: str) -> tuple[Secret, bytes | None]:
    """A new identity, guarded; or, for a key file that a killed command left without a slot, the one in it."""
    protector = find_protector(slot_type, place)
    if slot_type == HOST_FILE and protector.exists():
        return protector.identity(), None
    identity = new_identity()
    return identity, protector.guard(identity)


def _store_pending(station: Station, keyring: str, slot: Slot, guarded: bytes | None, gone: Sequence[str]) -> None:
    before = station.open(keyring)
    after = with_slot(before, slot, gone)
    now = station.clock()
    with station.rows.write() as transaction:
        store(transaction, before, after, now)
        if guarded is not None:
            transaction.put_guard(keyring, slot.id, guarded, now)
        payload = {"slot": slot.id, "type": slot.type, "label": slot.label, "generation": after.generation}
        transaction.audit([Record("keyring.slot.add", keyring, station.actor, payload=payload)])
    station.remember(after)


def activate(station: Station, keyring: str, slot_ids: Sequence[str], typed: Secret | None = None) -> None:
    """Have a fresh process open what is stored through these slots, then make them active.

    Raises:
        KeyringBroken: it did not open; the slots stay pending.
    """
    prove(station, station.open(keyring), slot_ids, typed)
    again(lambda: store_active(station, station.open(keyring), slot_ids))


def prove(station: Station, document: Document, slot_ids: Sequence[str], typed: Secret | None = None) -> None:
    """The stored keyring, as the database has it now, opens through these slots.

    Raises:
        KeyringBroken: it does not.
    """
    row, rows = station.stored(document.keyring)
    attempts = []
    for slot in rows:
        if slot.id in slot_ids:
            place = Place(station.host, row.name, typed, slot.id, slot.guarded, station.means)
            attempts.append((Attempt(slot.type, row.sealed, place), document))
    problems = [problem for problem in try_in_fresh_process(attempts) if problem is not None]
    if problems or len(attempts) != len(slot_ids):
        reason = problems[0] if problems else "the database does not know it"
        raise KeyringBroken(
            f"keyring {document.keyring}: the new slot does not open in a fresh process: {reason}",
            hint="It stays pending and opens nothing. Run the command again, or remove it: identitymesh keys status",
        )


def store_active(station: Station, before: Document, slot_ids: Sequence[str]) -> Document:
    """These slots are active from now on.

    Raises:
        KeyringBroken: one was removed meanwhile.
    """
    if set(slot_ids) - {slot.id for slot in before.slots}:
        raise KeyringBroken(
            f"keyring {before.keyring}: the new slot was removed before it came into use",
            hint="It opens nothing. See what there is: identitymesh keys status",
        )
    if all(slot.state is SlotState.ACTIVE for slot in before.slots if slot.id in slot_ids):
        return before
    after = with_active_slots(before, slot_ids)
    now = station.clock()
    with station.rows.write() as transaction:
        store(transaction, before, after, now)
        for slot_id in slot_ids:
            transaction.mark_opened(before.keyring, slot_id, station.here, now)
        payload = {"slots": list(slot_ids), "generation": after.generation}
        transaction.audit([Record("keyring.slot.activate", before.keyring, station.actor, payload=payload)])
    station.remember(after)
    return after


def _active(document: Document, slot_type: str, label: str) -> Slot | None:
    """The slot of this type and label that is in use."""
    found = (slot for slot in document.slots if _same(slot, slot_type, label) and slot.state is SlotState.ACTIVE)
    return next(found, None)


def _same(slot: Slot, slot_type: str, label: str) -> bool:
    return (slot.type, slot.label) == (slot_type, label)


def _own_key_file(station: Station, document: Document) -> Slot | None:
    """The slot of the key file that is on this host already."""
    protector = find_protector(HOST_FILE, Place(station.host, document.keyring))
    return document.slot_of(recipient_of(protector.identity())) if protector.exists() else None
