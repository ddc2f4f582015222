"""The test's side of :mod:`tests.chaos.child`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.house_rules.repository import ROOT


class Children:
    """The server of processes. Use in a ``with``."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def order(
        self, folder: Path, runs: Sequence[str], *, kill: int | None = None, names: bool = False, warm: bool = False
    ) -> Any:
        """A fresh process makes these runs one after the other, or ends at event ``kill``."""
        if warm:
            return self._ask(folder=str(folder), runs=list(runs), warm=True)
        return self.collect(self.start(folder, runs=list(runs), kill=kill, names=names))

    def start(self, folder: Path, **order: Any) -> int:
        """A fresh process begins with an order; its number."""
        return int(self._ask(folder=str(folder), **order)["pid"])

    def collect(self, pid: int) -> Any:
        """What became of it, as soon as it has come to its end."""
        return self._ask(collect=pid)

    def end(self) -> None:
        """Whoever was not collected is killed."""
        self._ask(end=True)

    def _ask(self, **order: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
