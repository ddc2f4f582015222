"""The lines of `identitymesh bench`: passes in processes of their own, and what they are compared with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from identitymesh.errors import BenchFailed
from identitymesh.runs.reports import Progress
from identitymesh.secrets.process import child_environment

PASSES: Final = ("make", "first", "bare", "done", "read", "unchanged", "read")
_WORDS: Final = 2_000  # characters of what a pass says when it fails


@dataclass(frozen=True, slots=True)
class Line:
    """One measured line. ``ratio`` is compared with ``least`` or ``most``, whichever is given."""

    name: str
    ratio: float
    figures: str
    least: float | None = None
    most: float | None = None

    @property
    def reach(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"

    @property
    def reached(self) -> bool:
        return self.ratio >= self.least if self.least is not None else self.ratio <= (self.most or 0)

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"reached": self.reached}


@dataclass(frozen=True, slots=True)
class Pass:
    """``seconds`` without the start of the process; ``resident``: the most that it held, in MB."""

    seconds: float
    resident: float


class Bench:
    """Measures in an empty folder. ``progress`` hears of each pass."""

    def __init__(self, place: Path, people: int, progress: Progress) -> None:
        self._place = place
        self._people = people
        self._progress = progress
        self._done = 0

    def lines(self, url: str | None, password_file: Path | None) -> list[Line]:
        """All lines; with ``url`` also the one of PostgreSQL.

        Raises:
            BenchFailed: a pass came to no end; the message has its last words.
        """
        total = len(PASSES) + (2 if url is not None else 0)
        found = {name: self._pass(self._folder("sqlite"), name, total) for name in PASSES[:4]}
        reads = [self._pass(self._folder("sqlite"), "read", total)]
        same = self._pass(self._folder("sqlite"), "unchanged", total)
        reads.append(self._pass(self._folder("sqlite"), "read", total))
        first, bare = found["first"], found["bare"]
        told = [
            Line(
                "first full sync up to planned rows / bare inserts of the same rows",
                bare.seconds / first.seconds,
                f"{self._rate(first)}, bare inserts {self._rate(bare)}; {first.resident:.0f} MB",
                least=0.5,
            ),
            _no_change(same, reads),
        ]
        if url is not None:
            folder = self._folder("postgresql")
            self._pass(folder, "make", total, url, password_file=password_file)
            postgres = self._pass(folder, "first", total, password_file=password_file)
            ratio = first.seconds / postgres.seconds
            figures = f"{self._rate(postgres)}, SQLite {self._rate(first)}"
            told.append(Line("first full sync on PostgreSQL / on SQLite", ratio, figures, least=0.6))
        return told

    def _rate(self, one: Pass) -> str:
        return f"{self._people / one.seconds:,.0f} people/s"

    def _folder(self, name: str) -> Path:
        folder = self._place / name
        folder.mkdir(exist_ok=True)
        return folder

    def _pass(self, folder: Path, name: str, total: int, *more: str, password_file: Path | None = None) -> Pass:
        """One pass; the environment of this process, which may name another database, does not reach it."""
        self._progress("bench", name, self._done, total)
        environment = child_environment()
        if password_file is not None:
            environment["IDENTITYMESH_DATABASE__PASSWORD_FILE"] = str(password_file.resolve())
        arguments = [str(self._people), *more] if name == "make" else []
        said = carry_out(
            [sys.executable, "-P", "-m", "identitymesh.benchmark", str(folder), name, *arguments], environment
        )
        self._done += 1
        self._progress("bench", name, self._done, total)
        return Pass(**said)


def _no_change(same: Pass, reads: Sequence[Pass]) -> Line:
    least = min(one.seconds for one in reads)
    return Line(
        "no-change pass / reading both sides",
        same.seconds / least,
        f"{same.seconds:.2f} s, only reading the file and the stored hashes {least:.2f} s; {same.resident:.0f} MB",
        most=3,
    )


def carry_out(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """What a pass says of itself. Raises ``BenchFailed``."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise BenchFailed(
            f"a pass of the measurement ended with {done.returncode}: {words[0][:_WORDS]}",
            hint="Is there room in the temporary folder, and is the database empty and made for this?",
        )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said
