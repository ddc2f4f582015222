"""Standard output and standard error as they are found: whose encoding lacks letters, and whose reader goes away."""

from __future__ import annotations

import os
import sys

from identitymesh.cli.main import BROKEN_PIPE


def reader_is_gone() -> int:
    """Nobody reads on: end quietly, also when Python flushes at its own end."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - stays open until the process ends
    return BROKEN_PIPE


def print_everything_printable() -> None:
    """A name that the terminal's encoding lacks is shown as numbers; it does not end the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
