"""Pages drawn ahead in a thread: the same items, errors in their place, an end that leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from identitymesh.runs.ahead import read_ahead


def numbers(most: int, closed: list[int]) -> Iterator[int]:
    try:
        yield from range(most)
    finally:
        closed.append(threading.get_ident())


def test_items_come_in_order_from_another_thread_which_then_ends() -> None:
    closed: list[int] = []
    before = threading.active_count()

    with read_ahead(numbers(50, closed)) as drawn:
        assert list(drawn) == list(range(50))

    assert closed != [threading.get_ident()]
    assert len(closed) == 1
    assert threading.active_count() == before


def test_the_next_item_is_drawn_before_it_is_asked_for() -> None:
    drawn_second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        drawn_second.set()
        yield 2

    with read_ahead(items()) as drawn:
        assert next(drawn) == 1
        assert drawn_second.wait(10)


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    with read_ahead(items()) as drawn:
        assert next(drawn) == 1
        assert next(drawn) == 2
        with pytest.raises(KeyError, match="third"):
            next(drawn)


def test_who_stops_early_leaves_no_thread_and_closes_the_source() -> None:
    closed: list[int] = []
    before = threading.active_count()

    with read_ahead(numbers(1_000_000, closed)) as drawn:
        assert next(drawn) == 0

    assert len(closed) == 1
    assert threading.active_count() == before
