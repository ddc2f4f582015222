"""Rotation of data keys: online, resumable, fenced.

::

    prepared   the new key is in the keyring; everybody reads it, nobody seals with it
    reseal     it is primary; every value under another key is sealed again, where it still stands as it was read
    verify     every value is opened; one that is under another key sends it back to reseal
    (no row)   retired: the old keys are gone from the keyring

Each arrow is one transaction with a compare-and-set on the keyring's generation. A writer
holds that generation until its own commit, so after promotion no value can appear under
the old key, and the old key goes only after a count of zero in the very transaction that
removes it. The row of the rotation names who works on it, until when, and a fence that
every step compares: a process that was taken over changes nothing any more. Killed
anywhere, the same command goes on from the last commit; values that are done are not
read again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import Busy, KeyringBroken, LeaseLost, MeshError, RotationIncomplete, SecretBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.custody.changes import with_prepared_key, with_promoted_key, without_retired_keys
from identitymesh.secrets.custody.station import Progress, Station, store, unwatched
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.rows import DATABASE, CustodyTransaction, RotationRow, SealedRow
from identitymesh.secrets.sealing import Context, read_header, seal, unseal
from identitymesh.secrets.transactions import again, hold_keyring

PREPARED: Final = "prepared"
RESEAL: Final = "reseal"
VERIFY: Final = "verify"
ASKED: Final = "asked"
BATCH: Final = 500
LEASE: Final = timedelta(seconds=20)
PASSES: Final = 200
PAUSE: Final = 0.05
START: Final = ("", 0)
_HOLDER: Final = re.compile(r"process (\d+) on (.*)")


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What a rotation did. ``resumed``: it had been begun by another process."""

    keyring: str
    key: int
    resealed: int
    verified: int
    seconds: float
    resumed: bool


def holder_of(station: Station) -> str:
    """Who works on a rotation, for the one who comes second."""
    return f"{station.actor}, process {os.getpid()} on {station.here}"


def rotate(station: Station, keyring: str, progress: Progress = unwatched, batch: int = BATCH) -> RotationReport:
    """Rotate the data keys of a keyring, or go on with a rotation that was begun.

    Raises:
        Busy: another process is at it; the message says which.
        LeaseLost: another process took it over.
        RotationIncomplete: values that do not open; they keep the old key in the keyring.
    """
    return _Rotation(station, keyring, progress, batch).run()


def new_rotation(station: Station, document: Document, state: str, reason: str, subject: str) -> RotationRow:
    """The row of a rotation to the newest key of a document. Nobody holds it yet: its lease has ended."""
    now = station.clock()
    key = max(key.id for key in document.data_keys)
    return RotationRow(document.keyring, state, reason, subject, key, now, holder_of(station), 1, now)


def check_free(station: Station, row: RotationRow) -> None:
    """Whether this process may go on with it.

    Raises:
        Busy: its holder works on it.
    """
    if row.until <= station.clock() or _is_gone(row.holder, station.here):
        return
    raise Busy(
        f"keyring {row.keyring}: {row.holder} rotates its keys, since {row.started:%Y-%m-%d %H:%M:%S} UTC",
        hint="Wait for it. Should that process be gone, the same command goes on in its place within "
        f"{int(LEASE.total_seconds())} seconds.",
    )


def _is_gone(holder: str, here: str) -> bool:
    """A process of this very host that has ended. Of other hosts only their lease tells."""
    found = _HOLDER.search(holder)
    if found is None or found.group(2) != here or os.name != "posix":
        return False
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


