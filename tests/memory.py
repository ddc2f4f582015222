"""How much memory a process has, and whose allocator can be asked about it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

glibc_only = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()),
    reason="only glibc makes arenas for threads, and keeps what is free in the middle of one",
)


def resident(pid: int | None = None) -> float:
    """MB of a process, of this one by itself; 0 for one that has ended.

    Raises:
        OSError: there is none.
    """
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else 0.0
