"""What there is: keyrings, their slots, this host's anchors, open rotations. And a trial of every slot within reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from identitymesh.errors import KeyringError, MeshError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import recipient_of
from identitymesh.secrets.anchors import AnchorFile
from identitymesh.secrets.custody.rotation import check_free
from identitymesh.secrets.custody.sheet import RecoverySheet
from identitymesh.secrets.custody.station import Station
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.host_slots import HostSlots
from identitymesh.secrets.keyring import KEYRINGS, Document, SlotState
from identitymesh.secrets.keyrings import held
from identitymesh.secrets.opentest import Attempt, try_in_fresh_process
from identitymesh.secrets.protectors import HOST_FILE, RECOVERY, Means, Place, find_protector, traits_of
from identitymesh.secrets.rows import RotationRow, SlotRow

JOIN: Final = "With the recovery key: identitymesh keys join"


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One slot. ``here``: this host can open the keyring through it, as far as it knows."""

    id: str
    type: str
    slot_class: str
    label: str
    state: str
    here: bool
    opened: datetime | None
    opened_by: str | None


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """An open rotation. ``working``: its holder is at it."""

    state: str
    reason: str
    holder: str
    started: datetime
    working: bool
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class KeyringStatus:
    """One keyring as this host sees it. ``problem``: why it does not open here; slots are hints then."""

    keyring: str
    generation: int
    problem: str | None
    hint: str
    anchor_generation: int | None
    anchor_problem: str | None
    fingerprint: str | None
    data_keys: Sequence[str]
    slots: Sequence[SlotStatus]
    weakest: str | None
    weakest_opened_by: str | None
    rotation: RotationStatus | None


@dataclass(frozen=True, slots=True)
class Status:
    """All of it. ``sheet_verified``: this host's trust was compared with the recovery sheet."""

    keyrings: Sequence[KeyringStatus]
    sheet_verified: bool


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One slot that was tried in a fresh process; ``problem`` says in words why it did not open."""

    keyring: str
    slot: str
    type: str
    label: str
    problem: str | None


def status(station: Station) -> Status:
    """Needs no key: what cannot be opened here is said with its reason."""
    sheet = RecoverySheet(station.host).read()
    return Status([_keyring(station, name) for name in KEYRINGS], sheet is None or sheet.verified)


def open_test(station: Station, through: str | None = None, typed: Secret | None = None) -> Sequence[TrialResult]:
    """Try every slot within reach of this host, each in a fresh process; and note which opened.

    With ``through`` (``recovery``, ``passphrase``) and what a person typed, those slots instead.

    Raises:
        KeyringMissing: the database has no keyrings.
    """
    results: list[TrialResult] = []
    for name in KEYRINGS:
        results += _try(station, name, through, typed)
    now = station.clock()
    with station.rows.write() as transaction:
        for result in results:
            if result.problem is None:
                transaction.mark_opened(result.keyring, result.slot, station.here, now)
    return results


def _try(station: Station, name: str, through: str | None, typed: Secret | None) -> Sequence[TrialResult]:
    row, slots = station.stored(name)
    try:
        document = station.open(name)
    except KeyringError as error:
        return [TrialResult(name, "", "", station.here, error.message)]
    tried = []
    for slot in slots:
        wanted = slot.type == through if through is not None else _is_here(station, name, slot)
        listed = document.slot_of(slot.recipient)
        if wanted and listed is not None and listed.id == slot.id:
            place = Place(station.host, name, typed, slot.id, slot.guarded, station.means)
            tried.append((slot, (Attempt(slot.type, row.sealed, place), document)))
    problems = try_in_fresh_process([attempt for _slot, attempt in tried])
    return [
        TrialResult(name, slot.id, slot.type, slot.label, problem)
        for (slot, _attempt), problem in zip(tried, problems, strict=True)
    ]


def _keyring(station: Station, name: str) -> KeyringStatus:
    row, rows = station.stored(name)
    with station.rows.read() as view:
        rotation = view.rotation(name)
        numbers = view.sealed_numbers(name)
    document, problem, hint = _document(station, name)
    anchor, anchor_problem = _anchor(station, name)
    if document is None and has_not_joined(station.host, name, station.means):
        problem, hint, anchor_problem = f"this host has not joined the keyring {name}", JOIN, None
    slots = _slots(station, name, document, rows)
    active = [slot for slot in slots if slot.state == SlotState.ACTIVE]
    weakest = min((slot.type for slot in active), key=lambda kind: traits_of(kind).strength, default=None)
    return KeyringStatus(
        keyring=name,
        generation=row.generation,
        problem=problem,
        hint=hint,
        anchor_generation=anchor,
        anchor_problem=anchor_problem,
        fingerprint=_fingerprint(document),
        data_keys=[f"{key.id} {key.state.value}" for key in document.data_keys] if document else [],
        slots=slots,
        weakest=weakest,
        weakest_opened_by=traits_of(weakest).opened_by if weakest else None,
        rotation=_rotation(station, rotation, *numbers) if rotation else None,
    )


def has_not_joined(host: Path, name: str, means: Means) -> bool:
    """Nothing of this keyring is on this host: no key, no slot, no anchor."""
    return name not in held(host, means) and not AnchorFile(host, name).exists()


def _document(station: Station, name: str) -> tuple[Document | None, str | None, str]:
    try:
        return station.open(name), None, ""
    except KeyringError as error:
        return None, error.message, error.hint


def _anchor(station: Station, name: str) -> tuple[int | None, str | None]:
    try:
        return AnchorFile(station.host, name).read().generation, None
    except KeyringError as error:
        return None, error.message


def _fingerprint(document: Document | None) -> str | None:
    if document is None:
        return None
    found = [slot.recipient for slot in document.slots if slot.type == RECOVERY and slot.state is SlotState.ACTIVE]
    return fingerprint(document.installation, found[0]) if found else None


def _slots(station: Station, name: str, document: Document | None, rows: Sequence[SlotRow]) -> Sequence[SlotStatus]:
    """The sealed list is the truth; rows add what only they know, and stand in when it does not open."""
    by_id = {row.id: row for row in rows}
    found = []
    for slot in document.slots if document else rows:
        hint = by_id.get(slot.id)
        kind = _class(slot.type)
        here = hint is not None and _is_here(station, name, hint)
        opened, by = (hint.opened, hint.opened_by) if hint else (None, None)
        found.append(SlotStatus(slot.id, slot.type, kind, slot.label, str(slot.state), here, opened, by))
    return found


def _class(slot_type: str) -> str:
    try:
        return traits_of(slot_type).slot_class.value
    except MeshError:
        return "unknown"


def _is_here(station: Station, keyring: str, slot: SlotRow) -> bool:
    if slot.type == HOST_FILE:
        protector = find_protector(HOST_FILE, Place(station.host, keyring))
        try:
            return protector.exists() and recipient_of(protector.identity()) == slot.recipient
        except KeyringError:
            return False
    try:
        return slot.id in {own.id for own in HostSlots(station.host, keyring).read()}
    except KeyringError:
        return False


def _rotation(station: Station, row: RotationRow, total: int, by_key: Mapping[int, int]) -> RotationStatus:
    try:
        check_free(station, row)
        working = False
    except MeshError:
        working = True
    done = by_key.get(row.new_key, 0)
    return RotationStatus(row.state, row.reason, row.holder, row.started, working, done, total)
