"""Carries out due runs as child processes, one for each.

The order goes to a child as one line of JSON on its standard input, which then stays open for as long as this process
lives: a child that reads the end of it has lost its parent, and ends. Its outcome comes as one line on its standard
output; what it logs goes where the log of this process goes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from identitymesh.runs.schedules import Due, Outcome

TO_GIVE_UP: Final = 5.0  # seconds that a child has after it was told to stop
_LOOK: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Child:
    due: Due
    process: subprocess.Popen[bytes]


class Children:
    """An ``Executor``. ``command`` starts a child; ``places``: how many there may be at once."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, *, places: int) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._places = places
        self._children: dict[str, _Child] = {}

    def room(self) -> bool:
        return len(self._children) < self._places

    def start(self, due: Due) -> None:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,  # Ctrl-C at a terminal is for this process; it stops its children in order
        )
        self._children[due.name] = _Child(due, process)
        order = {"folder": str(self._folder), "connector": due.connector, "mode": due.mode, "due": due.name}
        with suppress(BrokenPipeError):  # it has ended already; its outcome says so
            assert process.stdin is not None  # noqa: S101 - asked for above
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()

    def ended(self) -> dict[str, Outcome]:
        gone = [name for name, child in self._children.items() if child.process.poll() is not None]
        return {name: _outcome(self._children.pop(name).process) for name in gone}

    def stop(self, patience: float) -> dict[str, Outcome]:
        ended = self._wait(patience)
        if not self._children:
            return ended
        for child in self._children.values():
            child.process.terminate()
        told = self._wait(TO_GIVE_UP)
        for name, child in self._children.items():
            child.process.kill()
            child.process.wait()
            told[name] = _outcome(child.process)
        self._children.clear()
        # One that came to its end although it was told to stop has one; all others are carried out again.
        return ended | {
            name: one if one.state not in {"", "died"} else Outcome("", stopped=True) for name, one in told.items()
        }

    def _wait(self, seconds: float) -> dict[str, Outcome]:
        deadline = time.monotonic() + seconds
        ended = self.ended()
        while self._children and time.monotonic() < deadline:
            time.sleep(_LOOK)
            ended |= self.ended()
        return ended


def _outcome(process: subprocess.Popen[bytes]) -> Outcome:
    """What a child that has ended said."""
    assert process.stdout is not None  # noqa: S101 - asked for when it was started
    assert process.stdin is not None  # noqa: S101 - as above
    told = process.stdout.read()
    process.stdout.close()
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        content: dict[str, Any] = json.loads(told)
        return Outcome(**content)
    except (ValueError, TypeError):
        status = process.returncode
        if status < 0:
            how = f"was ended by signal {-status} ({signal.Signals(-status).name})"
        else:
            how = f"ended with status {status} and said nothing"
        return Outcome("died", "died", f"its process {how}")


def encode(outcome: Outcome) -> bytes:
    """What a child says."""
    return json.dumps(asdict(outcome)).encode() + b"\n"
