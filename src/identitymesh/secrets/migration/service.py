"""Migrations as commands ask for them: from where one stands to the next state at which a person decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from identitymesh.errors import Busy, MigrationRefused, UsageError
from identitymesh.secrets.custody.station import Progress, unwatched
from identitymesh.secrets.migration.copying import Pace, Sides
from identitymesh.secrets.migration.needs import standing
from identitymesh.secrets.migration.planning import MigrationPlan, make_plan
from identitymesh.secrets.migration.state import (
    ABORT,
    COPY,
    DRAIN,
    LEASE,
    SCRUB,
    VERIFY,
    MigrationRow,
    MigrationRows,
    check_free,
    holder_of,
    lost,
)
from identitymesh.secrets.migration.work import MigrationReport, Work, report_of
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import installation

WORKERS = 16
DONE = "done"


class Migrations:
    """The migrations of one installation, one at a time.

    ``writes_per_second`` stands for what the target says of itself; 0 is as fast as it goes.
    """

    def __init__(
        self,
        rows: MigrationRows,
        store: SecretStore,
        *,
        actor: str,
        here: str,
        writes_per_second: float | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rows = rows
        self._store = store
        self._actor = actor
        self._here = here
        self._rate = writes_per_second
        self._clock = clock

    def status(self) -> MigrationReport | None:
        """The open migration, if any."""
        with self._rows.read() as view:
            row = view.migration()
            return None if row is None else report_of(row, standing(view, row))

    def plan(self, source: str, target: str, progress: Progress = unwatched) -> MigrationPlan:
        """What a migration would do and meet; writes to neither side.

        Raises:
            UsageError: the source is not what is in use, or both are one.
            ProviderError: one of the two is not set up, or does not answer.
        """
        with self._rows.read() as view:
            active = installation(view).provider
        if source == target:
            raise UsageError(f"both providers are {source}", hint="Name two: --from database --to openbao")
        if source != active:
            raise UsageError(f"the secrets are in {active}, not in {source}", hint=f"Say --from {active}.")
        return make_plan(self._sides(source, target), self._rate_of(target), progress)

    def run(self, source: str, target: str, progress: Progress = unwatched) -> MigrationReport:
        """Plan, copy, verify and cut over; or carry on with what was begun. Ends at ``drain``.

        Raises:
            Busy: another process is at it, or a migration between others is open.
            MigrationRefused: the plan found what stands in the way; nothing was changed.
            ProviderError: a provider stopped answering, or refused; the same command carries on.
        """
        found = self._find()
        if found is None:
            plan = self.plan(source, target, progress)
            if plan.problems:
                more = f" (and {len(plan.problems) - 1} more)" if len(plan.problems) > 1 else ""
                raise MigrationRefused(
                    f"the migration was not begun: {plan.problems[0]}{more}",
                    hint=f"See all: identitymesh secrets migrate --from {source} --to {target} --dry-run",
                )
        elif (found.source, found.target) != (source, target) or found.state in (SCRUB, ABORT):
            raise Busy(
                f"a migration from {found.source} to {found.target} is open, in the state {found.state}",
                hint=_way_on(found),
            )
        elif found.state == DRAIN:
            return self._report(found, resumed=True)
        return self._carry_over(found, source, target, progress)

    def abort(self, progress: Progress = unwatched) -> MigrationReport:
        """Give up before the cut over: what was copied is deleted at the target.

        Raises:
            UsageError: there is none, or it is too late for that.
        """
        found = self._open_one()
        if found.state not in (COPY, VERIFY, ABORT) or found.back:
            raise UsageError(
                f"the migration from {found.source} to {found.target} is past that: it is in the state {found.state}",
                hint=_way_on(found),
            )
        return self._take_away(found, ABORT, progress, purge=False)

    def back(self, progress: Progress = unwatched) -> MigrationReport:
        """After the cut over: bring everything back, with what was set since, and cut over to where it came from.

        Raises:
            UsageError: there is none, or it is not in a state from which it can go back.
        """
        found = self._open_one()
        if found.state == DRAIN or (found.back and found.state in (COPY, VERIFY)):
            return self._carry_over(found, found.source, found.target, progress, turn=found.state == DRAIN)
        raise UsageError(
            f"the migration from {found.source} to {found.target} cannot go back: it is in the state {found.state}",
            hint=_way_on(found),
        )

    def scrub(self, progress: Progress = unwatched, *, purge: bool = False) -> MigrationReport:
        """Empty the source; this ends the migration and cannot be taken back.

        Raises:
            UsageError: it is not past its cut over.
            Busy: runs that began before the cut over still use the source.
            MigrationRefused: the target has not everything that the ledger names.
        """
        found = self._open_one()
        if found.state not in (DRAIN, SCRUB):
            raise UsageError(
                f"the migration from {found.source} to {found.target} is not past its cut over", hint=_way_on(found)
            )
        return self._take_away(found, SCRUB, progress, purge=purge)

    # What they share

    def _carry_over(
        self, found: MigrationRow | None, source: str, target: str, progress: Progress, *, turn: bool = False
    ) -> MigrationReport:
        began = time.monotonic()
        if turn:
            source, target = target, source
        work = self._claim(found, source, target, progress)
        with work.held():
            if turn:
                work.turn_round()
            work.carry_over()
        return replace(self._report(work.row, resumed=found is not None and not turn), seconds=time.monotonic() - began)

    def _take_away(self, found: MigrationRow, state: str, progress: Progress, *, purge: bool) -> MigrationReport:
        began = time.monotonic()
        work = self._claim(found, found.source, found.target, progress)
        before = self._report(work.row, resumed=found.state == state)
        sides = self._sides(found.source, found.target)
        with work.held():
            if found.state == DRAIN:
                work.begin_scrub(purge=purge)
            work.take_away(state, sides.source if state == SCRUB else sides.target)
        return replace(before, state=DONE, seconds=time.monotonic() - began)

    def _claim(self, found: MigrationRow | None, source: str, target: str, progress: Progress) -> Work:
        now = self._clock()
        holder = holder_of(self._actor, self._here)
        row = MigrationRow(source, target, COPY, self._actor, now, now, holder, 1, now + LEASE)
        if found is not None:
            check_free(found, now, self._here)
            row = replace(found, holder=holder, fence=found.fence + 1, until=now + LEASE)
        work = Work(self._sides(source, target), row, self._actor, self._clock, progress)
        with self._rows.write() as transaction:
            if found is not None:
                if not transaction.move_migration(row, before=found):
                    raise lost(found)
            elif transaction.insert_migration(row):
                work.audit(transaction, "begin")
            else:
                raise Busy("another process has just begun a migration", hint="See it: identitymesh secrets migrate")
        return work

    def _sides(self, source: str, target: str) -> Sides:
        providers = self._store.providers
        pace = Pace(self._rate_of(target))
        return Sides(self._rows, self._store, providers.find(source), providers.find(target), pace, WORKERS)

    def _rate_of(self, target: str) -> float:
        return self._rate if self._rate is not None else self._store.providers.find(target).writes_per_second

    def _find(self) -> MigrationRow | None:
        with self._rows.read() as view:
            return view.migration()

    def _open_one(self) -> MigrationRow:
        found = self._find()
        if found is None:
            raise UsageError(
                "no migration of secrets is open",
                hint="Begin one: identitymesh secrets migrate --from database --to openbao",
            )
        return found

    def _report(self, row: MigrationRow, *, resumed: bool) -> MigrationReport:
        with self._rows.read() as view:
            stored = view.migration() or row
            return replace(report_of(stored, standing(view, stored)), resumed=resumed)


def _way_on(row: MigrationRow) -> str:
    """What can be done from here, for the hint of an error."""
    command = "identitymesh secrets migrate"
    if row.state == DRAIN:
        return f"End it: {command} --scrub. Or take it back: {command} --back"
    if row.state in (SCRUB, ABORT):
        return f"Let it end: {command} --{row.state}"
    if row.back:
        return f"Let it go back: {command} --back"
    return f"Carry it on: {command} --from {row.source} --to {row.target}. Or give it up: {command} --abort"
