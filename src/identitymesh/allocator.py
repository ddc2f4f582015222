"""The allocator of C libraries, and of everything that Python itself asks more than 512 bytes for."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_ARENA_MAX: Final = -8  # mallopt(3)
ARENAS: Final = 2  # the second: so a thread that reads and one that stores rarely wait for each other


def share_arenas() -> None:
    """For entry points: threads share two arenas, where glibc would make up to eight for each processor.

    Each run has some threads, which live for a moment. What they leave free stays with the arena that they were
    given, in pieces that only threads of the same arena use again: with sixteen of them a process that makes run after
    run grows for days, although it holds nothing. Whatever allocator has no such setting is left alone.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, ARENAS)
