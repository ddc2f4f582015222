"""The process that opens what was just made, forked from one that has imported everything instead of started anew.

It is another process all the same: it was there before, and has the request alone. `secrets/test_setup.py` and whatever
is a program of its own start the real one.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import walk_packages
from types import SimpleNamespace
from typing import Any

import pytest

from tests.house_rules.repository import ROOT

REPLACED = "identitymesh.secrets.opentest.subprocess"


class Openings:
    """The process to fork from, started when it is first needed."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def instead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stands_in = SimpleNamespace(run=self.run, TimeoutExpired=subprocess.TimeoutExpired)
        monkeypatch.setattr(REPLACED, stands_in)

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes,  # noqa: A002 - as `subprocess`
        env: Mapping[str, str],
        **_: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        server = self._started()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"given": base64.b64encode(input).decode(), "environment": dict(env)}) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        return subprocess.CompletedProcess(command, answer["status"], answer["said"].encode(), b"")

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.openings"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
                text=True,
            )
        return self._server

    def stop(self) -> None:
        if self._server is not None:
            self._server.communicate(timeout=30)


def _open(order: dict[str, Any], answer: int) -> None:
    """In the forked process."""
    from identitymesh.secrets import opentest

    os.environ.clear()
    os.environ.update(order["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = io.StringIO(base64.b64decode(order["given"]).decode())
    os.dup2(answer, 1)
    sys.stdout = os.fdopen(answer, "w")
    status = opentest.main()
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    package = import_module("identitymesh.secrets")
    for module in walk_packages(package.__path__, "identitymesh.secrets."):
        import_module(module.name)
    for line in sys.stdin:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                _open(json.loads(line), writing)
            except BaseException:  # noqa: BLE001 - what went wrong is told on standard error
                traceback.print_exc()
            os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _pid, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status), "said": said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
