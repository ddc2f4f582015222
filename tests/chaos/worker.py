"""The child of a disturbed service: as :mod:`identitymesh.child`, with the events and the gate of its order."""

from __future__ import annotations

import json
import os

from tests.chaos import child


def main() -> int:
    from identitymesh.child import main as real

    child.prepare(json.loads(os.environ.pop("TESTS_CHAOS_ORDER")))
    return real()
