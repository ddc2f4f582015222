"""How each connector is: its last complete import, what went wrong last, in words, and when it runs next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import UsageError
from identitymesh.runs.contract import MeshStore, PlanStore, RunStore
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.recording import report
from identitymesh.runs.reports import ExportReport, ImportReport, RunReport
from identitymesh.runs.timetable import ScheduleView, Timetable

LOOKED_AT: Final = 20  # runs of a connector that are looked through for what happened last


@dataclass(frozen=True, slots=True)
class ObjectHealth:
    """One object class: when all of it was read last, and how many there were."""

    object: str
    complete_at: datetime | None
    complete_run: int | None
    objects: int | None
    held_absences: int
    held_reason: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What one run did with a connector. ``done`` in words; ``error`` is empty when all went well."""

    run_id: int
    at: datetime
    activity: str  # import | export
    mode: str
    object: str
    done: str
    error_code: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ConnectorHealth:
    """One connector. ``last_error`` is what went wrong last, unless it went well since."""

    name: str
    type: str
    objects: Sequence[ObjectHealth]
    endpoints: Sequence[str]
    schedules: Sequence[ScheduleView]
    last_complete: datetime | None
    next_run: datetime | None
    last_error: LogEntry | None


class Health:
    """The connectors of the definition in force."""

    def __init__(
        self, mesh: MeshStore, runs: RunStore, plans: PlanStore, definitions: Definitions, timetable: Timetable
    ) -> None:
        self._mesh = mesh
        self._runs = runs
        self._plans = plans
        self._definitions = definitions
        self._timetable = timetable

    def every(self) -> Sequence[ConnectorHealth]:
        """All of them; none before the first definition."""
        if self._definitions.stored() is None:
            return []
        connectors = self._definitions.current().definition.connectors
        views = self._timetable.overview().schedules
        return [self._health(one, views) for one in connectors.values()]

    def show(self, name: str) -> ConnectorHealth:
        """One connector. Raises ``UsageError`` when there is none of this name."""
        for one in self.every():
            if one.name == name:
                return one
        raise self._unknown(name)

    def log(self, name: str, limit: int) -> Sequence[LogEntry]:
        """What runs did with one connector, newest first. Raises ``UsageError``."""
        if name not in self._definitions.current().definition.connectors:
            raise self._unknown(name)
        return [one for told in self._history(name, limit) for one in entries(told, name)][:limit]

    def _unknown(self, name: str) -> UsageError:
        stored = self._definitions.stored()
        known = self._definitions.current().definition.connectors if stored else {}
        return UsageError(f"no connector {name}", hint=f"There are: {', '.join(known) or 'none yet'}.")

    def _history(self, connector: str, limit: int) -> list[RunReport]:
        found = self._runs.latest(limit, connector=connector)
        return [report(one, self._runs, self._plans, issues=0) for one in found]

    def _health(self, connector: ConnectorDefinition, views: Sequence[ScheduleView]) -> ConnectorHealth:
        objects = [self._object(connector.name, one) for one in connector.objects]
        own = [one for one in views if one.connector == connector.name]
        complete = [one.complete_at for one in objects]
        return ConnectorHealth(
            name=connector.name,
            type=connector.kind.name,
            objects=objects,
            endpoints=connector.endpoints,
            schedules=own,
            last_complete=min(complete) if complete and None not in complete else None,  # type: ignore[type-var]  # no None
            next_run=min((one.due_at for one in own if one.due_at is not None), default=None),
            last_error=_last_error(connector.name, self._history(connector.name, LOOKED_AT)),
        )

    def _object(self, connector: str, object_class: str) -> ObjectHealth:
        state = self._mesh.import_state(connector, object_class)
        if state is None:
            return ObjectHealth(object_class, None, None, None, 0, "")
        return ObjectHealth(
            object_class,
            state.complete_at,
            state.complete_run,
            state.objects,
            state.held_absences,
            state.held_reason or "",
        )


def _last_error(connector: str, history: Sequence[RunReport]) -> LogEntry | None:
    """The newest error of each kind of work that nothing went well after; of those the newest."""
    settled: set[tuple[str, str]] = set()
    for told in history:
        for one in entries(told, connector):
            place = (one.activity, one.object)
            if one.error and place not in settled:
                return one
            settled.add(place)
    return None


def entries(told: RunReport, connector: str) -> Iterator[LogEntry]:
    """What one run did with one connector, the last first."""
    for one in told.exports:
        if one.connector == connector:
            yield _exported(told, one)
    for read in told.imports:
        if read.connector == connector:
            yield _imported(told, read)


def _imported(told: RunReport, one: ImportReport) -> LogEntry:
    counts = {"added": one.added, "changed": one.changed, "removed": one.removed, "bad": one.bad}
    more = "".join(f", {number:,} {name}" for name, number in counts.items() if number)
    held = f"; {one.held_absences:,} absences held: {one.held_reason}" if one.held_absences else ""
    done = f"{one.read:,} read{more}{held}"
    return LogEntry(
        told.run_id, told.started_at, "import", one.mode, one.object, done, one.error_code, one.error, one.hint
    )


def _exported(told: RunReport, one: ExportReport) -> LogEntry:
    counts = {**one.done, "stale": one.stale, "parked": one.parked, "left": one.left}
    done = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "nothing"
    return LogEntry(told.run_id, told.started_at, "export", told.mode, "", done, one.error_code, one.error, one.hint)
