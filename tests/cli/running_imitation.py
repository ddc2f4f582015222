"""What runs by itself, imitated: answers records made by hand."""
# ruff: noqa: ARG002 - an imitation takes what the real one takes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from identitymesh.errors import UsageError
from identitymesh.runs.health import ConnectorHealth, LogEntry, ObjectHealth
from identitymesh.runs.timetable import Asked, Overview, ScheduleView
from identitymesh.storage.audit_log import AuditEntry, AuditWish
from identitymesh.storage.history import Pruned

START = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
NIGHTLY = ScheduleView(
    connector="hr",
    mode="full",
    expression="0 2 * * *",
    timezone="Europe/Berlin",
    state="waiting",
    due_at=START + timedelta(hours=17),
    last_started=START,
    last_ended=START + timedelta(seconds=3),
    last_run=7,
    last_state="done",
)
FAILED = LogEntry(7, START, "export", "full", "", "3 create", "unreachable", "no answer from crm", "Start it.")


@dataclass
class FakeTimetable:
    answer: Overview = field(default_factory=lambda: Overview([NIGHTLY], 1, ""))
    calls: list[tuple[str, list[str]]] = field(default_factory=list)

    def overview(self) -> Overview:
        return self.answer

    def pause(self, connectors: Sequence[str]) -> Sequence[str]:
        self.calls.append(("pause", list(connectors)))
        return connectors or ["*"]

    def resume(self, connectors: Sequence[str]) -> Sequence[str]:
        self.calls.append(("resume", list(connectors)))
        return connectors or ["*"]

    def ask(self, connector: str, *, delta: bool) -> Asked:
        self.calls.append(("ask", [connector, "delta" if delta else "full"]))
        return Asked(connector, "delta" if delta else "full", self.answer.services, self.answer.halted)


@dataclass
class FakeHealth:
    last_error: LogEntry | None = None
    entries: Sequence[LogEntry] = (FAILED,)

    def every(self) -> Sequence[ConnectorHealth]:
        return [self.show("hr")]

    def show(self, name: str) -> ConnectorHealth:
        if name != "hr":
            raise UsageError(f"no connector {name}", hint="There are: hr.")
        objects = [ObjectHealth("user", START, 7, 1000, 0, "")]
        return ConnectorHealth(
            "hr", "sql", objects, ["db.example.org:5432"], [NIGHTLY], START, NIGHTLY.due_at, self.last_error
        )

    def log(self, name: str, limit: int) -> Sequence[LogEntry]:
        return self.entries[:limit]


class FakeHistory:
    def prune(self, *, dry_run: bool = False) -> Pruned:
        return Pruned(3, START)


@dataclass
class FakeAudit:
    wishes: list[AuditWish] = field(default_factory=list)

    def list(self, wish: AuditWish) -> Sequence[AuditEntry]:
        self.wishes.append(wish)
        details = {"connector": "hr", "rule": "hr-mail"}
        one = AuditEntry(12, START, "ada@host", "identity.change", "1", "done", "7", "100001", ["mail"], details)
        return [one]


@dataclass
class FakeRunning:
    timetable: FakeTimetable = field(default_factory=FakeTimetable)
    health: FakeHealth = field(default_factory=FakeHealth)
    history: FakeHistory = field(default_factory=FakeHistory)
    audit: FakeAudit = field(default_factory=FakeAudit)
