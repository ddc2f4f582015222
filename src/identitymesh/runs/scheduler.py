"""Decides what starts: keeps the times of the definition's schedules, takes what is due by its lease, settles it.

One due moment is carried out once. Whoever starts it holds the lease ``schedule:CONNECTOR``; its run bears the name of
the moment, and the database takes no second run of that name, unless the first was killed. So a service that is killed
at any point, a second one beside it, or a clock that steps back change when something runs, and never how often.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identitymesh.definition.schedules import Schedule
from identitymesh.errors import Busy, MeshError, RowConflict
from identitymesh.lease import MESH, Lease
from identitymesh.runs.contract import LeaseStore
from identitymesh.runs.keeping import kept
from identitymesh.runs.schedules import Due, End, Entry, Executor, Outcome, ScheduleStore, Times

TRIES: Final = 3
AGAIN: Final = timedelta(seconds=5)  # after something that holds the mesh, and between tries
STEP_BACK: Final = timedelta(days=1)  # a moment that was carried out further ahead than this was a wrong clock's

_NOT_NOW: Final = frozenset({"busy", "due-done", "paused"})

_log = logging.getLogger("identitymesh.scheduler")

Plan = tuple[Sequence[Schedule], frozenset[str]]  # what is due by itself, and all connectors that there are


@dataclass(slots=True)
class _Started:
    """A due run on its way. ``covered``: was due as well, and is done with it; ``taken``: when, by the clock that made
    it due.
    """

    entry: Entry
    covered: Entry | None
    name: str
    taken: datetime
    lease: Lease
    holding: ExitStack


class Scheduler:
    """Call :meth:`tick` about once in a second, from one thread. Nothing here sleeps or reads a clock of its own."""

    def __init__(
        self,
        store: ScheduleStore,
        leases: LeaseStore,
        executor: Executor,
        plan: Callable[[], Plan | None],
        *,
        clock: Callable[[], datetime],
        stagger: timedelta,
    ) -> None:
        self._store = store
        self._leases = leases
        self._executor = executor
        self._plan = plan
        self._clock = clock
        self._stagger = stagger
        self._started: dict[str, _Started] = {}
        self._schedules: dict[tuple[str, str], Schedule] = {}
        self._halted = ""

    def tick(self) -> None:
        """Settle what ended, follow the definition, start what is due.

        Raises:
            StorageError: the database did not answer; nothing is lost, the next tick carries on.
        """
        self._settle(self._executor.ended())
        self._follow()
        self._start_due()

    def stop(self, patience: float) -> None:
        """Let what runs end within ``patience`` seconds, end what does not, and give the leases back."""
        try:
            self._settle(self._executor.stop(patience))
        finally:
            for one in self._started.values():
                one.holding.close()
            self._started.clear()

    # -- following the definition ------------------------------------------------

    def _follow(self) -> None:
        """Rows for the schedules there are; what waits to be carried out stays due."""
        plan = self._plan()
        if plan is None:  # no definition, or none that this host can read: the rows stay as they are
            return
        schedules, connectors = plan
        self._schedules = {(one.connector, one.mode): one for one in schedules}
        now = self._clock()
        rows = {one.key: one for one in self._store.entries()}
        changed: dict[tuple[str, str], Times] = {}
        for key, schedule in self._schedules.items():
            times = self._times(schedule, rows.get(key), now)
            if times is not None:
                changed[key] = times
        gone = []
        for key, row in rows.items():
            if key[0] not in connectors and key not in self._schedules:
                gone.append(key)
            elif key not in self._schedules and row.expression is not None:
                changed[key] = Times()
        if changed or gone:
            with suppress(RowConflict):  # another service has just written the same
                self._store.put_times(changed, gone)

    def _times(self, schedule: Schedule, row: Entry | None, now: datetime) -> Times | None:
        """The times to store for a schedule; ``None``: those that are stored are right."""
        expression = f"{schedule.zone} {schedule.expression}"
        if row is None or row.nominal is None:
            return self._next(schedule, row, now)
        if row.nominal <= now:  # due, or about to be
            return None if row.expression == expression else Times(expression, row.nominal, row.due_at)
        expected = self._next(schedule, row, now)
        if row.expression != expression:
            return expected
        # Nothing can be due later than the next moment, unless the clock was set back.
        return expected if expected.nominal is not None and row.nominal > expected.nominal else None

    def _next(self, schedule: Schedule, row: Entry | None, now: datetime) -> Times:
        last = row.last_due if row is not None else None
        floor = max(now, last) if last is not None and last - now <= STEP_BACK else now
        nominal = schedule.after(floor)
        due_at = nominal + schedule.stagger(nominal, self._stagger)
        return Times(f"{schedule.zone} {schedule.expression}", nominal, due_at)

    # -- starting ----------------------------------------------------------------

    def _start_due(self) -> None:
        halted = self._store.halted()
        if halted != self._halted:
            _log.warning("nothing starts" if halted else "runs may start again", extra={"reason": halted or "resumed"})
            self._halted = halted
        if halted:
            return
        now = self._clock()
        entries = [(since, one) for one in self._store.entries() if (since := one.since(now)) is not None]
        complete = {one.connector for _, one in entries if one.mode == "full"}
        covered = {one.connector: one for _, one in entries if one.mode == "delta" and one.connector in complete}
        free = any(one.mode != "housekeeping" for _, one in entries) and self._mesh_is_free()
        for _, entry in sorted(entries, key=lambda pair: (pair[0], pair[1].key)):
            if not self._executor.room():
                return
            if entry in covered.values():
                continue  # the complete run reads what changed as well
            if any(one.entry.connector == entry.connector for one in self._started.values()):
                continue
            if entry.mode == "housekeeping":
                self._take(entry, None, now)
            elif free:
                free = not self._take(entry, covered.get(entry.connector), now)

    def _mesh_is_free(self) -> bool:
        """Whether a run would begin at once: no other is importing, and none of ours is about to."""
        for name, one in self._started.items():
            if one.entry.mode != "housekeeping" and self._store.run_of(name) is None:
                return False
        return not self._leases.held(MESH)

    def _take(self, entry: Entry, covered: Entry | None, now: datetime) -> bool:
        """Carry it out, if nobody else does; whether it was started."""
        name = entry.name(now)
        try:
            lease = self._leases.acquire(f"schedule:{entry.connector}", f"the due run {name}")
        except Busy:  # another service carries it out
            return False
        with ExitStack() as holding:
            holding.enter_context(kept(self._leases, lease))
            started = _Started(entry, covered, name, now, lease, holding)
            done = self._store.run_of(name)
            if done is not None and done.state != "running":
                # Its service could not say so. What was asked for besides may have come after it had ended.
                asked_at = None if entry.by_clock(now) else entry.asked_at
                ended = replace(started, entry=replace(entry, asked_at=asked_at), covered=None)
                self._end(ended, Outcome(done.state))
                return False
            if done is not None and self._leases.held(f"run:{done.id}"):
                return False  # its service was killed, but its process lives on for the moment
            if not self._store.begin(entry, lease, now):
                return False
            try:
                self._executor.start(Due(entry.connector, entry.mode, name))
            except OSError as error:
                self._end(started, Outcome("died", error=f"no process could be started ({type(error).__name__})"))
                return False
            _log.info("due run started", extra={"due": name})
            started.holding = holding.pop_all()
            self._started[name] = started
        return True

    # -- settling ----------------------------------------------------------------

    def _settle(self, ended: Mapping[str, Outcome]) -> None:
        for name, outcome in ended.items():
            started = self._started.pop(name)
            with started.holding:
                try:
                    self._end(started, outcome)
                except MeshError as error:  # whoever takes it next finds the run recorded, and settles it
                    _log.warning("a due run could not be settled", extra={"due": name, "problem": error.message})

    def _end(self, started: _Started, outcome: Outcome) -> None:
        entry, lease = started.entry, started.lease
        now, run = self._clock(), self._store.run_of(started.name)
        tries = entry.tries + 1
        if outcome.stopped:
            self._store.postpone(entry, lease, now, counted=False, error="")
            told = "stopped; it stays due"
        elif run is not None and run.state != "running":
            self._finish(started, Outcome(run.state, error=run.error or ""), run.id)
            told = run.state
        elif outcome.code in _NOT_NOW:
            self._store.postpone(entry, lease, now + AGAIN, counted=False, error=outcome.error)
            told = f"{outcome.code}; it stays due"
        elif (outcome.state == "died" or outcome.retryable) and tries < TRIES:
            self._store.postpone(entry, lease, now + AGAIN * tries, counted=True, error=outcome.error)
            told = f"try {tries} of {TRIES} failed; it stays due"
        else:
            self._finish(started, replace(outcome, state="failed") if outcome.state == "died" else outcome, None)
            told = outcome.state
        fine = outcome.stopped or outcome.code in _NOT_NOW or told in {"done", "held"}
        about = {"due": started.name, "state": told, "problem": outcome.error or "-"}
        _log.log(logging.INFO if fine else logging.ERROR, "due run ended", extra=about)

    def _finish(self, started: _Started, outcome: Outcome, run: int | None) -> None:
        for entry in [started.entry, *([started.covered] if started.covered else [])]:
            last = entry.nominal if entry.by_clock(started.taken) else entry.last_due
            now = self._clock()
            end = End(outcome, run, self._times_after(entry, started.taken, now), now, last)
            self._store.settle(entry, started.lease, end)

    def _times_after(self, entry: Entry, taken: datetime, now: datetime) -> Times:
        """The next times after a due moment was carried out; one that only somebody asked for moves none."""
        schedule = self._schedules.get(entry.key)
        if schedule is None:
            return Times()
        if not entry.by_clock(taken):
            return Times(entry.expression, entry.nominal, entry.due_at)
        nominal = schedule.after(max(now, entry.nominal or now))
        due_at = nominal + schedule.stagger(nominal, self._stagger)
        return Times(f"{schedule.zone} {schedule.expression}", nominal, due_at)
