"""Exports the released rows of one target: mark, send, record, a chunk at a time. Chunks of a fast target grow.

A row is marked *sending* before its call. After a kill the next run finds the mark:
updates, disables and deletes are guarded and may be repeated; a create whose answer was
lost is looked up by ``correlate`` and adopted. A process that stood still for longer
than its lease lives sends nothing more.

While a chunk is sent, one thread records the chunk before it and marks the one after it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Self, TypeVar

from identitymesh.collector import collector_resting
from identitymesh.connectors.facade import Facade
from identitymesh.errors import LeaseLost
from identitymesh.runs.contract import Attempt, Issue, Result
from identitymesh.runs.reports import ExportReport
from identitymesh.runs.sending import Exported, ExportWork, Sender

CHUNK = 50  # rows at first, and at least
LARGEST_CHUNK = 250  # up to three chunks are marked at once: what a kill leaves to be looked up
BRISK = 0.5  # seconds: a chunk that took less is followed by one of twice as many rows

Done = TypeVar("Done")


def export(work: ExportWork, facade: Facade) -> tuple[ExportReport, list[Issue]]:
    """Send everything that is released. Never raises for one object; a target that cannot be used ends it in words.

    So does a lease that was lost: told is what was recorded before. The next run finds out what else was sent.

    Raises:
        StorageError: nothing more was sent once that was known; the next run finds out what was.
    """
    total = Exported()
    with _Desk(work) as desk:
        try:
            _send_all(work, facade, total, desk)
        except LeaseLost as lost:
            total = desk.recorded
            total.stop(lost, work.connector)
    error = total.stopped_by
    report = ExportReport(
        work.connector,
        dict(total.done),
        stale=total.stale,
        parked=total.parked,
        left=work.exports.waiting(work.connector, work.rules.frozen) if error else 0,
        error_code=error.code if error else "",
        error=str(error) if error else "",
        hint=(error.hint or "") if error else "",
    )
    return report, total.issues


def _send_all(work: ExportWork, facade: Facade, total: Exported, desk: _Desk) -> None:
    waiting = work.exports.waiting(work.connector, work.rules.frozen)
    sender = Sender(work, facade, total, desk.in_order)
    size, brisk, sent = CHUNK, False, 0
    marked = desk.mark(size)
    while attempts := marked.result():
        begun = time.monotonic()
        ahead = desk.mark(size) if brisk else None
        with collector_resting():  # it was a sixth of the work; between two chunks it has its turn
            results, untried = sender.chunk(attempts)
        desk.record(results, untried, total)
        sent += len(results)
        work.progress("export", work.connector, sent, max(waiting, sent))
        if total.stopped_by is not None:
            desk.record([], ahead.result() if ahead else [], total)
            break
        brisk = time.monotonic() - begun < BRISK
        if not brisk:
            desk.wait()  # a chunk that is marked already is not sent long after the lease was seen to be ours
        size = min(size * 2, LARGEST_CHUNK) if brisk else max(size // 2, CHUNK)
        marked = ahead or desk.mark(size)
    desk.wait()


class _Desk:
    """Marks and records in a thread of its own, in the order of the calls; after a failure it does nothing more."""

    def __init__(self, work: ExportWork) -> None:
        self._work = work
        self._after = (-1, "")
        self._rules = {rule.name for several in work.rules.projections.values() for rule in several}
        self._recorded, self._issues = Exported(), 0
        self._failure: BaseException | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export-desk")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def recorded(self) -> Exported:
        """What came of all that is recorded so far."""
        return replace(self._recorded, issues=self._recorded.issues[: self._issues])  # the list goes on growing

    def in_order(self) -> bool:
        """Whether nothing has failed: the lease is ours as far as anybody knows, and the database writes."""
        return self._failure is None

    def mark(self, size: int) -> Future[list[Attempt]]:
        """The next rows, marked as *sending* and committed before anybody gets to see them."""
        return self._submit(lambda: self._mark(size))

    def _mark(self, size: int) -> list[Attempt]:
        work = self._work
        attempts = work.exports.begin(
            work.connector,
            self._after,
            size,
            work.rules.frozen,
            self._rules,
            parked=work.retry_parked,
            lease=work.lease,
        )
        if attempts:
            last = attempts[-1].account
            self._after = (last.identity_id, last.object)
        return attempts

    def record(self, results: Sequence[Result], untried: Sequence[Attempt], total: Exported) -> None:
        """What came of a chunk, and of all with it."""
        so_far, issues = replace(total, done=Counter(total.done)), len(total.issues)
        self._submit(lambda: self._record(results, untried, so_far, issues))

    def wait(self) -> None:
        """Until all of it is done. Raises what went wrong."""
        self._submit(lambda: None).result()

    def _record(self, results: Sequence[Result], untried: Sequence[Attempt], total: Exported, issues: int) -> None:
        work = self._work
        work.exports.record(results, work.rules.version, work.lease)
        if results:
            self._recorded, self._issues = total, issues
        work.exports.put_back(untried, work.lease)

    def _submit(self, action: Callable[[], Done]) -> Future[Done]:
        def act() -> Done:
            if self._failure is not None:
                raise self._failure
            try:
                return action()
            except BaseException as failure:
                self._failure = failure
                raise

        return self._thread.submit(act)
