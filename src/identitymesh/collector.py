"""The collector of cyclic garbage, and when it rests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_resting() -> Iterator[None]:
    """Around work that makes very many objects and next to no cycles: looking for cycles would be much of the time.

    What is in cycles stays until afterwards. The process has one collector: of several threads, the one that sent it
    to rest wakes it.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
