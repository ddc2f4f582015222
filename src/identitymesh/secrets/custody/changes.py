"""What can become of a keyring document: pure, one generation for each change."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from identitymesh.errors import SlotRefused
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import MAX_ENDORSEMENTS, DataKey, Document, KeyState, Slot, SlotState
from identitymesh.secrets.protectors import SlotClass, traits_of
from identitymesh.secrets.sealing import KEY_BYTES

LEAST_ACTIVE: Final = 2


def with_slot(document: Document, slot: Slot, instead_of: Collection[str] = ()) -> Document:
    """One slot more; ``instead_of`` are slots that never came into use, as far as they have not by now."""
    kept = tuple(one for one in document.slots if one.id not in instead_of or one.state is SlotState.ACTIVE)
    return replace(document, slots=(*kept, slot), generation=document.generation + 1)


def with_active_slots(document: Document, slot_ids: Collection[str]) -> Document:
    """These slots have been opened by a fresh process."""
    return replace(document.with_active(tuple(slot_ids)), generation=document.generation + 1)


def renewed(document: Document, gone: Collection[str], moment: str, added: tuple[Slot, ...] = ()) -> Document:
    """Without these slots, under a new keyset secret and a new primary data key, endorsed by the old secret."""
    generation = document.generation + 1
    secret = Secret(os.urandom(KEY_BYTES))
    endorsements = (*document.endorsements, document.endorse(secret, generation))[-MAX_ENDORSEMENTS:]
    return replace(
        document,
        generation=generation,
        keyset_secret=secret,
        endorsements=endorsements,
        data_keys=(*_retiring(document), _new_key(document, KeyState.PRIMARY, moment)),
        slots=(*(slot for slot in document.slots if slot.id not in gone), *added),
    )


def with_prepared_key(document: Document, moment: str) -> Document:
    """A new data key that everybody learns before anything is sealed with it."""
    new = _new_key(document, KeyState.PREPARED, moment)
    return replace(document, data_keys=(*document.data_keys, new), generation=document.generation + 1)


def with_promoted_key(document: Document, key_id: int) -> Document:
    """The prepared key seals from now on; the others open only."""
    new = next(key for key in document.data_keys if key.id == key_id)
    others = tuple(key for key in _retiring(document) if key.id != key_id)
    keys = (*others, replace(new, state=KeyState.PRIMARY))
    return replace(document, data_keys=keys, generation=document.generation + 1)


def without_retired_keys(document: Document) -> Document:
    """Only the key that seals."""
    kept = tuple(key for key in document.data_keys if key.state is not KeyState.RETIRING)
    return replace(document, data_keys=kept, generation=document.generation + 1)


def check_removal(document: Document, gone: Collection[str]) -> None:
    """What is left must open without a person, after a fire, and in two ways.

    Raises:
        SlotRefused: it would not; nothing is changed.
    """
    left = [slot for slot in document.slots if slot.state is SlotState.ACTIVE and slot.id not in gone]
    classes = {traits_of(slot.type).slot_class for slot in left}
    where = f"keyring {document.keyring}: "
    if SlotClass.RECOVERY not in classes:
        raise SlotRefused(
            where + "this is its last recovery slot; it stays",
            hint="Give it a new recovery key instead: identitymesh keys slots replace-recovery",
        )
    if SlotClass.UNATTENDED not in classes:
        raise SlotRefused(
            where + "this is its last slot that opens without a person; it stays",
            hint="Add one first: `identitymesh keys slots add`, or `identitymesh keys join` on another host.",
        )
    if len(left) < LEAST_ACTIVE:
        raise SlotRefused(
            where + "fewer than two active slots would be left; it stays", hint="Add one first: keys slots add"
        )


def _retiring(document: Document) -> tuple[DataKey, ...]:
    return tuple(replace(key, state=KeyState.RETIRING) for key in document.data_keys)


def _new_key(document: Document, state: KeyState, moment: str) -> DataKey:
    # Above every id there is. The highest one is never retired before a higher one is made: no id comes back.
    number = max(key.id for key in document.data_keys) + 1
    return DataKey(number, state, moment, Secret(os.urandom(KEY_BYTES)))
