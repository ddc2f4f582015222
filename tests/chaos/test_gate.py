"""The gate itself: one process comes through, and whoever came at the same time is stopped no more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.gate import Gate, wait_at

PATIENCE = 30  # seconds, for what takes none


def test_who_arrives_second_is_let_through_when_the_gate_closes(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool, Gate(tmp_path) as gate:
        both = [pool.submit(wait_at, gate.path, "a step") for _ in range(2)]
        waiting = gate.wait(lambda: False)  # and closes, whether or not the other has said who it is
        assert waiting is not None
        assert waiting.event == "a step"
        waiting.go()

        for one in both:
            one.result(PATIENCE)


def test_a_gate_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        path = gate.path

    wait_at(path, "a step")
