"""What can be done to a run and to the world around it. Each begins when the run waits, and is over when it ended."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.installation.services import exists

from .estate import Estate
from .gate import Waiting
from .plans import Plan

MOMENT = 0.7  # seconds: longer than a call takes, shorter than anybody's patience
SLOW = 0.02  # seconds for each piece that passes
MEGABYTE = b"x" * (1 << 20)


@dataclass(slots=True)
class Scene:
    """What a disturbance works with. ``meanwhile``: what other processes said that it had run."""

    plan: Plan
    estate: Estate
    waiting: Waiting
    services: list[int]
    run: Callable[..., Any]
    orders: dict[str, Any] = field(default_factory=dict)
    meanwhile: list[Any] = field(default_factory=list)

    @property
    def line(self) -> Any:
        return self.estate.servers.lines[self.plan.whom]


Disturbance = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def _nothing(_scene: Scene) -> Iterator[None]:
    yield


@contextmanager
def _kill(scene: Scene) -> Iterator[None]:
    """Whoever waits."""
    os.kill(scene.waiting.pid, signal.SIGKILL)
    _gone(scene.waiting.pid)
    yield


@contextmanager
def _kill_both(scene: Scene) -> Iterator[None]:
    """The service, whose worker is alone for the moment that it takes it to notice."""
    for pid in scene.services:
        os.kill(pid, signal.SIGKILL)
        _gone(pid)
    _gone(scene.waiting.pid)
    yield


def _gone(pid: int) -> None:
    while exists(pid):
        time.sleep(0.01)


@contextmanager
def _frozen(scene: Scene) -> Iterator[None]:
    """It stands still for longer than its lease lives; another carries on, and then it wakes up."""
    os.kill(scene.waiting.pid, signal.SIGSTOP)
    scene.waiting.go()
    scene.meanwhile.append(scene.run(["full"], lease=LEASE))
    os.kill(scene.waiting.pid, signal.SIGCONT)
    yield


@contextmanager
def _second_run(scene: Scene) -> Iterator[None]:
    """Somebody starts another one while the first is on its way; it may be told to wait for it, and that is all."""
    pid = scene.run.start(["full"])  # type: ignore[attr-defined]
    time.sleep(MOMENT)
    scene.waiting.go()
    scene.meanwhile.append(scene.run.collect(pid))  # type: ignore[attr-defined]
    yield


LEASE = 3.0  # seconds, where a test waits for one to run out


# -- servers ---------------------------------------------------------------------------


def _server(scene: Scene) -> Any:
    return getattr(scene.estate.servers, scene.plan.whom)


def _started(scene: Scene) -> None:
    if scene.plan.whom == "crm":
        scene.estate.servers.crm.start()
    else:
        _server(scene).process.start(_server(scene)._answers)


def _stopped(scene: Scene) -> None:
    if scene.plan.whom == "crm":
        scene.estate.servers.crm.stop()
    else:
        _server(scene).process.stop()


@contextmanager
def _restart(scene: Scene) -> Iterator[None]:
    _stopped(scene)
    _started(scene)
    yield


@contextmanager
def _crash(scene: Scene) -> Iterator[None]:
    """Killed, and started again."""
    _server(scene).process.kill()
    _started(scene)
    yield


@contextmanager
def _down(scene: Scene) -> Iterator[None]:
    """Until the run is over."""
    _stopped(scene)
    yield
    _started(scene)


@contextmanager
def _connections_ended(scene: Scene) -> Iterator[None]:
    with scene.estate.servers.postgres.database().connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mesh'")
    yield


# What a change looks like on the line: HTTP, SQL, or an LDAP message whose operation is one (RFC 4511 section 4.2).
_CHANGE = re.compile(
    rb"^(PATCH|PUT|POST|DELETE) /|UPDATE|INSERT|DELETE FROM"
    rb"|^\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02(?:\x01.|\x02..)[\x66\x68\x6c\x4a]",
    re.DOTALL,
)


# -- lines -----------------------------------------------------------------------------


@contextmanager
def _cut(scene: Scene) -> Iterator[None]:
    scene.line.cut()
    yield
    scene.line.open()


@contextmanager
def _hiccup(scene: Scene) -> Iterator[None]:
    scene.line.cut()
    time.sleep(0.15)  # the proxy looks twenty times in a second
    scene.line.open()
    yield


@contextmanager
def _stall(scene: Scene) -> Iterator[None]:
    scene.line.stall()
    yield
    scene.line.open()


@contextmanager
def _stall_for_a_moment(scene: Scene) -> Iterator[None]:
    scene.line.stall()
    timer = threading.Timer(MOMENT, scene.line.open)
    timer.start()
    yield
    timer.join()


@contextmanager
def _slow(scene: Scene) -> Iterator[None]:
    scene.line.slow(SLOW)
    yield
    scene.line.open()


@contextmanager
def _answer_lost(scene: Scene) -> Iterator[None]:
    scene.line.cut_at(lambda _: True, delivered=True, times=1)
    yield
    scene.line.open()


@contextmanager
def _answer_lost_for_good(scene: Scene) -> Iterator[None]:
    """One of the next few changes is carried out, and then nobody can ask what became of it until the run is over."""
    before = iter(range(int(scene.plan.place * 100) % 4))
    scene.line.cut_at(lambda piece: bool(_CHANGE.search(piece)) and next(before, None) is None, for_good=True)
    yield
    scene.line.open()


@contextmanager
def _request_lost(scene: Scene) -> Iterator[None]:
    scene.line.cut_at(lambda _: True, delivered=False, times=1)
    yield
    scene.line.open()


# -- what is under the product -----------------------------------------------------------


@contextmanager
def _full_disk(scene: Scene) -> Iterator[None]:
    """Not a page more: for SQLite on its file system, for PostgreSQL in the tablespace of its database."""
    ballast = scene.estate.disk / "ballast"
    if scene.estate.mounted:
        _fill(ballast)
    yield
    ballast.unlink(missing_ok=True)


def _fill(ballast: Path) -> None:
    """Until the disk says so: PostgreSQL takes pages meanwhile, so what is free cannot be counted before."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(MEGABYTE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


