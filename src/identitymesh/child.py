"""One due run as a process of its own: ``python -m identitymesh.child``, started by ``identitymesh serve`` alone.

The order is one line of JSON on standard input. When standard input ends, the parent is gone, and so is this process
in the same moment: what it had begun is carried on by the run that comes next. Its outcome is one line of JSON on what
was standard output; everything that anything prints goes to standard error.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from pathlib import Path
from socket import gethostname as host
from types import FrameType
from typing import Final

ORPHANED: Final = 9
_PIECE: Final = 4096


def main() -> int:
    answer = os.dup(1)
    os.dup2(2, 1)
    line = b""
    while not line.endswith(b"\n"):
        if not (piece := os.read(0, _PIECE)):
            return ORPHANED
        line += piece
    # Reads the descriptor itself: a thread that holds the lock of sys.stdin would be in the way of a quiet end.
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)
    order = json.loads(line)

    from identitymesh.composition import open_installation
    from identitymesh.runs.executor import encode
    from identitymesh.serving import carry_out

    opened = functools.partial(open_installation, Path(order["folder"]), quiet=False, actor=f"schedule@{host()}")
    outcome = carry_out(opened, order["connector"], order["mode"], order["due"])
    os.write(answer, encode(outcome))
    return 0


def _end_with_the_parent() -> None:
    while os.read(0, _PIECE):
        pass
    os._exit(ORPHANED)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
