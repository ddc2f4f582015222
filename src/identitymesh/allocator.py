"""The allocator of C libraries, and of everything that Python itself asks more than 512 bytes for.

glibc's has settings and can be told to give back; whatever other there is (musl, macOS, Windows) is left alone.
"""

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
    run grows for days, although it holds nothing.
    """
    _tell("mallopt", _M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """After a run: free pages go back to the system, malloc_trim(3).

    glibc keeps what it once had, but for what lies at the very end of an arena: after a complete import of 50,000
    people three quarters of its memory were free and not given back, and how much it was, was chance.
    """
    _tell("malloc_trim", 0)


def _tell(function: str, *numbers: int) -> None:
    if sys.platform == "linux":
        tell = getattr(ctypes.CDLL(None), function, None)
        if tell is not None:
            tell(*numbers)
