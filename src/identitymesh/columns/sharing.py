"""The rows of a place, shared among processes where there are many: each takes a part, in the order of the key.

Every process opens the database itself, and ends when this one is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Final

from identitymesh.columns.forks import Fork
from identitymesh.columns.opening import open_plan
from identitymesh.columns.places import Place
from identitymesh.columns.plan import Plan
from identitymesh.columns.report import PlaceReport
from identitymesh.columns.session import Part, Target
from identitymesh.columns.sweeping import Progress

MOST_PROCESSES: Final = 4
_LOOK_SECONDS: Final = 1.0
Piece = Callable[[Target, Part, PlaceReport, Progress], None]  # works on one part, and counts into the report


def share(plan: Plan, target: Target, report: PlaceReport, piece: Piece, progress: Progress, *, writing: bool) -> None:
    """Have a piece of work done on every part: the first by this process and with this target.

    With ``writing`` this process is alone in the database, and those that share its work count as it.

    Raises:
        MeshError: what any of them raised; the others end.
    """
    first, *others = target.parts(min(MOST_PROCESSES, processors()))
    with ExitStack() as stack:
        work = partial(_elsewhere, plan=plan, place=target.place, piece=piece, writing=writing)
        forks = [stack.enter_context(Fork(partial(work, part=part))) for part in others]

        here = 0

        def seen(done: int) -> None:
            nonlocal here
            here = done
            progress(here + sum(fork.done() for fork in forks))

        piece(target, first, report, seen)
        for fork in forks:
            while not fork.ended(_LOOK_SECONDS):
                seen(here)
            report.add(fork.answer())


def _elsewhere(progress: Progress, *, plan: Plan, place: Place, piece: Piece, part: Part, writing: bool) -> PlaceReport:
    report = PlaceReport(place.name)
    with open_plan(plan) as work, work.session.together() if writing else nullcontext():
        (target,) = (one for one in work.targets if one.place == place)
        target.inspect(writing=writing)
        piece(target, part, report, progress)
    return report


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
