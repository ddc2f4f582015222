"""Builds what runs by itself: the service, and the one due run that a child of it carries out."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from identitymesh.definition.schedules import schedules
from identitymesh.errors import MeshError
from identitymesh.runs.cycle import Parts
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.engine import Engine
from identitymesh.runs.executor import Children
from identitymesh.runs.health import Health
from identitymesh.runs.scheduler import Plan, Scheduler
from identitymesh.runs.schedules import HOUSEKEEPING, Outcome
from identitymesh.runs.service import Service, notifier
from identitymesh.runs.timetable import Timetable
from identitymesh.secrets.process import child_environment
from identitymesh.settings import NOTIFY_SOCKET, Settings
from identitymesh.storage.audit_log import AuditLog
from identitymesh.storage.database import Database
from identitymesh.storage.history import History
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.schedules import SqlSchedules

CHILD: Final = (
    sys.executable,
    "-P",
    "-m",
    "identitymesh.child",
)  # -P: the current folder is no place to load code from


@dataclass(frozen=True, slots=True)
class Running:
    """What runs by itself, and what is known of it; fits the protocol of ``cli/running.py``."""

    leases: SqlLeases
    schedules: SqlSchedules
    definitions: Definitions
    timetable: Timetable
    health: Health
    history: History
    audit: AuditLog


def running(settings: Settings, database: Database, parts: Parts, definitions: Definitions) -> Running:
    leases = SqlLeases(database)
    schedules = SqlSchedules(database, holder=leases.holder)
    timetable = Timetable(schedules, leases, definitions, actor=parts.actor, clock=parts.clock)
    return Running(
        leases=leases,
        schedules=schedules,
        definitions=definitions,
        timetable=timetable,
        health=Health(parts.mesh, parts.runs, parts.plans, definitions, timetable),
        history=History(database, keep=timedelta(days=settings.history.days)),
        audit=AuditLog(database),
    )


class Installation(Protocol):
    """What is needed of an opened installation."""

    @property
    def settings(self) -> Settings: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def running(self) -> Running: ...
    @property
    def findings(self) -> Sequence[str]: ...


class Planned:
    """What is due by itself, by the definition in force; ``None`` while this host cannot read that."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._version = -1
        self._plan: Plan | None = None

    def __call__(self) -> Plan | None:
        stored = self._definitions.stored()
        version = stored.version if stored is not None else 0
        if version != self._version:
            self._plan = self._read(version)
            self._version = version
        return self._plan

    def _read(self, version: int) -> Plan | None:
        if version == 0:
            return [HOUSEKEEPING], frozenset()
        try:
            definition = self._definitions.current().definition
        except MeshError as error:
            about = {"version": version, "problem": error.message}
            logging.getLogger("identitymesh.service").error("the definition cannot be read here", extra=about)  # noqa: TRY400 - a refusal in words
            return None
        return [*schedules(definition), HOUSEKEEPING], frozenset(definition.connectors)


def service(installation: Installation) -> Service:
    """The service of an opened installation."""
    settings, parts = installation.settings, installation.running
    environment = {name: value for name, value in os.environ.items() if name != NOTIFY_SOCKET}
    children = Children(
        CHILD,
        {**environment, "PYTHONPATH": child_environment()["PYTHONPATH"]},
        settings.folder,
        places=settings.schedule.at_once,
    )
    stagger = timedelta(seconds=settings.schedule.stagger_seconds)
    plan = Planned(parts.definitions)
    scheduler = Scheduler(parts.schedules, parts.leases, children, plan, clock=_now, stagger=stagger)
    notify, patience = notifier(settings.notify_socket), settings.schedule.stop_seconds
    return Service(scheduler, parts.schedules, clock=_now, notify=notify, patience=patience)


def serve(installation: Installation, stop: threading.Event) -> None:
    """Serve until ``stop`` is set."""
    for finding in installation.findings:
        logging.getLogger("identitymesh.service").warning("finding", extra={"problem": finding})
    service(installation).run(stop)


def carry_out(
    opened: Callable[[], AbstractContextManager[Installation]], connector: str, mode: str, due: str
) -> Outcome:
    """One due run, in the process that is there for it alone. Whatever happens comes back in words."""
    try:
        with opened() as installation:
            if mode == HOUSEKEEPING.mode:
                installation.running.history.prune()
                return Outcome("done")
            report = installation.engine.scheduled(connector, delta=mode == "delta", due=due, progress=_silent)
            return Outcome(report.state, report.error_code, report.error)
    except KeyboardInterrupt:
        return Outcome("", stopped=True)
    except MeshError as error:
        return Outcome("failed", error.code, error.message, retryable=error.retryable)
    except Exception as error:  # noqa: BLE001 - where what nobody foresaw ends; its message could hold a value
        return Outcome("failed", "unforeseen", f"unforeseen {type(error).__name__}; this is a fault of Identity Mesh")


def _now() -> datetime:
    return datetime.now(UTC)


def _silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Nobody watches."""
