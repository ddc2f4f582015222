"""Where a process waits, at one of its steps, while the test does something to the world around it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.chaos import clock


@dataclass(frozen=True, slots=True)
class Waiting:
    """A process that waits. ``event``: at what."""

    pid: int
    event: str
    line: socket.socket

    def go(self, **orders: Any) -> None:
        """Let it go on, with what it should do to itself; nothing happens when it was killed meanwhile."""
        with suppress(OSError), self.line:
            self.line.sendall(json.dumps(orders).encode() + b"\n")


class Gate:
    """The test's side: one process comes through, once. Use in a ``with``."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(1)

    def wait(self, ended: Callable[[], bool]) -> Waiting | None:
        """Whoever arrives; ``None`` when it has come to its end without."""
        self._listener.settimeout(0.05)
        while True:
            try:
                line, _ = self._listener.accept()
            except TimeoutError:
                if ended():
                    return None
                continue
            self.close()
            line.settimeout(60)
            with line.makefile() as reader:
                told = json.loads(reader.readline())
            return Waiting(told["pid"], told["event"], line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody is stopped any more, and who has just come is let through."""
        self._listener.close()
        Path(self.path).unlink(missing_ok=True)


def wait_at(path: str, event: str) -> None:
    """The other side: say so, wait, and do what is asked. A gate that is gone lets everybody through."""
    told = ""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with line, suppress(OSError):  # also where it is closed just after somebody else came through
        line.connect(path)
        with line.makefile("rw") as both:
            both.write(json.dumps({"pid": os.getpid(), "event": event}) + "\n")
            both.flush()
            told = both.readline()
    orders = json.loads(told) if told else {}
    clock.step(orders.get("clock", 0))
