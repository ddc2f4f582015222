"""A new host joins: slots and anchors of its own in both keyrings, opened by what a person typed or another slot.

A host that joins has no anchor, so nothing here proves by itself that the keyrings are the
right ones. Three things are looked at: the fingerprint of the recovery sheet, if it is
given; that both keyrings belong to the installation of the database; and that they open the
secrets that are stored. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from identitymesh.audit import Record
from identitymesh.errors import HostKeyWrong, KeyringBroken, KeyringSubstituted, MeshError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import recipient_of
from identitymesh.secrets.anchors import Anchor, AnchorFile
from identitymesh.secrets.custody.adding import guard
from identitymesh.secrets.custody.changes import with_active_slots, with_slot
from identitymesh.secrets.custody.rotation import BATCH, START, opened_value
from identitymesh.secrets.custody.sheet import RecoverySheet
from identitymesh.secrets.custody.station import Station, store, stored_in
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.keyring import KEYRINGS, Document, Slot, SlotState
from identitymesh.secrets.keyrings import check_row, check_slot, open_row
from identitymesh.secrets.opentest import Attempt, open_in_fresh_process
from identitymesh.secrets.protectors import HOST_FILE, RECOVERY, Place, find_protector
from identitymesh.secrets.setup import make_host_folder
from identitymesh.secrets.transactions import again


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What joining did. ``verified``: the fingerprint of the recovery sheet was compared."""

    installation: str
    fingerprint: str
    verified: bool
    keyrings: Sequence[str]
    secrets: int
    broken: Sequence[str]
    already: bool


