"""Limits and absences, at their edges."""

from __future__ import annotations

import pytest

from identitymesh.definition.shape import DEFAULT_LIMITS, LimitShape, LimitsShape
from identitymesh.runs.absences import judge
from identitymesh.runs.contract import KindCount
from identitymesh.runs.limits import exceeded


def held(kind: str, count: int, linked: int, **released: int) -> list[str]:
    return exceeded(DEFAULT_LIMITS, {kind: KindCount(count, count)}, linked, released)


@pytest.mark.parametrize(
    ("kind", "count", "linked", "is_held"),
    [
        ("delete", 20, 1000, False),
        ("delete", 21, 100_000, True),  # by count
        ("delete", 3, 149, True),  # 2.01 %
        ("delete", 3, 150, False),  # exactly 2 %
        ("delete", 2, 2, False),  # never by percentage
        ("update", 30, 100, False),
        ("update", 31, 100, True),
        ("create", 51, 100, True),
        ("create", 1_000_000, 0, False),
    ],
)
def test_the_edges_of_the_defaults(kind: str, count: int, linked: int, is_held: bool) -> None:
    assert bool(held(kind, count, linked)) is is_held


def test_covered_rows_are_not_judged() -> None:
    assert exceeded(DEFAULT_LIMITS, {"delete": KindCount(500, 2)}, 1000, {}) == []


def test_a_count_of_zero_allows_nothing() -> None:
    limits = LimitsShape(delete=LimitShape(count=0))

    assert exceeded(limits, {"delete": KindCount(1, 1)}, 1000, {}) == ["1 deletes, more than 0"]


def keys(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("missing", "total", "is_held"), [(2, 2, False), (3, 30, False), (3, 29, True), (100, 1000, False)]
)
def test_the_edges_of_absence(missing: int, total: int, is_held: bool) -> None:
    verdict = judge(keys(missing), total, {}, unreadable=0, scope_changed=False)

    assert bool(verdict.held) is is_held
    assert len(verdict.believed) + len(verdict.held) == missing


def test_approved_absences_are_believed_whatever_else_is_held() -> None:
    noted = dict.fromkeys(keys(5), True)

    verdict = judge(keys(20), 100, noted, unreadable=1, scope_changed=True)

    assert verdict.believed == sorted(keys(5))
    assert len(verdict.held) == 15


def test_a_proof_with_a_doubt_believes_no_absence_and_keeps_what_was_approved() -> None:
    verdict = judge(["k1", "k2"], 1000, {"k1": True}, unreadable=0, scope_changed=False, doubt="nothing says so")
    assert verdict.believed == ["k1"]
    assert verdict.held == ["k2"]
    assert verdict.reason == "nothing says so"


def test_small_absences_do_not_free_those_that_wait() -> None:
    verdict = judge(["k1", "k2"], 1000, {"k1": False}, unreadable=0, scope_changed=False)

    assert (verdict.believed, verdict.held) == (["k2"], ["k1"])
