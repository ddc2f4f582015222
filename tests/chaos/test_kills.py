"""Kill -9 between any two steps of a run, then run again.

TESTS_SOAK=2000 pytest tests/chaos          as many samples on each database, spread over all phases
TESTS_KILL=sqlite/full/117 pytest tests/chaos    exactly one, as a failure's message names it
"""

from __future__ import annotations

import os
import random
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .children import Children
from .company import Company
from .target import Target

SAMPLES = {"sqlite": 14, "postgresql": 9}  # of each `make test`
SOAK = int(os.environ.get("TESTS_SOAK", "0"))
REPLAY = os.environ.get("TESTS_KILL", "")
SEED = os.environ.get("TESTS_SEED", "") or secrets.token_hex(4)
# The first run of each is killed; the others are what somebody does then, and one more that must find nothing to do.
DAYS = (("full", "full", "full"), ("delta", "delta", "full", "full"))


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with Target() as running:
        yield running


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with Children() as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def company(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, target: Target, children: Children
) -> Company:
    if REPLAY and not REPLAY.startswith(request.param):
        pytest.skip(f"TESTS_KILL asks for {REPLAY} alone")
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    folder = tmp_path_factory.mktemp(request.param)
    made = Company(children, target, folder / "morning", server)
    made.prepare()
    for number, day in enumerate(DAYS):
        made.learn(day, folder / f"undisturbed-{number}")
    return made


@contextmanager
def world(company: Company, folder: Path) -> Iterator[Path]:
    company.copy(folder)
    yield folder
    company.discard(folder)


def phase(event: str) -> str:
    return event.partition(":")[0]


def samples(events: Sequence[str], count: int, chance: random.Random) -> list[int]:
    """Events to be killed at, counted from 1: the same number of each phase, as far as it has as many."""
    by_phase: dict[str, list[int]] = {}
    for number, event in enumerate(events, start=1):
        by_phase.setdefault(phase(event), []).append(number)
    for numbers in by_phase.values():
        chance.shuffle(numbers)
    chosen: list[int] = []
    while len(chosen) < min(count, len(events)):
        for numbers in by_phase.values():
            chosen += [numbers.pop()] if numbers else []
    return sorted(chosen[:count])


def survive(company: Company, folder: Path, day: tuple[str, ...], kill: int) -> bool:
    """One kill, and everything that must hold after it; answers whether the run was killed at all."""
    with world(company, folder):
        killed = company.children.order(folder, day[:1], kill=kill)
        assert killed["killed"] or "error" not in killed, killed
        company.check_watermark(folder)
        answer = company.children.order(folder, day[1:])
        assert "error" not in answer, answer
        for run in answer["runs"]:
            assert (run["state"], run["issues"]) == ("done", []), run
        assert answer["runs"][-1]["rows"] == 0, "the last run had something to do"
        end = company.end(folder)
        expected = company.undisturbed[day]
        assert end.accounts == expected.accounts
        assert end.people == expected.people
        missing, surplus = expected.audit - end.audit, end.audit - expected.audit
        assert (missing, surplus) == (Counter(), Counter()), "the audit is not that of an undisturbed day"
    return bool(killed["killed"])


def test_the_day_has_every_phase_and_every_kind_of_change(company: Company) -> None:
    for day in DAYS:
        phases = Counter(phase(event) for event in company.events[day])
        assert set(phases) == {"begin", "import", "plan", "release", "mark", "call", "record"}
    before = company.undisturbed[DAYS[0]]
    kinds = Counter(action for action, _, _ in before.audit.elements())
    assert kinds == {
        "identity.create": 6,
        "identity.return": 1,
        "identity.change": 6,
        "identity.leave": 2,
        "account.create": 6,
        "account.update": 7,
        "account.disable": 2,
    }
    assert before.accounts["p03"]["active"] is True
    assert before.accounts["p05"]["active"] is False
    assert len(before.accounts) == 30


@pytest.mark.timeout(0 if SOAK else 300)
def test_a_run_killed_anywhere_ends_like_an_undisturbed_one(company: Company, tmp_path: Path) -> None:
    database = "sqlite" if company.server is None else "postgresql"
    count = SOAK or SAMPLES[database]
    chance = random.Random(f"{SEED}/{database}")  # noqa: S311  no secret
    hits: Counter[str] = Counter()
    for day, share in zip(DAYS, (count - count // 4, count // 4), strict=True):
        events = company.events[day]
        chosen = samples(events, share, chance)
        if REPLAY:
            _, mode, number = REPLAY.split("/")
            chosen = [int(number)] if mode == day[0] else []
        for kill in chosen:
            named = f"TESTS_KILL={database}/{day[0]}/{kill} ({events[kill - 1]})"
            try:
                survived = survive(company, tmp_path / f"{day[0]}-{kill}", day, kill)
            except AssertionError as failure:
                raise AssertionError(f"{named}, seed {SEED}:\n{failure}") from failure
            hits[phase(events[kill - 1]) if survived else "not killed"] += 1
    told = ", ".join(f"{name} {number}" for name, number in hits.items())
    sys.stdout.write(f"\n{database}: {sum(hits.values())} kills, seed {SEED}: {told}\n")
    assert hits["not killed"] <= sum(hits.values()) // 10
    assert REPLAY or set(hits) >= {"begin", "import", "plan", "release", "mark", "call", "record"}