class _Rotation:
    """One process at work on one rotation."""

    def __init__(self, station: Station, keyring: str, progress: Progress, batch: int) -> None:
        self._station = station
        self._keyring = keyring
        self._progress = progress
        self._batch = batch
        self._resealed = 0
        self._row: RotationRow

    def run(self) -> RotationReport:
        began = time.monotonic()
        resumed = again(self._claim)
        try:
            if self._row.state == PREPARED:
                again(self._promote)
            verified = self._reseal_and_verify()
        except BaseException:
            self._release()
            raise
        return RotationReport(
            self._keyring, self._row.new_key, self._resealed, verified, time.monotonic() - began, resumed
        )

    def _claim(self) -> bool:
        """Begin, or take over; True for the latter."""
        station = self._station
        document = station.open(self._keyring)
        with station.rows.write() as transaction:
            found = transaction.rotation(self._keyring)
            if found is not None:
                check_free(station, found)
                hold_keyring(transaction, self._keyring, document)  # another host may have begun it since we looked
                self._check_key(document, found)
                until = station.clock() + LEASE
                self._row = replace(found, holder=holder_of(station), fence=found.fence + 1, until=until)
                if not transaction.move_rotation(self._row, fence=found.fence):
                    raise self._lost()
                return True
            after = with_prepared_key(document, station.moment())
            store(transaction, document, after, station.clock())
            new = new_rotation(station, after, PREPARED, ASKED, "")
            self._row = replace(new, until=new.started + LEASE)
            if not transaction.insert_rotation(self._row):
                raise self._lost()
            self._audit(transaction, "keyring.rotate", {"state": PREPARED, "key": self._row.new_key})
        station.remember(after)
        return False

    def _check_key(self, document: Document, found: RotationRow) -> None:
        """Rows are hints: where one tells of a rotation that the sealed keyring knows nothing of, nothing is done."""
        if found.new_key != max(key.id for key in document.data_keys):
            raise KeyringBroken(
                f"keyring {self._keyring}: the database says that its keys rotate to key {found.new_key}, "
                "which is not the newest of the keyring",
                hint="The row was edited outside Identity Mesh. Nothing was changed; restore a backup.",
            )

    def _promote(self) -> None:
        document = self._station.open(self._keyring)
        after = with_promoted_key(document, self._row.new_key)
        with self._station.rows.write() as transaction:
            store(transaction, document, after, self._station.clock())
            self._move(transaction, RESEAL)
            self._audit(transaction, "keyring.rotate", {"state": "promoted", "key": self._row.new_key})
        self._station.remember(after)

    def _reseal_and_verify(self) -> int:
        for _pass in range(PASSES):
            document = self._station.open(self._keyring)
            broken = self._reseal(document)
            verified, wrong = self._verify(document)
            broken = sorted({*broken, *wrong})
            if broken:
                raise self._incomplete(broken)
            if again(self._retire):
                return verified
            time.sleep(PAUSE)  # a row that another transaction held
        raise Busy(f"keyring {self._keyring}: values are held by others for too long", hint="Run the command again.")

    def _reseal(self, document: Document) -> Sequence[str]:
        """One pass over what is under another key; answers the refs that do not open."""
        with self._station.rows.read() as view:
            total, by_key = view.sealed_numbers(self._keyring)
        done = by_key.get(self._row.new_key, 0)
        broken: list[str] = []
        after = START
        while True:
            self._progress("sealing again", self._keyring, done, total)
            with self._station.rows.read() as view:
                rows = view.sealed_after(self._keyring, after, self._batch, except_key=self._row.new_key)
            if not rows:
                return broken
            changes = []
            for row in rows:
                try:
                    changes.append((row, _sealed_again(row, document)))
                except MeshError:
                    broken.append(row.ref)
            with self._station.rows.write() as transaction:
                self._move(transaction, RESEAL)
                changed = transaction.reseal(changes)
            self._resealed += changed
            done += changed
            after = (rows[-1].ref, rows[-1].version)

    def _verify(self, document: Document) -> tuple[int, Sequence[str]]:
        """Open everything; answers how many opened, and the refs that did not."""
        with self._station.rows.write() as transaction:
            self._move(transaction, VERIFY)
        with self._station.rows.read() as view:
            total, _by_key = view.sealed_numbers(self._keyring)
        opened = 0
        broken: list[str] = []
        after = START
        while True:
            self._progress("verifying", self._keyring, opened, total)
            with self._station.rows.read() as view:
                rows = view.sealed_after(self._keyring, after, self._batch)
            if not rows:
                return opened, broken
            for row in rows:
                try:
                    opened_value(row, document)
                    opened += 1
                except MeshError:
                    broken.append(row.ref)
            after = (rows[-1].ref, rows[-1].version)
            if self._row.until - self._station.clock() < LEASE / 2:
                with self._station.rows.write() as transaction:
                    self._move(transaction, VERIFY)

    def _retire(self) -> bool:
        """Take the old keys away; False when a value is still under one of them."""
        document = self._station.open(self._keyring)
        after = without_retired_keys(document)
        with self._station.rows.write() as transaction:
            if not transaction.hold_rotation(self._row):
                raise self._lost()
            _total, by_key = transaction.sealed_numbers(self._keyring)
            if by_key.keys() - {self._row.new_key}:
                return False
            store(transaction, document, after, self._station.clock())
            transaction.delete_rotation(self._row)
            self._audit(transaction, "keyring.rotate", {"state": "retired", "key": self._row.new_key})
        self._station.remember(after)
        return True

    def _move(self, transaction: CustodyTransaction, state: str) -> None:
        moved = replace(self._row, state=state, until=self._station.clock() + LEASE)
        if not transaction.move_rotation(moved, fence=self._row.fence):
            raise self._lost()
        self._row = moved

    def _release(self) -> None:
        """Let the next one go on at once. When that fails too, the lease ends by itself."""
        try:
            with self._station.rows.write() as transaction:
                transaction.move_rotation(replace(self._row, until=self._station.clock()), fence=self._row.fence)
        except MeshError:
            return

    def _audit(self, transaction: CustodyTransaction, action: str, payload: dict[str, object]) -> None:
        transaction.audit([Record(action, self._keyring, self._station.actor, payload=payload)])

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"keyring {self._keyring}: another process has taken over the rotation of its keys",
            hint="Nothing is lost. See who: identitymesh keys status",
        )

    def _incomplete(self, broken: Sequence[str]) -> RotationIncomplete:
        shown = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        return RotationIncomplete(
            f"keyring {self._keyring}: {len(broken)} stored values do not open: {shown}; the old key stays",
            hint="All others are under the new key. Set these again or delete them "
            f"(identitymesh secrets set {broken[0]}), then run `identitymesh keys rotate {self._keyring}`.",
        )


def _context(row: SealedRow) -> Context:
    return Context(row.keyring, DATABASE, row.ref, row.version, row.expires)


def opened_value(row: SealedRow, document: Document) -> Secret:
    """The value; that it has expired is no matter here.

    Raises:
        SecretBroken: it does not open.
    """
    key = document.sealing_key(read_header(row.sealed, row.ref).key_id)
    if key is None or key.key_id != row.key_id:
        raise SecretBroken(f"{row.ref}: it is under a key that the keyring {row.keyring} has not")
    return unseal(row.sealed, key, _context(row))


def _sealed_again(row: SealedRow, document: Document) -> SealedRow:
    key = document.primary()
    return replace(row, key_id=key.key_id, sealed=seal(opened_value(row, document), key, _context(row)))
