"""The process that opens what was just made, forked from one that has imported everything instead of started anew.

It is another process all the same: it was there before, and has the request alone. `secrets/test_setup.py` and whatever
is a program of its own start the real one.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import walk_packages
from types import SimpleNamespace
from typing import Any

import pytest

from tests.forks import Forks, serve

REPLACED = "identitymesh.secrets.opentest.subprocess"


class Openings:
    """The process to fork from, started when it is first needed."""

    def __init__(self) -> None:
        self._server: Forks | None = None

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
        if self._server is None:
            self._server = Forks("tests.openings")
        status, said = self._server({"given": base64.b64encode(input).decode(), "environment": dict(env)})
        return subprocess.CompletedProcess(command, status, said.encode(), b"")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()


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
    serve(_open)


if __name__ == "__main__":
    main()
