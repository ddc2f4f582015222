"""A lease as its holder knows it: which one, which fence, and until when nobody can have taken it over."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Final

from identitymesh.errors import LeaseLost

MESH: Final = "mesh"  # who has it imports and plans


@dataclass(slots=True)
class Deadline:
    """``at``: until then nobody can have taken a lease over, by :func:`uptime`."""

    at: float = math.inf


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds. A holder whose lease was taken over finds out at its next commit.

    What no commit guards asks :meth:`assert_live` first: a process that stood still must not go on as if nothing were.
    """

    name: str
    holder: str
    fence: int
    deadline: Deadline = field(default_factory=Deadline, compare=False, repr=False)

    def assert_live(self) -> None:
        """Whether its time, as last renewed, is not over.

        Raises:
            LeaseLost: it may be another process's by now.
        """
        if uptime() >= self.deadline.at:
            raise LeaseLost(
                f"this run could not renew its lease on {self.name} in time",
                hint="It stood still, or the database did not answer. The next run carries on from there.",
            )


def uptime() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps, where it has such a one."""
    return time.clock_gettime(_SLEEPLESS) if _SLEEPLESS is not None else time.monotonic()


_SLEEPLESS: Final = getattr(time, "CLOCK_BOOTTIME", None)
