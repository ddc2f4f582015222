"""A day is disturbed, in all ways that are known, and ends as one that was not.

`make soak N=2000`                                        so many disturbances
TESTS_DISTURB=seed/7 pytest tests/chaos/test_disturbances.py       exactly one, as a failure names it
TESTS_WHAT=frozen                                         those of one kind alone, with N as many turns
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from tests.installation.services import exists
from tests.servers.authority import Authority

from .children import Children
from .disturbances import DISTURBANCES, Scene
from .estate import Estate, Servers
from .harness import Harness
from .plans import CATALOGUE, DATABASES, Plan, plan_of

SOAK = int(os.environ.get("TESTS_SOAK", "0"))
SEED = os.environ.get("TESTS_SEED", "") or ("1" if not SOAK else os.urandom(4).hex())
WHAT = os.environ.get("TESTS_WHAT", "")
REPLAY = os.environ.get("TESTS_DISTURB", "")
SAMPLE = 14
ENOUGH = 3  # failures, and no more is tried


@pytest.fixture(scope="module")
def harnesses(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Harness]]:
    with ExitStack() as stack:
        children = stack.enter_context(Children())
        servers = stack.enter_context(Servers.running(authority))
        found = {}
        for kind in DATABASES:
            estate = Estate(servers, kind, tmp_path_factory.mktemp("chaos") / kind)
            found[kind] = Harness(stack.enter_context(estate.in_place()), children)
            found[kind].learn()
        yield found


def plans() -> list[Plan]:
    if REPLAY:
        seed, _, number = REPLAY.rpartition("/")
        return [plan_of(seed, int(number))]
    if not WHAT:
        return [plan_of(SEED, number) for number in range(SOAK or SAMPLE)]
    kinds = [number for number, one in enumerate(CATALOGUE) if one.what == WHAT]
    assert kinds, f"TESTS_WHAT: there is no {WHAT!r}, but {', '.join(sorted(DISTURBANCES))}"
    return [plan_of(SEED, turn * len(CATALOGUE) + one) for turn in range(SOAK or 1) for one in kinds]


def test_a_seed_is_a_plan() -> None:
    some = [plan_of("one", number) for number in range(200)]
    assert some == [plan_of("one", number) for number in range(200)]
    assert some != [plan_of("other", number) for number in range(200)]
    assert {one.what for one in some} == {one.what for one in CATALOGUE} == set(DISTURBANCES)
    assert {one.database for one in some} == set(DATABASES)


def test_both_databases_end_alike(harnesses: dict[str, Harness]) -> None:
    sqlite, postgresql = (harnesses[kind].undisturbed for kind in DATABASES)
    assert sqlite is not None
    assert sqlite == postgresql
    assert len(sqlite.accounts["badges"]) == 28
    assert len(sqlite.accounts["directory"]) == len(sqlite.accounts["crm"]) == 30


def test_nobody_is_left_of_a_day_that_failed(harnesses: dict[str, Harness], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("one", 4)
    left: list[int] = []

    def failing(scene: Scene) -> NoReturn:
        left.append(scene.waiting.pid)
        raise NotADirectoryError

    monkeypatch.setitem(DISTURBANCES, plan.what, failing)

    with pytest.raises(NotADirectoryError):
        harnesses[plan.database].survive(plan)
    assert [exists(pid) for pid in left] == [False]


@pytest.mark.timeout(0 if SOAK else 900)
def test_a_disturbed_day_ends_like_an_undisturbed_one(harnesses: dict[str, Harness]) -> None:
    hits: Counter[str] = Counter()
    failures: list[str] = []
    for plan in plans():
        try:
            phase = harnesses[plan.database].survive(plan)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the others are tried too
            failures.append(told(plan, failure))
            sys.stdout.write(failures[-1])
            if len(failures) > ENOUGH:
                break
            continue
        hits[plan.what if phase else f"{plan.what} (passed by)"] += 1
    counts = ", ".join(f"{name} {number}" for name, number in sorted(hits.items()))
    sys.stdout.write(f"\n{sum(hits.values())} disturbances survived, seed {SEED}: {counts}\n")
    outcomes = sum((one.outcomes for one in harnesses.values()), Counter[str]())
    sys.stdout.write(f"runs that were disturbed: {', '.join(f'{n} {what}' for what, n in sorted(outcomes.items()))}\n")
    assert not failures, "\n".join(failures)
    assert REPLAY or sum(number for name, number in hits.items() if "passed by" in name) <= sum(hits.values()) // 5


def told(plan: Plan, failure: Exception) -> str:
    """What went wrong, and the command that does it again."""
    command = f"TESTS_DISTURB={plan.name} .venv/bin/pytest tests/chaos/test_disturbances.py"
    where = traceback.extract_tb(failure.__traceback__)[-1]
    return f"\n{plan}\nreplay: {command}\n{type(failure).__name__} in {where.name}: {failure}\n"
