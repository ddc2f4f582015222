"""Where a command is killed: at every step with TESTS_EVERY_STEP=1 (`make soak`), else at a repeatable sample."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator

EVERY = os.environ.get("TESTS_EVERY_STEP") == "1"
SEED = os.environ.get("TESTS_SEED") or "1"
SECONDS = float(os.environ.get("TESTS_KILL_SECONDS", "5"))  # for each command and database, outside of a soak


def chance(command: str) -> random.Random:
    """The same numbers for the same seed and command."""
    return random.Random(f"{SEED} {command}")  # noqa: S311 - a sample that can be repeated


def points(command: str, steps: int) -> Iterator[int]:
    """The steps to kill ``command`` at, one after the other; says at the end how many it were."""
    order = list(range(1, steps + 1))
    if not EVERY:
        chance(command).shuffle(order)
    deadline = time.monotonic() + SECONDS
    done = 0
    for point in order:
        yield point
        done += 1
        if not EVERY and time.monotonic() > deadline:
            break
    assert done > 0, f"{command} has no step to be killed at"
    sys.stderr.write(f"{command}: killed at {done} of {steps} steps\n")
