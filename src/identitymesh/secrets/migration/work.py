"""One process at work on a migration. Each step is a short transaction that compares the fence; none waits inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import Busy, MeshError, MigrationRefused, ProviderError
from identitymesh.secrets.custody.station import Progress
from identitymesh.secrets.keyring import APPLICATION, CONNECTORS
from identitymesh.secrets.lookup import note
from identitymesh.secrets.migration.copying import (
    SHOWN,
    Sides,
    compare,
    read_source,
    record_copies,
    refuse_unreadable,
    write_target,
)
from identitymesh.secrets.migration.needs import Need, Standing, standing, target_version
from identitymesh.secrets.migration.state import (
    COPY,
    DRAIN,
    LEASE,
    SCRUB,
    VERIFY,
    ItemRow,
    MigrationRow,
    MigrationTransaction,
    lost,
)
from identitymesh.secrets.providers import Change, Provider
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import LedgerRow
from identitymesh.secrets.transactions import again

BATCH: Final = 256  # refs; the slowest call of a batch is waited for, so small ones waste time
PASSES: Final = 100
PAUSE: Final = 0.05
ROTATION_PAUSE: Final = 0.2
BUSY_AFTER: Final = 6  # turns; without anybody else three are enough
QUIET: Final = timedelta(seconds=3)
DIFFERENT: Final = 3  # times that a value may come back as another one
ROTATION_AGE: Final = timedelta(minutes=10)  # one that moved so lately is at work: it holds ids of the source
ROTATION_WAIT: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """Where a migration stands; of ``versions`` so many are copied, and verified. ``state`` "done": it is over."""

    source: str
    target: str
    state: str
    versions: int
    copied: int
    verified: int
    fallbacks: int
    started: datetime
    holder: str
    seconds: float = 0.0
    resumed: bool = False


def report_of(row: MigrationRow, found: Standing, state: str | None = None) -> MigrationReport:
    copied = len(found.needs) - len(found.missing)
    return MigrationReport(
        source=row.source,
        target=row.target,
        state=state or row.state,
        versions=len(found.needs),
        copied=copied,
        verified=copied - len(found.unverified),
        fallbacks=row.fallbacks,
        started=row.started,
        holder=row.holder,
    )


class Work:
    """Holds the migration as long as the fence in ``row`` is the stored one."""

    def __init__(
        self, sides: Sides, row: MigrationRow, actor: str, clock: Callable[[], datetime], progress: Progress
    ) -> None:
        self._sides = sides
        self._rows = sides.rows
        self._actor = actor
        self._clock = clock
        self._progress = progress
        self._different: dict[tuple[str, str], int] = {}
        self.row = row

    @contextmanager
    def held(self) -> Iterator[None]:
        """Gives it back at the end, so that the next command can carry on at once."""
        try:
            yield
        finally:
            try:
                with self._rows.write() as transaction:
                    transaction.move_migration(replace(self.row, until=self._clock()), before=self.row)
            except MeshError:
                pass  # then the lease ends by itself

    # Forward

    def carry_over(self) -> None:
        """Copy, verify and cut over; what is stored meanwhile is copied, too.

        Raises:
            Busy: values are stored faster than they are copied.
        """
        wait_until = self._clock() + ROTATION_WAIT
        for turn in range(PASSES):
            with self._rows.read() as view:
                found = standing(view, self.row)
                since = self._clock() - ROTATION_AGE
                rotating = [one.ref for one in view.rotations() if one.open and one.changed > since]
            if turn % BUSY_AFTER == BUSY_AFTER - 1 and not rotating:
                self._ask_for_quiet()
            if found.stale:
                self._tidy(found.stale)
            elif found.missing:
                self._copy(found)
            elif found.unverified:
                self._verify(found)
            elif rotating:
                self._await_rotation(rotating[0], wait_until)
            elif self._cut_over():
                return
        raise Busy(
            "secrets are stored faster than they can be copied", hint="Run the command again when less is changed."
        )

    def _await_rotation(self, ref: str, until: datetime) -> None:
        """It holds version ids of the source. Until it is done, or has stood still for long, nothing is cut over."""
        while self._clock() < until:
            self._step(self.row.state)
            time.sleep(ROTATION_PAUSE)
            with self._rows.read() as view:
                one = view.rotation(ref)
            if one is None or not one.open:
                return
        raise Busy(
            f"{ref} is being rotated: everything is copied, the cut over waits for it",
            hint=f"Finish it (identitymesh secrets rotate {ref}), then run the command again.",
        )

    def _ask_for_quiet(self) -> None:
        """Whoever stores a value waits for a moment: the last few are copied meanwhile."""
        with self._rows.write() as transaction:
            self._move(transaction, self.row.state)
            transaction.set_closing(self._clock() + QUIET)

    def _copy(self, found: Standing) -> None:
        total = len(found.needs)
        done = total - len(found.missing)
        for batch in _batches(found.missing):
            self._progress("copying", self.row.target, done, total)
            again(partial(self._copy_batch, batch), pause=PAUSE)
            done += len(batch)
        self._progress("copying", self.row.target, done, total)

    def _copy_batch(self, needs: Sequence[Need]) -> None:
        reading = read_source(self._sides, needs)
        for error in reading.failed.values():
            if isinstance(error, ProviderError):
                raise error
        if reading.failed:
            with self._rows.read() as view:
                still = {*standing(view, self.row).missing}
            left = {need: error for need, error in reading.failed.items() if need in still}
            if left:
                raise refuse_unreadable(left, self.row.source)
        changes = write_target(self._sides, reading)
        with self._rows.write() as transaction:
            self._move(transaction, COPY)
            note(transaction, reading.followed, self._actor, self._clock(), self.row.source)
            record_copies(transaction, self.row, reading, changes)

    def _verify(self, found: Standing) -> None:
        total = len(found.needs)
        done = total - len(found.unverified)
        for start in range(0, len(found.unverified), BATCH):
            pairs = found.unverified[start : start + BATCH]
            self._progress("verifying", self.row.target, done, total)
            equal, again, followed = compare(self._sides, self.row, pairs)
            for item in again:
                self._count_different(item)
            with self._rows.write() as transaction:
                self._move(transaction, VERIFY)
                note(transaction, followed, self._actor, self._clock(), self.row.source)
                transaction.forget_items([*(item for _need, item in pairs if item in again), *equal])
                transaction.put_items(equal)
            done += len(equal)
        self._progress("verifying", self.row.target, done, total)

    def _count_different(self, item: ItemRow) -> None:
        place = (item.ref, target_version(item, self.row))
        self._different[place[0], ""] = times = self._different.get((place[0], ""), 0) + 1
        if times >= DIFFERENT:
            raise MigrationRefused(
                f"{item.ref}: {self.row.target} does not give back what was written to it",
                hint="See who else writes to this entry; then run the command again, or give up with --abort.",
            )

    def _tidy(self, stale: Sequence[ItemRow]) -> None:
        """Take away at the target what is no secret any more, and pending versions that were given up."""
        with self._rows.read() as view:
            known = view.ledger({item.ref for item in stale})
        gone = [item for item in stale if item.ref not in known]
        dropped = [item for item in stale if item.ref in known]
        target = self._sides.target
        changes: list[Change] = [target.delete(SecretReference(ref)) for ref in sorted({item.ref for item in gone})]
        changes += [target.retire(SecretReference(item.ref), [target_version(item, self.row)]) for item in dropped]
        with self._rows.write() as transaction:
            self._move(transaction, self.row.state)
            for change in changes:
                change.record(transaction)
            transaction.forget_items(stale)

    def _cut_over(self) -> bool:
        """From the end of this transaction on the target is used. False: something was stored since it was verified."""
        with self._rows.write() as transaction:
            transaction.lock_ledger_whole()
            found = standing(transaction, self.row)
            if not found.ready or found.stale:
                return False
            now = self._clock()
            self.row = replace(self.row, cut_over=now)
            self._move(transaction, DRAIN)
            transaction.renumber(back=self.row.back)
            transaction.set_provider(self.row.target)
            transaction.set_draining(self.row.source)
            transaction.set_closing(None)
            self.audit(transaction, "cut-over", versions=len(found.needs))
        return True

    # Back and away

    def turn_round(self) -> None:
        """What was the target is the source from now on. It is still the one in use, until the cut over."""
        with self._rows.write() as transaction:
            self.row = replace(self.row, back=not self.row.back, cut_over=None)
            self._move(transaction, COPY)
            transaction.unverify_items()
            self.audit(transaction, "turn-round")

    def begin_scrub(self, *, purge: bool) -> None:
        """From now on it cannot be taken back.

        Raises:
            Busy: a run that began before the cut over is not over.
            MigrationRefused: a secret is not at the target.
        """
        cut_over = self.row.cut_over or self._clock()
        with self._rows.read() as view:
            runs = view.running_since_before(cut_over)
            named = {ref for ref, row in view.ledger().items() if row.keyring == CONNECTORS and row.current_version}
        if runs:
            raise Busy(
                f"{runs[0]} began before the cut over and may still ask {self.row.source}",
                hint="Wait for it to end, then run the command again.",
            )
        lacking = sorted(named - set(self._sides.target.list(self._rows)))
        if lacking:
            raise MigrationRefused(
                f"{self.row.target} has no value of {', '.join(lacking[:SHOWN])}"
                + (f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else "")
                + f"; {self.row.source} still has, so it is not emptied",
                hint=f"Set it again (identitymesh secrets set {lacking[0]}), or go back: secrets migrate --back",
            )
        with self._rows.write() as transaction:
            self.row = replace(self.row, purge=purge)
            self._move(transaction, SCRUB)
            transaction.set_draining(None)
            self.audit(transaction, "scrub", purge=purge)

    def take_away(self, state: str, provider: Provider) -> None:
        """Delete everything of this installation at a provider that is not in use, and end the migration."""
        if self.row.state != state:
            with self._rows.write() as transaction:
                self._move(transaction, state)
                self.audit(transaction, state)
        refs = self._left(provider)
        total, done = len(refs), 0
        for start in range(0, total, BATCH):
            batch = refs[start : start + BATCH]
            self._progress("deleting", provider.name, done, total)
            changes = self._delete(provider, batch)
            with self._rows.write() as transaction:
                self._move(transaction, state)
                transaction.lock_ledger_whole()
                kept = _of_the_application(transaction.ledger(batch))  # one may be stored there since we looked
                for ref, change in zip(batch, changes, strict=True):
                    if ref not in kept:
                        change.record(transaction)
                transaction.forget_items(transaction.items(batch))
            done += len(batch)
        self._progress("deleting", provider.name, done, total)
        with self._rows.write() as transaction:
            if not transaction.delete_migration(self.row):
                raise lost(self.row)
            self.audit(transaction, "done", deleted=total)

    def _left(self, provider: Provider) -> Sequence[str]:
        with self._rows.read() as view:
            copied = {item.ref for item in view.items()}
            ledger = view.ledger()
        listed: Collection[str] = provider.list(self._rows)
        if not provider.remote:  # the database keeps those of the application besides
            listed = [ref for ref in listed if ref in ledger]
        return sorted((copied | set(listed)) - _of_the_application(ledger))

    def _delete(self, provider: Provider, refs: Sequence[str]) -> Sequence[Change]:
        def one(ref: str) -> Change:
            self._sides.pace.wait()
            return provider.delete(SecretReference(ref), purge=self.row.purge)

        if not provider.remote:
            return [one(ref) for ref in refs]
        with ThreadPoolExecutor(self._sides.workers) as pool:
            return list(pool.map(one, refs))

    # What they share

    def audit(self, transaction: MigrationTransaction, step: str, **more: object) -> None:
        payload: dict[str, object] = {"from": self.row.source, "to": self.row.target, "step": step, **more}
        transaction.audit([Record("secret.migrate", self.row.target, self._actor, payload=payload)])

    def _move(self, transaction: MigrationTransaction, state: str) -> None:
        now = self._clock()
        moved = replace(self.row, state=state, changed=now, until=now + LEASE)
        if not transaction.move_migration(moved, before=self.row):
            raise lost(self.row)
        self.row = moved

    def _step(self, state: str) -> None:
        with self._rows.write() as transaction:
            self._move(transaction, state)


def _of_the_application(ledger: Mapping[str, LedgerRow]) -> set[str]:
    """The database keeps these, whatever the provider of the others is."""
    return {ref for ref, row in ledger.items() if row.keyring == APPLICATION}


def _batches(needs: Sequence[Need]) -> Iterator[Sequence[Need]]:
    """So many at a time, all versions of one ref together."""
    batch: list[Need] = []
    for _ref, group in groupby(needs, key=lambda need: need.ref):
        batch += group
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
