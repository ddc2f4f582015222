"""A program that forks a process for each order it reads, so that what is killed does not import everything anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

from tests.house_rules.repository import ROOT


class Forks:
    """The program ``module``, running; called with an order it answers exit status and what the process said."""

    def __init__(self, module: str) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        self.child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )

    def __call__(self, order: dict[str, Any]) -> tuple[int, str]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(order) + "\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline())
        return answer["status"], answer["said"]

    def stop(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait(30)
        self.child.stdout.close()


def serve(child: Callable[[dict[str, Any], int], None]) -> None:
    """The other side: ``child`` carries out an order, says what it has to into the file descriptor, and ends."""
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                child(json.loads(line), writing)
            except BaseException:  # noqa: BLE001 - what went wrong is told on standard error
                traceback.print_exc()
            os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _pid, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status), "said": said}) + "\n")
        sys.stdout.flush()
