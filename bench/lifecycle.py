"""What it costs that rules ask for the day and give values to one person alone, beside the same people without."""

from __future__ import annotations

import time
from pathlib import Path

from bench.company import silent
from bench.lines import PEOPLE, folder
from identitymesh.benchmark.company import company_of_files
from identitymesh.cli.measuring import Line
from identitymesh.composition import open_installation
from identitymesh.installation import Installation

MAIL = """'ToLower(Concat([first], ".", [last], "@example.org"))'"""
FREE = (
    """'FirstFree(ToLower(Concat([first], ".", [last], "@example.org")), """
    """ToLower(Concat([first], ".", [last], [#], "@example.org")))'"""
)
PRESENT = """create: true, present_when: 'Coalesce([title], "") != "Nobody" and "2099-12-31" >= Today()'}"""


def days_and_unique_values() -> list[Line]:
    """A first plan of everybody with and without; and the pass that finds nobody due."""
    with folder() as place:
        company_of_files(place, PEOPLE)
        plain = _timed(place)
    with folder() as place:
        company_of_files(place, PEOPLE)
        _edit(place)
        dated = _timed(place)
        idle = _timed(place, delta=True)
    return [
        Line(
            "first plan with FirstFree and Today() / without",
            dated / plain,
            f"{dated:.1f} s, {plain:.1f} s; {PEOPLE:,} people, SQLite",
            most=1.5,
        ),
        Line(
            "a delta run in which nobody is due / that first plan",
            idle / dated,
            f"{idle:.2f} s; {PEOPLE:,} people of whom each has a day, SQLite",
            most=0.1,
        ),
    ]


def _edit(place: Path) -> None:
    with open_installation(place) as installation:
        _, text = installation.engine.definition() or (0, "")
        changed = text.replace(MAIL, FREE).replace("create: true}", PRESENT, 1)
        if FREE not in changed or PRESENT not in changed:
            raise RuntimeError("the rules that were to be changed are not there")
        installation.engine.apply(changed, source="bench", base=None, replace=True, release=True, allow_audience=())


def _timed(place: Path, *, delta: bool = False) -> float:
    with open_installation(place) as installation:
        return _plan(installation, delta=delta)


def _plan(installation: Installation, *, delta: bool) -> float:
    begun = time.perf_counter()
    connectors = ("badges",) if delta else ()
    installation.engine.plan(delta=delta, connectors=connectors, progress=silent)
    return time.perf_counter() - begun