@contextmanager
def _locked(scene: Scene) -> Iterator[None]:
    """By somebody else: for a moment, or for as long as the run lives (then SQLite gives up, see ``busy``)."""
    if scene.estate.kind == "postgresql":
        with scene.estate.servers.postgres.database("mesh").connect(autocommit=False) as connection:
            connection.execute("SET lock_timeout = '300ms'")
            with suppress(psycopg.errors.LockNotAvailable):  # the run is just writing there, and waits for us
                connection.execute("LOCK TABLE identity, account, lease IN ACCESS EXCLUSIVE MODE")
            timer = threading.Timer(MOMENT, connection.rollback)
            timer.start()
            yield
            timer.join()
        return
    other = sqlite3.connect(
        scene.estate.folder / "identitymesh.db", isolation_level=None, check_same_thread=False, timeout=0
    )
    held = _exclusive(other)
    timer = threading.Timer(MOMENT, lambda: held and other.execute("ROLLBACK"))
    if not scene.plan.stays:
        timer.start()
    yield
    if scene.plan.stays and held:
        other.execute("ROLLBACK")
    if not scene.plan.stays:
        timer.join()
    other.close()


def _exclusive(connection: sqlite3.Connection) -> bool:
    """Whether it could be had: the run may be writing just now, and then it waits for us, holding the lock itself."""
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True


@contextmanager
def _clock(scene: Scene) -> Iterator[None]:
    scene.orders["clock"] = scene.plan.seconds
    yield


DISTURBANCES: Mapping[str, Disturbance] = {
    "kill": _kill,
    "kill both": _kill_both,
    "kill elsewhere": _kill,
    "frozen": _frozen,
    "second run": _second_run,
    "two services": _nothing,
    "two folders": _nothing,
    "restart": _restart,
    "crash": _crash,
    "down": _down,
    "connections ended": _connections_ended,
    "cut": _cut,
    "hiccup": _hiccup,
    "stall": _stall,
    "stall for a moment": _stall_for_a_moment,
    "slow": _slow,
    "answer lost": _answer_lost,
    "answer lost for good": _answer_lost_for_good,
    "request lost": _request_lost,
    "full disk": _full_disk,
    "locked": _locked,
    "clock": _clock,
}


def copied(folder: Path) -> Path:
    """The installation of another host, as far as one machine can have two: its own folder, its own files."""
    other = folder.with_name("other-folder")
    shutil.copytree(folder, other)
    return other
