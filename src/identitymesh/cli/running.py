"""What the commands around schedules, services and history need, said by the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from identitymesh.runs.health import ConnectorHealth, LogEntry
    from identitymesh.runs.timetable import Asked, Overview
    from identitymesh.storage.audit_log import AuditEntry, AuditWish
    from identitymesh.storage.history import Pruned


class TimetableCommands(Protocol):
    """Schedules, see :mod:`identitymesh.runs.timetable`."""

    def overview(self) -> Overview: ...
    def pause(self, connectors: Sequence[str]) -> Sequence[str]: ...
    def resume(self, connectors: Sequence[str]) -> Sequence[str]: ...
    def ask(self, connector: str, *, delta: bool) -> Asked: ...


class HealthCommands(Protocol):
    """Connectors, see :mod:`identitymesh.runs.health`."""

    def every(self) -> Sequence[ConnectorHealth]: ...
    def show(self, name: str) -> ConnectorHealth: ...
    def log(self, name: str, limit: int) -> Sequence[LogEntry]: ...


class HistoryCommands(Protocol):
    """Runs that are over, see :mod:`identitymesh.storage.history`."""

    def prune(self, *, dry_run: bool = False) -> Pruned: ...


class AuditCommands(Protocol):
    """The audit trail, see :mod:`identitymesh.storage.audit_log`."""

    def list(self, wish: AuditWish) -> Sequence[AuditEntry]: ...


class RunningCommands(Protocol):
    """What runs by itself, and what is known of it."""

    @property
    def timetable(self) -> TimetableCommands: ...
    @property
    def health(self) -> HealthCommands: ...
    @property
    def history(self) -> HistoryCommands: ...
    @property
    def audit(self) -> AuditCommands: ...
