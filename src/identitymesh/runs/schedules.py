"""What is due and who carries it out: the records that pass between scheduler, storage and executor.

``Executor`` is narrow on purpose: today it is a few child processes of this service, later perhaps a queue that several
hosts share. It is told what is due by a scheduler that holds the lease of the connector, and says what came of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from identitymesh.definition.schedules import Mode, Schedule
from identitymesh.lease import Lease
from identitymesh.runs.contract import StoredRun

INSTALLATION: Final = "*"  # stands where a connector would: the installation itself
HOUSEKEEPING: Final = Schedule(INSTALLATION, "housekeeping", "17 3 * * *")


@dataclass(frozen=True, slots=True)
class Entry:
    """One schedule as stored. ``nominal`` is the next moment by its expression, ``due_at`` the same staggered;
    ``asked_at``: somebody wants it now; ``tries``: starts of what is due that came to no end.
    """

    connector: str
    mode: Mode
    expression: str | None = None
    nominal: datetime | None = None
    due_at: datetime | None = None
    asked_at: datetime | None = None
    asked_by: str | None = None
    tries: int = 0
    not_before: datetime | None = None
    last_due: datetime | None = None
    last_started: datetime | None = None
    last_ended: datetime | None = None
    last_run: int | None = None
    last_state: str | None = None
    last_error: str | None = None
    paused: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.connector, self.mode

    def by_clock(self, now: datetime) -> bool:
        """Whether its own time has come."""
        return self.nominal is not None and self.due_at is not None and self.due_at <= now and not self.paused

    def since(self, now: datetime) -> datetime | None:
        """Since when it is due at ``now``; ``None``: it is not."""
        if self.not_before is not None and self.not_before > now:
            return None
        moments = [self.asked_at, self.due_at if self.by_clock(now) else None]
        return min((one for one in moments if one is not None), default=None)

    def name(self, now: datetime) -> str:
        """What names this due run for ever: no two runs bear the same."""
        if self.by_clock(now):
            return f"{self.connector}/{self.mode}@{self.nominal:%Y-%m-%dT%H:%M}Z"
        return f"{self.connector}/{self.mode}@asked-{self.asked_at:%Y-%m-%dT%H:%M:%S.%f}Z"


@dataclass(frozen=True, slots=True)
class Times:
    """When a schedule is due next; all ``None``: only when somebody asks."""

    expression: str | None = None
    nominal: datetime | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """One due run that is to be carried out."""

    connector: str
    mode: Mode
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an executor says of a due run. ``stopped``: it was ended on purpose and is to be carried out again."""

    state: str  # as of a run; "died": its process ended without a word
    code: str = ""
    error: str = ""
    retryable: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How a due run is settled."""

    outcome: Outcome
    run: int | None
    times: Times
    at: datetime
    last_due: datetime | None


class Executor(Protocol):
    """Carries out due runs."""

    def room(self) -> bool:
        """Whether one more may be started."""

    def start(self, due: Due) -> None:
        """Begin with it. Raises ``OSError`` when that cannot be."""

    def ended(self) -> Mapping[str, Outcome]:
        """Those that ended since the last call, by name."""

    def stop(self, patience: float) -> Mapping[str, Outcome]:
        """Let them end within ``patience`` seconds, then end them; answers as ``ended`` does."""


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """One start of `serve`. ``ended_at`` is set when it stopped in order; ``dead``: its process is known to be gone."""

    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    dead: bool = False

    def living(self, now: datetime, patience: timedelta) -> bool:
        return self.ended_at is None and not self.dead and now - self.seen_at <= patience


class ScheduleStore(Protocol):
    """Schedules and services in the database."""

    def entries(self) -> Sequence[Entry]: ...
    def paused(self) -> Collection[str]:
        """Connectors that start no more by themselves; ``*``: all."""

    def halted(self) -> str:
        """Why nothing at all starts by itself, in words; empty when nothing is in the way."""

    def put_times(self, times: Mapping[tuple[str, str], Times], gone: Sequence[tuple[str, str]]) -> None: ...
    def begin(self, entry: Entry, lease: Lease, now: datetime) -> bool:
        """Count a try; ``False``: it is not as ``entry`` says any more, or was paused. Raises ``LeaseLost``."""

    def settle(self, entry: Entry, lease: Lease, end: End) -> None:
        """It came to its end; what was asked for by ``entry`` is done with. Raises ``LeaseLost``."""

    def postpone(self, entry: Entry, lease: Lease, until: datetime, *, counted: bool, error: str) -> None:
        """It is still due. Raises ``LeaseLost``."""

    def run_of(self, name: str) -> StoredRun | None:
        """The run that carries out this due moment, or did; not one that was abandoned or stopped."""

    def seen(self, now: datetime) -> None:
        """This service lives."""

    def gone(self, now: datetime) -> None:
        """This service stops in order."""

    def services(self) -> Sequence[ServiceSeen]: ...
