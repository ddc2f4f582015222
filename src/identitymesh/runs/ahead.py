"""Reads the next page while the last one is stored: a source's answer and the database's are waited for together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from queue import Full, Queue
from threading import Event, Thread
from typing import Final, TypeVar

Item = TypeVar("Item")

AHEAD: Final = 1  # pages that wait to be stored, besides the one that is being read
_PATIENCE: Final = 0.2  # seconds between two looks whether anybody still wants to read


@contextmanager
def read_ahead(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """``items``, drawn in a thread of their own, in order; an error of theirs is raised where it would have come.

    The thread ends with the context: what was drawn and not asked for is lost, and ``items`` is closed by the thread
    that drew from it.
    """
    queue: Queue[tuple[Item | None, BaseException | None]] = Queue(AHEAD)
    over = Event()
    thread = Thread(target=_draw, args=(items, queue, over), name="read ahead", daemon=True)
    thread.start()
    try:
        yield _drawn(queue)
    finally:
        over.set()
        thread.join()


def _draw(items: Iterator[Item], queue: Queue[tuple[Item | None, BaseException | None]], over: Event) -> None:
    """Draw until there are no more, or nobody wants more."""
    failed: BaseException | None = None
    try:
        with closing(items):  # type: ignore[type-var]  # what reads a source is a generator
            for item in items:
                if not _put(queue, (item, None), over):
                    return
    except BaseException as error:  # noqa: BLE001  raised again by whoever asked for the items
        failed = error
    _put(queue, (None, failed), over)


def _put(queue: Queue[Item], item: Item, over: Event) -> bool:
    while not over.is_set():
        try:
            queue.put(item, timeout=_PATIENCE)
        except Full:
            continue
        return True
    return False


def _drawn(queue: Queue[tuple[Item | None, BaseException | None]]) -> Iterator[Item]:
    while True:
        item, error = queue.get()
        if error is not None:
            raise error
        if item is None:
            return
        yield item
