"""One pass over the rows of a place: read ahead, work, write behind, a batch at a time.

While one batch is encrypted here, the database writes the one before and reads the one after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from identitymesh.columns.places import Change, Row, State
from identitymesh.columns.session import WHOLE, Part, Target, Which, moved, position

FIRST_BATCH: Final = 500
LARGEST_BATCH: Final = 10_000
BATCH_BYTES: Final = 8_000_000  # what the values of a batch may take; the next batch is sized by the last

Progress = Callable[[int], None]  # rows done so far
Work = Callable[[Row], Change | None]


@dataclass(slots=True)
class Passed:
    """What one pass did. ``missed`` rows were changed by somebody else between reading and writing."""

    seen: int = 0
    written: int = 0
    missed: int = 0


def silent(_done: int) -> None:
    """Nobody watches."""


def batches(target: Target, which: Which, part: Part = WHOLE) -> Iterator[list[Row]]:
    """Rows in the order of their keys; the next batch is read while this one is worked on."""
    with ThreadPoolExecutor(1, "columns-reader") as reader:
        limit = FIRST_BATCH
        after, until = part
        coming = reader.submit(target.scan, which, after, limit, until=until)
        while rows := coming.result():
            asked, limit = limit, _next_limit(rows)
            if len(rows) < asked:
                yield rows
                return
            coming = reader.submit(target.scan, which, rows[-1].after, limit, until=until)
            yield rows


def taken(target: Target, which: Which) -> Iterator[list[Row]]:
    """Rows that :meth:`Target.take` gives, in the order of their keys; nothing is read ahead in a transaction."""
    rows = target.take(which, FIRST_BATCH)
    while rows:
        yield rows
        rows = target.take(which, _next_limit(rows), after=rows[-1].after)


def _next_limit(rows: list[Row]) -> int:
    size = sum([row.size for row in rows])
    return max(1, min(LARGEST_BATCH, BATCH_BYTES * len(rows) // max(1, size)))


def sweep(
    target: Target,
    which: Which,
    work: Work,
    *,
    state: State | None = None,
    part: Part = WHOLE,
    progress: Progress = silent,
) -> Passed:
    """Take every row once; write what ``work`` answers. With a state, its cursor moves with each batch.

    Readers of SQLite and PostgreSQL alike see committed rows; a row that moved on since is counted as missed.
    """
    passed = Passed()
    if state is not None:
        part = (position(state), part[1])
    with ThreadPoolExecutor(1, "columns-writer") as writer:
        behind: Future[int] | None = None
        expected = 0
        for rows in batches(target, which, part):
            changes = [change for row in rows if (change := work(row)) is not None]
            passed.seen += len(rows)
            if behind is not None:
                _settle(passed, behind, expected)
            behind, expected = None, len(changes)
            if changes:
                here = moved(state, rows[-1]) if state is not None else None
                behind = writer.submit(target.write, changes, here)
            progress(passed.seen)
        if behind is not None:
            _settle(passed, behind, expected)
    return passed


def _settle(passed: Passed, behind: Future[int], expected: int) -> None:
    written = behind.result()
    passed.written += written
    passed.missed += expected - written


def from_the_start(state: State, step: str) -> State:
    """The state as a new pass begins."""
    return replace(state, step=step, cursor="")
