"""What people see of schedules and say to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from identitymesh.definition.schedules import Schedule, schedules
from identitymesh.errors import UsageError
from identitymesh.runs.contract import LeaseStore
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.schedules import INSTALLATION, Entry, ScheduleStore

OVERDUE: Final = timedelta(minutes=10)  # what is due longer than this is not being looked after
SILENT: Final = timedelta(minutes=1)  # a service that was not seen for longer is gone

State = Literal["waiting", "due", "running", "paused", "none"]


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """One schedule. ``due_at`` is when it begins, staggered; ``state`` none: only when somebody asks for it."""

    connector: str
    mode: str
    expression: str
    timezone: str
    state: State
    due_at: datetime | None
    asked_by: str | None = None
    last_started: datetime | None = None
    last_ended: datetime | None = None
    last_run: int | None = None
    last_state: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """All schedules; ``halted``: why none of them starts, ``services``: how many look after them now."""

    schedules: Sequence[ScheduleView]
    services: int
    halted: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that somebody asked for. ``services``: how many are there to carry it out."""

    connector: str
    mode: str
    services: int
    halted: str


class ScheduleDesk(ScheduleStore, Protocol):
    """The store, with what people do."""

    def ask(self, connector: str, mode: str, actor: str, now: datetime) -> None: ...
    def pause(self, connectors: Sequence[str], actor: str, now: datetime) -> list[str]: ...
    def resume(self, connectors: Sequence[str], actor: str) -> list[str]: ...


class Timetable:
    """The schedules of one installation."""

    def __init__(
        self,
        store: ScheduleDesk,
        leases: LeaseStore,
        definitions: Definitions,
        *,
        actor: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._leases = leases
        self._definitions = definitions
        self._actor = actor
        self._clock = clock

    def overview(self) -> Overview:
        """Those of the definition in force, and what was asked for beside them."""
        now = self._clock()
        entries = {one.key: one for one in self._store.entries()}
        planned = {(one.connector, one.mode): one for one in self._planned()}
        halted, paused = self._store.halted(), self._store.paused()
        views = []
        for key in [*planned, *(key for key in entries if key not in planned and key[0] != INSTALLATION)]:
            entry, schedule = entries.get(key, Entry(*key, paused=key[0] in paused)), planned.get(key)  # type: ignore[arg-type]  # as stored
            views.append(
                ScheduleView(
                    connector=entry.connector,
                    mode=entry.mode,
                    expression=schedule.expression if schedule else "",
                    timezone=schedule.zone if schedule else "",
                    state=self._state(entry, now, planned=schedule is not None),
                    due_at=entry.due_at,
                    asked_by=entry.asked_by,
                    last_started=entry.last_started,
                    last_ended=entry.last_ended,
                    last_run=entry.last_run,
                    last_state=entry.last_state,
                    last_error=entry.last_error,
                )
            )
        return Overview(views, self._living(now), halted)

    def _planned(self) -> Sequence[Schedule]:
        if self._definitions.stored() is None:
            return []
        return [*schedules(self._definitions.current().definition)]

    def _state(self, entry: Entry, now: datetime, *, planned: bool) -> State:
        started = entry.last_started is not None and (entry.last_ended is None or entry.last_ended < entry.last_started)
        if started and self._leases.held(f"schedule:{entry.connector}"):
            return "running"
        if entry.asked_at is not None or entry.by_clock(now):
            return "due"
        if entry.paused:
            return "paused"
        return "waiting" if planned else "none"

    def _living(self, now: datetime) -> int:
        return sum(one.living(now, SILENT) for one in self._store.services())

    def pause(self, connectors: Sequence[str]) -> Sequence[str]:
        """Let nothing of these start by itself, or of any; answers those that were not paused yet."""
        return self._store.pause(self._named(connectors), self._actor, self._clock())

    def resume(self, connectors: Sequence[str]) -> Sequence[str]:
        """Let them start again: what they missed once, and then at their times. Answers those that were paused."""
        return self._store.resume(self._named(connectors), self._actor)

    def ask(self, connector: str, *, delta: bool) -> Asked:
        """Have a connector run as soon as a service gets to it."""
        self._named([connector])
        mode = "delta" if delta else "full"
        self._store.ask(connector, mode, self._actor, self._clock())
        return Asked(connector, mode, self._living(self._clock()), self._store.halted())

    def _named(self, connectors: Sequence[str]) -> Sequence[str]:
        if not connectors:
            return [INSTALLATION]
        known = self._definitions.current().definition.connectors
        for name in connectors:
            if name not in known:
                raise UsageError(f"no connector {name}", hint=f"There are: {', '.join(known)}.")
        return connectors