class Joining:
    """One host that joins, through one way in."""

    def __init__(
        self, station: Station, through: str, typed: Secret | None, keyrings: Sequence[str] = KEYRINGS
    ) -> None:
        self._station = station
        self._through = through
        self._typed = typed
        self._keyrings = keyrings

    def join(self, label: str, wanted_fingerprint: str | None) -> JoinReport:
        """Add this host to the keyrings.

        Raises:
            KeyringError: what was typed opens nothing.
            KeyringSubstituted: the fingerprint, the installation or the stored secrets say that these are
                other keyrings. Nothing was changed.
        """
        documents = {name: self._open(name) for name in self._keyrings}
        sheet = self._check(documents, wanted_fingerprint)
        tried, broken = self._open_everything(documents)
        make_host_folder(self._station.host)
        before = [name for name, document in documents.items() if self._has_joined(document)]
        slots = {name: self._make_pending(name, label) for name in self._keyrings if name not in before}
        if slots:
            self._prove(slots)
        for name, slot_id in slots.items():
            again(partial(self._activate, name, slot_id))
        verified = RecoverySheet(self._station.host).note(sheet, verified=wanted_fingerprint is not None)
        installation = documents[self._keyrings[0]].installation
        return JoinReport(installation, sheet, verified, self._keyrings, tried, broken, already=not slots)

    def _open(self, name: str) -> Document:
        """Through what was typed, or the slot of another kind that works on this host."""
        anchor_file = AnchorFile(self._station.host, name)
        anchor = anchor_file.read() if anchor_file.exists() else None
        with self._station.rows.read() as view:
            row, slots = stored_in(view, name)
        errors: list[MeshError] = []
        for place in self._places(name, [(slot.type, slot.id, slot.guarded) for slot in slots]):
            try:
                identity = find_protector(self._through, place).identity()
                document = open_row(row, identity, given=f"this {self._through} key")
            except MeshError as error:
                errors.append(error)
                continue
            check_row(row, document)
            check_slot(document, recipient_of(identity))
            if anchor is not None:
                anchor.check(document)
            return document
        raise (
            errors[0]
            if errors
            else HostKeyWrong(
                f"keyring {name}: it has no slot of the type {self._through}", hint="Join with the recovery key."
            )
        )

    def _places(self, name: str, slots: Sequence[tuple[str, str, bytes | None]]) -> Sequence[Place]:
        station = self._station
        if self._through == RECOVERY:
            return [Place(station.host, name, self._typed)]
        return [
            Place(station.host, name, self._typed, slot_id, guarded, station.means)
            for slot_type, slot_id, guarded in slots
            if slot_type == self._through
        ]

    def _check(self, documents: dict[str, Document], wanted: str | None) -> str:
        with self._station.rows.read() as view:
            row = view.installation()
        recipients = [
            {slot.recipient for slot in document.slots if slot.type == RECOVERY and slot.state is SlotState.ACTIVE}
            for document in documents.values()
        ]
        ids = {document.installation for document in documents.values()} | ({row.id} if row else set())
        shared = set.intersection(*recipients)
        if len(ids) != 1 or not shared:
            raise _substituted("its keyrings and its installation do not belong together")
        sheets = [fingerprint(next(iter(ids)), recipient) for recipient in sorted(shared)]
        if wanted is None:
            return sheets[0]
        given = wanted.strip().lower()
        for sheet in sheets:
            if hmac.compare_digest(sheet, given):
                return sheet
        raise _substituted(f"its fingerprint is {sheets[0]}, not the one that was given")

    def _open_everything(self, documents: dict[str, Document]) -> tuple[int, list[str]]:
        """A keyring that somebody else made opens none of the secrets that are stored."""
        tried = 0
        broken: list[str] = []
        for name, document in documents.items():
            opened, after = 0, START
            failed: list[str] = []
            while True:
                with self._station.rows.read() as view:
                    rows = view.sealed_after(name, after, BATCH)
                if not rows:
                    break
                for row in rows:
                    try:
                        opened_value(row, document)
                        opened += 1
                    except MeshError:
                        failed.append(row.ref)
                after = (rows[-1].ref, rows[-1].version)
            if failed and not opened:
                raise _substituted(f"the keyring {name} opens none of its {len(failed)} stored secrets")
            tried += opened
            broken += failed
        return tried, broken

    def _key_file(self, name: str) -> Place:
        return Place(self._station.host, name)

    def _has_joined(self, document: Document) -> bool:
        slot = self._own_slot(document)
        return (
            slot is not None
            and slot.state is SlotState.ACTIVE
            and AnchorFile(self._station.host, document.keyring).exists()
        )

    def _own_slot(self, document: Document) -> Slot | None:
        protector = find_protector(HOST_FILE, self._key_file(document.keyring))
        return document.slot_of(recipient_of(protector.identity())) if protector.exists() else None

    def _make_pending(self, name: str, label: str) -> str:
        """Key file, anchor, pending slot; what a killed command left is used."""
        station = self._station
        identity, _nothing = guard(self._key_file(name), HOST_FILE)
        anchor = AnchorFile(station.host, name)

        def attempt() -> str:
            before = self._open(name)
            if not anchor.exists():
                anchor.create(Anchor.of(before))
            known = self._own_slot(before)
            if known is not None:
                return known.id
            slot = new_slot(label, recipient_of(identity), station.moment())
            after = with_slot(before, slot)
            with station.rows.write() as transaction:
                store(transaction, before, after, station.clock())
                payload = {"slot": slot.id, "label": label, "through": self._through, "generation": after.generation}
                transaction.audit([Record("keyring.join", name, station.actor, payload=payload)])
            anchor.advance(after)
            return slot.id

        return again(attempt)

    def _prove(self, slots: dict[str, str]) -> None:
        attempts = []
        for name, slot_id in slots.items():
            document = self._open(name)
            row, _rows = self._station.stored(name)
            attempts.append((Attempt(HOST_FILE, row.sealed, Place(self._station.host, name, slot=slot_id)), document))
        try:
            open_in_fresh_process(attempts)
        except KeyringBroken as error:
            raise KeyringBroken(error.message, hint="The slot stays pending. Run the same command again.") from None

    def _activate(self, name: str, slot_id: str) -> None:
        station = self._station
        before = self._open(name)
        now = station.clock()
        with station.rows.write() as transaction:
            after = before
            if all(slot.id != slot_id for slot in before.slots):
                raise KeyringBroken(
                    f"keyring {name}: the slot of this host was removed before it came into use",
                    hint="This host opens nothing with it. Run the same command again.",
                )
            if any(slot.id == slot_id and slot.state is SlotState.PENDING for slot in before.slots):
                after = with_active_slots(before, [slot_id])
                store(transaction, before, after, now)
                payload = {"slots": [slot_id], "generation": after.generation}
                transaction.audit([Record("keyring.slot.activate", name, station.actor, payload=payload)])
            transaction.mark_opened(name, slot_id, station.here, now)
        AnchorFile(station.host, name).advance(after)


def new_slot(label: str, recipient: str, moment: str) -> Slot:
    """A pending slot for a key file."""
    return Slot(str(uuid.uuid4()), HOST_FILE, label, SlotState.PENDING, recipient, moment)


def _substituted(reason: str) -> KeyringSubstituted:
    return KeyringSubstituted(
        f"this database is not what it should be: {reason}",
        hint="Nothing was changed. Check database.url, the recovery sheet, and who may write this database.",
    )
