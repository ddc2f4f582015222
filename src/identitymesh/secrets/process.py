"""What keeps credentials inside a process: no core dumps, and children that inherit nothing by chance."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

import identitymesh

_PR_SET_DUMPABLE: Final = 4  # prctl(2)


def harden_process() -> None:
    """For entry points: no core file, and on Linux no core pipe and no reading of memory by the same user.

    A limit of zero alone does not stop a dump that the kernel pipes to a program;
    a process that is not dumpable is never dumped. Children start as usual again.
    """
    if os.name != "posix":
        return
    import resource  # there is none on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def child_environment(passed: Collection[str] = ()) -> dict[str, str]:
    """The whole environment of a helper process: it runs the same code, and learns nothing else but ``passed``."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(identitymesh.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in passed if name in os.environ},
    }
