"""What is done to whom, and when: all of it follows from a seed and a number."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .estate import TARGETS

PHASES = ("begin", "import", "plan", "release", "mark", "call", "record")
DATABASES = ("sqlite", "postgresql")
RUN, WORKER, SERVICE = "run", "worker", "service"
LINES = ("hr", *TARGETS)


@dataclass(frozen=True, slots=True)
class Kind:
    """A disturbance as plans choose it. ``whom``: servers or lines that it may concern."""

    what: str
    who: tuple[str, ...] = (RUN, WORKER)
    databases: tuple[str, ...] = DATABASES
    whom: tuple[str, ...] = ("",)


# In the order in which a sample takes them: the first few show most.
CATALOGUE = (
    Kind("kill", (WORKER,)),
    Kind("kill", (SERVICE,)),
    Kind("restart", (RUN,), whom=("postgres", "slapd", "crm")),
    Kind("crash", (RUN,), whom=("postgres", "slapd")),
    Kind("cut", (RUN,), whom=LINES),
    Kind("stall", (RUN,), whom=TARGETS),
    Kind("full disk", (RUN,)),
    Kind("locked", (RUN,)),
    Kind("clock", (RUN,)),
    Kind("two services", (SERVICE, WORKER)),
    Kind("two folders", (SERVICE, WORKER), ("postgresql",)),
    Kind("kill", (RUN,)),
    Kind("down", whom=("slapd", "crm")),
    Kind("answer lost", (RUN,), whom=TARGETS),
    Kind("answer lost for good", (RUN,), whom=TARGETS),
    Kind("request lost", (RUN,), whom=TARGETS),
    Kind("hiccup", (RUN,), whom=LINES),
    Kind("slow", whom=LINES),
    Kind("frozen", (RUN,)),
    Kind("kill elsewhere", (RUN,), ("postgresql",)),
    Kind("connections ended", databases=("postgresql",)),
    Kind("cut", (RUN,), ("postgresql",), ("database",)),
    Kind("stall for a moment", (RUN,), ("postgresql",), ("database",)),
    Kind("kill both", (WORKER,)),
    Kind("second run", (RUN,)),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One disturbance. ``place``: where in the phase, from 0 to 1; ``stays``: a clock is not put right afterwards."""

    name: str
    what: str
    who: str
    database: str
    mode: str
    phase: str
    place: float
    whom: str
    seconds: float
    stays: bool

    def __str__(self) -> str:
        whom = f" of {self.whom}" if self.whom else ""
        return f"{self.what}{whom} in {self.phase} of a {self.mode} {self.who}, {self.database}"


def plan_of(seed: str, number: int) -> Plan:
    """The disturbance with this number: the catalogue in turn, everything else by chance."""
    kind = CATALOGUE[number % len(CATALOGUE)]
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - to be repeated
    who = chance.choice(kind.who)
    # A call that a process makes when it wakes up, with nothing between its own look at the lease and the call, nobody
    # can keep it from; the rest of what it had before it, the lease must.
    phases = PHASES[:5] if kind.what == "frozen" else PHASES
    return Plan(
        name=f"{seed}/{number}",
        what=kind.what,
        who=who,
        database=chance.choice(kind.databases),
        mode=chance.choice(("full", "full", "delta")),
        phase="begin" if who == SERVICE else chance.choice(phases),
        place=chance.random(),
        whom=chance.choice(kind.whom),
        seconds=chance.choice((-86_400.0, -3_600.0, -30.0, 30.0, 3_600.0, 86_400.0)),
        stays=chance.random() < 0.5,
    )
