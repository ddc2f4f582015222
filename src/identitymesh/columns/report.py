"""What the commands answer: counts and places, never a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from identitymesh.columns.formats import RowKey, show_row

MOST_SHOWN: Final = 20

Report = Callable[[str, str, int, int | None], None]  # phase, place, done, of


def unwatched(phase: str, subject: str, done: int, total: int | None) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class Finding:
    """One row that needs somebody: its key, and what is wrong with it."""

    row: str
    problem: str


@dataclass(slots=True)
class PlaceReport:
    """One place after a command. Counts are rows.

    ``verified`` opened (and equal their plain value, where there is one); ``newer`` of them were
    written by an application after its plain value and are kept as they are; ``alone`` have no
    plain value (any more). ``pending`` have a
    plain value alone, ``broken`` do not open, ``refused`` have a value that cannot be encrypted.
    """

    place: str
    state: str = ""
    format: str = ""
    key_id: str = ""
    written: int = 0
    verified: int = 0
    newer: int = 0
    alone: int = 0
    pending: int = 0
    broken: int = 0
    refused: int = 0
    dropped: bool = False
    also_dropped: tuple[str, ...] = ()
    triggers_bypassed: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    def note(self, row: RowKey, problem: str) -> None:
        """Keep the first ones for the report; all are counted."""
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(Finding(show_row(row), problem))

    def add(self, part: PlaceReport) -> None:
        """Count in what another process found among its part of the rows."""
        for count in ("written", "verified", "newer", "alone", "pending", "broken", "refused"):
            setattr(self, count, getattr(self, count) + getattr(part, count))
        self.findings = [*self.findings, *part.findings][:MOST_SHOWN]

    @property
    def clean(self) -> bool:
        """Nothing of it needs a person."""
        return not (self.broken or self.refused)


@dataclass(frozen=True, slots=True)
class PlaceStatus:
    """How a place stands, without opening a value."""

    place: str
    state: str
    format: str
    key_id: str
    rows: int
    plain: int
    encrypted: int
    sealed: int
    pending: int
    last: dict[str, object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command answers."""

    command: str
    database: str
    dialect: str
    key_id: str
    seconds: float
    places: tuple[PlaceReport, ...]
    hints: tuple[str, ...] = ()
