"""Flow: who wins, and what fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Value
from identitymesh.pipeline.flowing import Candidate, fit, flow
from identitymesh.rules.flow import FlowRule
from identitymesh.rules.ruleset import MeshAttribute


@pytest.mark.parametrize(
    ("kind", "value", "fitting"),
    [
        ("string", "x", "x"),
        ("string", "", ""),
        ("string", 7, "7"),
        ("integer", "-7", -7),
        ("integer", 7, 7),
        ("boolean", True, True),
        ("decimal", "1.50", "1.50"),
        ("decimal", 2, "2"),
        ("datetime", "2026-11-22", "2026-11-22"),
        ("datetime", "2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00Z"),
        ("datetime", "2026-11-22T10:00:00", "2026-11-22T10:00:00Z"),
        ("binary", b"\x00", b"\x00"),
    ],
)
def test_values_that_fit(kind: str, value: Value, fitting: Value) -> None:
    found = fit(value, MeshAttribute("a", kind))

    assert (type(found), found) == (type(fitting), fitting)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", True),
        ("string", b"x"),
        ("integer", "seven"),
        ("integer", "7" * 30),
        ("integer", 1.5),
        ("integer", True),
        ("boolean", "true"),
        ("boolean", 1),
        ("decimal", "much"),
        ("decimal", "NaN"),
        ("datetime", "yesterday"),
        ("datetime", 20261122),
        ("binary", "text"),
        ("string", ["a", "b"]),
    ],
)
def test_values_that_do_not_fit_are_named_by_type(kind: str, value: Value) -> None:
    with pytest.raises(EvaluationError) as raised:
        fit(value, MeshAttribute("a", kind))

    assert "seven" not in str(raised.value)
    assert "yesterday" not in str(raised.value)


def test_many_values_keep_their_order_and_lose_repeats() -> None:
    assert fit(["b", "a", "b"], MeshAttribute("a", "string", many=True)) == ["b", "a"]
    assert fit(["b", "b"], MeshAttribute("a", "string", many=True)) == "b"


ranks = st.integers(0, 5)


@given(st.lists(st.tuples(ranks, st.sampled_from("abc"), st.text(max_size=3)), min_size=1, max_size=8), st.randoms())
def test_the_winner_does_not_depend_on_arrival(offers: list[tuple[int, str, str]], random: object) -> None:
    several = [Candidate(FlowRule(f"r{rank}", "hr", "x", 50, rank), key, text) for rank, key, text in offers]
    unique = list({(one.rule.rank, one.key): one for one in several}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def winner(candidates: list[Candidate]) -> object:
        ordered = sorted(candidates, key=lambda one: (one.rule.rank, one.key))
        return flow({"x": ordered}, {}, "2026-01-01T00:00:00Z")["x"]

    assert winner(unique) == winner(shuffled)


def test_since_stays_while_value_and_origin_stay() -> None:
    rule = FlowRule("r", "hr", "x", 50, 0)
    first = flow({"x": [Candidate(rule, "k", "v")]}, {}, "2026-01-01T00:00:00Z")

    same = flow({"x": [Candidate(rule, "k", "v")]}, first, "2026-02-01T00:00:00Z")
    other = flow({"x": [Candidate(rule, "k", "w")]}, first, "2026-02-01T00:00:00Z")

    assert same["x"].since == "2026-01-01T00:00:00Z"
    assert other["x"].since == "2026-02-01T00:00:00Z"
