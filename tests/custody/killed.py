"""The real program, killed at a chosen step. A server of processes, started once, forks one for each order.

Steps are what leaves a trace: statements and commits of the product's database, statements at a target, and both sides
of each file operation. POINT 0 kills nobody and counts the steps.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import psycopg
from sqlalchemy import Engine, event

import identitymesh
from tests.house_rules.repository import ROOT

FILE_OPERATIONS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "fchmod", "chmod", "link", "truncate")


class Steps:
    """Counts, and ends when it is time."""

    def __init__(self, point: int) -> None:
        self.point = point
        self.count = 0

    def __call__(self, *_arguments: object, **_named: object) -> None:
        self.count += 1
        if self.count == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self()
            answer = function(*arguments, **named)
            self()
            return answer

        return called


def watch(steps: Steps) -> None:
    event.listen(Engine, "before_cursor_execute", steps)
    event.listen(Engine, "after_cursor_execute", steps)
    event.listen(Engine, "commit", steps)
    psycopg.Connection.execute = steps.around(psycopg.Connection.execute)  # type: ignore[method-assign]
    for name in FILE_OPERATIONS:
        setattr(os, name, steps.around(getattr(os, name)))


@dataclass(frozen=True)
class Ended:
    """How a process ended. ``steps`` is 0 when it was killed."""

    returncode: int
    steps: int
    stderr: str


class Program:
    """The client: starts the server, gives orders."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.custody.killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
            text=True,
        )

    def __call__(self, point: int, arguments: list[str], stdin: str, environment: Mapping[str, str]) -> Ended:
        order = {"point": point, "argv": arguments, "stdin": stdin, "environment": dict(environment)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))

    def stop(self) -> None:
        self._server.communicate(timeout=30)


@contextmanager
def program() -> Iterator[Program]:
    running = Program()
    try:
        yield running
    finally:
        running.stop()


def _child(order: dict[str, Any], answer: int, errors: int) -> None:
    with tempfile.TemporaryFile() as typed:
        typed.write(order["stdin"].encode())
        typed.seek(0)
        os.dup2(typed.fileno(), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(errors, 2)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115 - descriptor 0
    os.environ.clear()
    os.environ.update({"PATH": os.defpath, "LANG": "C.UTF-8", **order["environment"]})
    steps = Steps(order["point"])
    watch(steps)
    from identitymesh import composition
    from identitymesh.cli.main import run

    code = run(
        open_installation=composition.open_installation,
        initialise=composition.initialise,
        custody=composition.Custody(),
        argv=order["argv"],
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, json.dumps([int(code), steps.count]).encode())


def _carry_out(order: dict[str, Any]) -> Ended:
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            try:
                _child(order, writing, errors.fileno())
            except BaseException:  # noqa: BLE001 - what went wrong is told
                traceback.print_exc()
            os._exit(0)
        os.close(writing)
        _pid, status = os.waitpid(pid, 0)
        content = os.read(reading, 100)
        os.close(reading)
        errors.seek(0)
        told = errors.read().decode(errors="replace")
    if not content:
        return Ended(os.waitstatus_to_exitcode(status) or 1, 0, told)
    code, steps = json.loads(content)
    return Ended(code, steps, told)


def _warm() -> None:
    """Import the whole program once, so that each process begins at once."""
    for module in walk_packages(identitymesh.__path__, "identitymesh."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def main() -> None:
    _warm()
    for line in sys.stdin:
        ended = _carry_out(json.loads(line))
        sys.stdout.write(json.dumps(vars(ended)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
