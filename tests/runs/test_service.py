"""The service around the scheduler: signs of life, trouble with the database, children that are really processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identitymesh.errors import DatabaseUnreachable
from identitymesh.runs.executor import Children
from identitymesh.runs.schedules import Due, Outcome
from identitymesh.runs.service import BEAT, Service
from identitymesh.serving import carry_out

NOW = datetime(2026, 3, 2, tzinfo=UTC)


class Beats:
    """Stands for scheduler and store."""

    def __init__(self) -> None:
        self.failing: DatabaseUnreachable | None = None
        self.calls: list[str] = []
        self.told: list[str] = []
        self.pulse = 0.0

    def tick(self) -> None:
        self.calls.append("tick")
        if self.failing is not None:
            raise self.failing

    def stop(self, patience: float) -> None:
        self.calls.append(f"stop {patience}")
        if self.failing is not None:
            raise self.failing

    def seen(self, now: datetime) -> None:
        assert now == NOW
        self.calls.append("seen")

    def gone(self, now: datetime) -> None:
        assert now == NOW
        self.calls.append("gone")

    def service(self) -> Service:
        return Service(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            clock=lambda: NOW,
            notify=self.told.append,
            patience=3,
            pulse=lambda: self.pulse,
        )


def test_it_says_that_it_lives_every_ten_seconds_and_not_with_every_look() -> None:
    beats = Beats()
    service = beats.service()
    for second in range(25):
        beats.pulse = float(second)
        service.once()
    assert beats.calls.count("tick") == 25
    assert beats.calls.count("seen") == 25 // BEAT + 1
    assert beats.told == ["WATCHDOG=1"] * 3


def test_trouble_with_the_database_is_said_once_and_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    beats = Beats()
    service = beats.service()
    beats.failing = DatabaseUnreachable("db.example.org: no answer")
    for _ in range(5):
        service.once()
    beats.failing = None
    service.once()
    assert [one.message for one in caplog.records] == ["the scheduler waits", "the scheduler goes on"]


def test_it_ends_in_order_whatever_the_database_says() -> None:
    beats = Beats()
    stop = threading.Event()
    stop.set()
    beats.service().run(stop)
    assert beats.calls == ["seen", "seen", "tick", "stop 3", "gone"]
    assert [one.partition("\n")[0] for one in beats.told] == ["WATCHDOG=1", "READY=1", "STOPPING=1"]
    beats.failing = DatabaseUnreachable("db.example.org: no answer")
    beats.service().run(stop)


# -- children --------------------------------------------------------------------


def children(folder: Path, program: str, places: int = 2) -> Children:
    return Children([sys.executable, "-c", program], dict(os.environ), folder, places=places)


def wait(executor: Children) -> dict[str, Outcome]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if ended := executor.ended():
            return ended
        time.sleep(0.02)
    raise AssertionError("it did not end")


TELL = "import sys, json; print(json.dumps({'state': 'done', 'error': str(json.loads(sys.stdin.readline()))}))"
HANG = "import sys; print(flush=True); sys.stdin.read()"
STUBBORN = "import signal, sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').close(); sys.stdin.read()"


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Children]:
    made = children(tmp_path, HANG)
    yield made
    made.stop(0)


def test_a_child_is_given_its_order_and_says_what_came_of_it(tmp_path: Path) -> None:
    executor = children(tmp_path, TELL)
    executor.start(Due("hr", "full", "hr/full@x"))
    (outcome,) = wait(executor).values()
    assert outcome.state == "done"
    expected = {"folder": str(tmp_path), "connector": "hr", "mode": "full", "due": "hr/full@x"}
    assert outcome.error == str(expected)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its process was ended by signal 9 (SIGKILL)"),
        ("raise SystemExit(7)", "its process ended with status 7 and said nothing"),
        ("print('no JSON')", "its process ended with status 0 and said nothing"),
        ("print('{}')", "its process ended with status 0 and said nothing"),
    ],
)
def test_a_child_that_says_nothing_has_died(tmp_path: Path, program: str, told: str) -> None:
    executor = children(tmp_path, program)
    executor.start(Due("hr", "full", "x"))
    assert wait(executor) == {"x": Outcome("died", "died", told)}


def test_there_is_room_for_so_many(hanging: Children) -> None:
    assert hanging.room()
    hanging.start(Due("hr", "full", "a"))
    hanging.start(Due("crm", "full", "b"))
    assert not hanging.room()
    assert hanging.ended() == {}
    stopped = Outcome("", stopped=True)
    assert hanging.stop(0) == {"a": stopped, "b": stopped}
    assert hanging.room()


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identitymesh.runs.executor.TO_GIVE_UP", 0.2)
    ready = tmp_path / "ready"
    executor = Children([sys.executable, "-c", STUBBORN, str(ready)], dict(os.environ), tmp_path, places=1)
    executor.start(Due("hr", "full", "a"))
    while not ready.exists():
        time.sleep(0.02)
    assert executor.stop(0) == {"a": Outcome("", stopped=True)}


def test_one_that_ends_in_time_is_not_stopped(tmp_path: Path) -> None:
    executor = children(tmp_path, TELL)
    executor.start(Due("hr", "full", "a"))
    assert executor.stop(60)["a"].state == "done"


def test_the_child_of_the_product_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, os, json, time;"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'identitymesh.child'], stdin=subprocess.PIPE);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whatever_ends_a_due_run_comes_back_in_words() -> None:
    def opened(error: BaseException) -> Outcome:
        def fail() -> object:
            raise error

        return carry_out(fail, "hr", "full", "x")  # type: ignore[arg-type]

    unreachable = DatabaseUnreachable("db: no answer")
    assert opened(unreachable) == Outcome("failed", "database-unreachable", "db: no answer", retryable=True)
    assert opened(KeyboardInterrupt()) == Outcome("", stopped=True)
    unforeseen = opened(RuntimeError("the password is hunter2"))
    assert unforeseen.code == "unforeseen"
    assert "RuntimeError" in unforeseen.error
    assert "hunter2" not in json.dumps(unforeseen.error)
