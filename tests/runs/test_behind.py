"""Work that follows one step behind its caller."""

from __future__ import annotations

import threading

import pytest

from identitymesh.runs.behind import one_behind

PATIENCE = 30  # seconds, for what takes none


def test_one_action_is_under_way_while_its_caller_goes_on() -> None:
    went_on = threading.Event()
    done: list[int] = []

    def first() -> None:
        assert went_on.wait(PATIENCE)
        done.append(1)

    with one_behind("test") as behind:
        behind.start(first)
        went_on.set()
        behind.start(lambda: done.append(2))
        assert done[:1] == [1], "the second begins when the first has ended"

    assert done == [1, 2], "what is under way at the end is waited for"


def test_what_an_action_raises_is_raised_by_the_next_step_and_once() -> None:
    def failing() -> None:
        raise ValueError("no")

    done: list[int] = []
    with one_behind("test") as behind:
        behind.start(failing)
        with pytest.raises(ValueError, match="no"):
            behind.start(lambda: done.append(1))
        behind.wait()

    assert done == [], "nothing is begun after what failed"


def test_what_the_last_action_raises_is_raised_at_the_end() -> None:
    def failing() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), one_behind("test") as behind:
        behind.start(failing)


def test_an_error_of_the_caller_is_not_hidden_and_what_is_under_way_is_waited_for() -> None:
    raised = threading.Event()
    done: list[int] = []

    def slow() -> None:
        assert raised.wait(PATIENCE)
        done.append(1)
        raise ValueError("hidden")

    def caller() -> None:
        with one_behind("test") as behind:
            behind.start(slow)
            raised.set()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        caller()

    assert done == [1]
