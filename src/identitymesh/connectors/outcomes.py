"""What became of one guarded write."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from identitymesh.connectors.contract import Entry


class Verdict(StrEnum):
    """``DONE`` it already was as wanted, nothing was written. ``WRITTEN`` it was changed or deleted just now.

    ``STALE`` it is neither as known nor as wanted: somebody else changed it, nothing was written.
    ``MISSING`` there is no such object any more, nothing was written.
    """

    DONE = "done"
    WRITTEN = "written"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """``entry`` is the object as it is at the target now; ``None`` after a delete and when it is missing."""

    verdict: Verdict
    entry: Entry | None = None

    @property
    def settled(self) -> bool:
        """The target is as wanted."""
        return self.verdict in {Verdict.DONE, Verdict.WRITTEN}
