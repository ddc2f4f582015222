"""The two programs as processes of their own that need not import anything: forked from one that has done so."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import identitymesh
from tests.forks import Forks, serve

STREAMS = ("stdin", "stdout", "stderr")


class Programs:
    """Call it with a program, its arguments, folder and environment: exit status, standard output and error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forks = Forks("tests.programs")

    def __call__(
        self, program: str, *arguments: str, folder: Path, environment: dict[str, str], given: bytes | None = None
    ) -> tuple[int, str, str]:
        files = {name: self._folder / name for name in STREAMS}
        files["stdin"].write_bytes(given or b"")
        order = {
            "program": program,
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "streams": [str(files[name]) for name in STREAMS],
        }
        status, _events = self._forks(order)
        return status, files["stdout"].read_text(), files["stderr"].read_text()

    def stop(self) -> None:
        self._forks.stop()


def run(order: dict[str, Any], _events: int) -> None:
    """In the forked process: become the program."""
    for number, name in enumerate(order["streams"]):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)))
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w"))) for number in (1, 2))
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [order["program"], *order["arguments"]]
    code: Any = 0
    try:
        getattr(
            import_module("identitymesh.__main__"), "main" if order["program"] == "identitymesh" else "secretscli"
        )()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


if __name__ == "__main__":
    for module in walk_packages(identitymesh.__path__, "identitymesh."):
        if ".versions." not in module.name and not module.name.endswith((".__main__", ".env")):
            import_module(module.name)
    serve(run)
