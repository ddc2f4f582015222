"""The real program, killed at a chosen step: python -m tests.custody.killed POINT ARGUMENT ...

Steps are what leaves a trace: statements and commits of the product's database, statements at a target, and what makes
files durable. POINT 0 counts them, and says how many there were on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, event

from identitymesh import composition
from identitymesh.cli.main import run


class Steps:
    def __init__(self, point: int) -> None:
        self.point = point
        self.count = 0

    def __call__(self, *_arguments: object, **_named: object) -> None:
        self.count += 1
        if self.count == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(steps: Steps) -> None:
    event.listen(Engine, "before_cursor_execute", steps)
    event.listen(Engine, "commit", steps)
    execute, fsync, replace = psycopg.Connection.execute, os.fsync, Path.replace

    def executed(self: Any, *arguments: Any, **named: Any) -> Any:
        steps()
        answer = execute(self, *arguments, **named)
        steps()
        return answer

    def synced(handle: int) -> None:
        fsync(handle)
        steps()

    def replaced(self: Path, target: Any) -> Path:
        answer = replace(self, target)
        steps()
        return answer

    psycopg.Connection.execute = executed  # type: ignore[method-assign]
    os.fsync = synced  # type: ignore[assignment]
    Path.replace = replaced  # type: ignore[method-assign, assignment]


def main() -> int:
    steps = Steps(int(sys.argv[1]))
    watch(steps)
    code = run(
        open_installation=composition.open_installation,
        initialise=composition.initialise,
        custody=composition.Custody(),
        argv=sys.argv[2:],
    )
    sys.stderr.write(f"STEPS {steps.count}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
