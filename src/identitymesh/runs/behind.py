"""Work that follows one step behind: a batch is stored while the next is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Behind:
    """Carries out one action at a time in a thread of its own, in the order in which they are given."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._last: Future[None] | None = None

    def start(self, action: Callable[[], None]) -> None:
        """Wait for the action before this one, raise what it raised, and begin this one."""
        self.wait()
        self._last = self._pool.submit(action)

    def wait(self) -> None:
        """Until nothing is under way; raises what the last action raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


@contextmanager
def one_behind(name: str) -> Iterator[Behind]:
    """For the time of a block. What is under way at its end is waited for, and raises if all else went well."""
    with ThreadPoolExecutor(1, name) as pool:
        behind = Behind(pool)
        yield behind
        behind.wait()
