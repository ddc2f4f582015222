"""What a migration would meet, found before anything is written: values, names, permissions, limits, time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from identitymesh.errors import ProviderError, ProviderUnavailable, SecretError
from identitymesh.secrets.custody.station import Progress
from identitymesh.secrets.migration.copying import SHOWN, Sides, read_source
from identitymesh.secrets.migration.needs import Need, needed
from identitymesh.secrets.sealing import MAX_VALUE_BYTES

BATCH: Final = 256
CALLS_FOR_EACH: Final = 4  # who is there, whose it is, the value, and its read-back
LEAST_CALL: Final = 0.002


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """``problems`` keep it from beginning. ``seconds`` is a prediction, from the limits and from one call just made."""

    source: str
    target: str
    secrets: int
    versions: int
    present: int
    deleted: int
    largest_bytes: int
    limit_bytes: int
    writes_per_second: float
    seconds: float
    problems: Sequence[str]


def make_plan(sides: Sides, rate: float, progress: Progress) -> MigrationPlan:
    """Read everything at the source and look at everything at the target, without writing to either.

    Raises:
        ProviderUnavailable: one of the two does not answer.
    """
    with sides.rows.read() as view:
        rotations = {one.ref: one for one in view.rotations()}
        ledger = view.ledger()
    needs = needed((ledger[ref] for ref in sorted(ledger)), rotations)
    refs = list(dict.fromkeys(need.ref for need in needs))
    problems: list[str] = []
    began = time.monotonic()
    try:
        sides.target.check(sides.rows)
    except ProviderUnavailable:
        raise
    except ProviderError as error:
        problems.append(str(error))
    one_call = max(LEAST_CALL, time.monotonic() - began)
    largest, unreadable = _read_all(sides, needs, progress)
    problems += unreadable
    present = deleted = 0
    if not problems:
        progress("looking at", sides.target.name, 0, None)
        survey = sides.target.survey(sides.rows, refs)
        present, deleted = len(survey.present), len(survey.deleted)
        problems += [f"{ref}: its name at {sides.target.name} belongs to somebody else" for ref in survey.foreign]
    return MigrationPlan(
        source=sides.source.name,
        target=sides.target.name,
        secrets=len(refs),
        versions=len(needs),
        present=present,
        deleted=deleted,
        largest_bytes=largest,
        limit_bytes=MAX_VALUE_BYTES,
        writes_per_second=rate,
        seconds=_predicted(sides, len(needs), one_call, rate),
        problems=problems,
    )


def _predicted(sides: Sides, versions: int, one_call: float, rate: float) -> float:
    remote = sides.target.remote or sides.source.remote
    by_call = versions * CALLS_FOR_EACH * one_call / (sides.workers if remote else 1)
    return max(by_call, versions / rate if rate else 0.0)


def _read_all(sides: Sides, needs: Sequence[Need], progress: Progress) -> tuple[int, list[str]]:
    """The size of the largest value, and what cannot be moved because it does not open or is too large."""
    largest = 0
    failed: dict[str, SecretError] = {}
    for start in range(0, len(needs), BATCH):
        progress("reading", sides.source.name, start, len(needs))
        reading = read_source(sides, needs[start : start + BATCH])
        for need, error in reading.failed.items():
            if isinstance(error, ProviderUnavailable):
                raise error
            failed[need.ref] = error
        largest = max([largest, *(len(value.reveal()) for value in reading.values.values())])
    progress("reading", sides.source.name, len(needs), len(needs))
    problems = [str(error) for error in list(failed.values())[:SHOWN]]
    if len(failed) > SHOWN:
        problems.append(f"{len(failed) - SHOWN} more do not open in {sides.source.name}")
    return largest, problems
