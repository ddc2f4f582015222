"""What holds for every company: twice is once, order and batches change nothing, values arrive as they left.

The same with more and longer examples: make soak (TESTS_SOAK=N).
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text

from identitymesh.model.attributes import Attributes, Value, from_values, load, same, values_of
from identitymesh.runs import exports, imports

from .directory import Directory
from .world import DEFINITION, World

SOAK = int(os.environ.get("TESTS_SOAK", "0"))
LIMITS = (
    "\nlimits: {default: {create: {percent: null}, update: {percent: null}, disable: {count: null, percent: null}}}\n"
)
BADGES = {
    "  crm: {type: memory": "  badge: {type: memory, base: badge, objects: {user: {}}}\n  crm: {type: memory",
    "  flow:\n": "    - {name: badge-by-mail, connector: badge, object: user, source: mail, target: mail}\n  flow:\n",
    "  project:\n": '    - {name: badge-phone, connector: badge, object: user, target: phone, value: "[phone]",'
    " confidence: 95}\n  project:\n",
}
few = settings(
    max_examples=SOAK or 9,
    stateful_step_count=30 if SOAK else 12,
    deadline=None,
    derandomize=not SOAK,
    report_multiple_bugs=False,
    # An example without shrinking is long, and there at once; `make soak` takes the minutes that a short one costs.
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if SOAK else [])],
    suppress_health_check=list(HealthCheck),
)

# Text as databases and directories hold it: no NUL, no lone surrogates, at most a few hundred characters.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
names = st.sampled_from(["Ann", "Zoë", "李", "Ann", "O'Brien", "  Bo ", "ﬀ", "İ"])
many = st.lists(words, min_size=1, max_size=4, unique=True)
person = st.fixed_dictionaries(
    {"first": names, "last": names, "status": st.sampled_from(["active", "away"])},
    optional={"department": words, "phone": many},
)
companies = st.dictionaries(st.sampled_from([f"p{number}" for number in range(30)]), person, min_size=1, max_size=20)
badges = st.lists(
    st.fixed_dictionaries({"mail": names.map(lambda n: f"{n.lower()}.{n.lower()}@example.org"), "phone": words})
)


@contextmanager
def company(*, with_badges: bool = False) -> Iterator[World]:
    """A world with generous limits, in memory where there is a file system for that."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="im-property-", dir=base))
    try:
        with World(folder) as made:
            made.text = DEFINITION + LIMITS
            if with_badges:
                made.directories["badge"] = Directory()
                for old, new in BADGES.items():
                    made.text = made.text.replace(old, new, 1)
            made.apply()
            yield made
    finally:
        shutil.rmtree(folder)


def fill(world: World, people: dict[str, Attributes]) -> None:
    world.hr.objects = {key: {"id": key, **_plain(attributes)} for key, attributes in people.items()}


def _plain(attributes: Attributes) -> Attributes:
    """As connectors give it: one value is itself."""
    return {
        name: value if (value := from_values(values_of(given))) is not None else ""
        for name, given in attributes.items()
    }


def mesh(world: World) -> dict[str, tuple[bool, dict[str, Any]]]:
    """Everybody by anchor: present, and the values with their origins, without since when."""
    with world.database.read() as connection:
        rows = connection.execute(text("SELECT anchor, present, document FROM identity")).all()
    return {
        row.anchor: (bool(row.present), {name: held[:-1] for name, held in load(row.document).items()}) for row in rows
    }


def accounts(world: World) -> dict[Value, Attributes]:
    """Accounts by person; several values have no order."""
    return {
        key: {name: sorted(value, key=str) if isinstance(value, list) else value for name, value in one.items()}
        for key, one in world.accounts().items()
    }


def run_out(world: World) -> None:
    """Until nothing is left to do; that must be soon."""
    for _ in range(4):
        if world.run().row_count == 0:
            return
    raise AssertionError("the runs find no end")


# -- twice is once -----------------------------------------------------------------


@few
@given(companies, badges)
def test_a_second_run_has_nothing_to_do_and_changes_nothing(
    people: dict[str, Attributes], cards: list[Attributes]
) -> None:
    with company(with_badges=True) as world:
        fill(world, people)
        world.directories["badge"].objects = {f"b{number}": dict(card) for number, card in enumerate(cards)}
        run_out(world)
        after, there, calls = mesh(world), accounts(world), list(world.crm.calls)

        report = world.run()

        assert report.row_count == 0
        assert report.people == {"created": 0, "changed": 0, "left": 0, "returned": 0}
        assert (mesh(world), accounts(world), world.crm.calls) == (after, there, calls)


# -- order and batches -------------------------------------------------------------


@few
@given(companies, badges, st.randoms(use_true_random=False), st.integers(1, 9), st.booleans())
def test_order_and_size_of_batches_change_nothing(
    people: dict[str, Attributes], cards: list[Attributes], chance: Any, page: int, backwards: bool
) -> None:
    ends = []
    shuffled = list(people.items())
    chance.shuffle(shuffled)
    keyed = [(f"b{number}", dict(card)) for number, card in enumerate(cards)]
    for rows, size, reverse in ((list(people.items()), 1000, False), (shuffled, page, backwards)):
        with company(with_badges=True) as world, pytest.MonkeyPatch.context() as patched:
            patched.setattr(imports, "BATCH", size)
            patched.setattr(exports, "CHUNK", size)
            patched.setattr(exports, "LARGEST_CHUNK", size)
            badge = world.directories["badge"]
            for directory in (world.hr, world.crm, badge):
                directory.page, directory.backwards = size, reverse
            fill(world, dict(rows))
            badge.objects = dict(reversed(keyed) if reverse else keyed)
            run_out(world)
            ends.append((mesh(world), accounts(world)))
    assert ends[0] == ends[1]


# -- values ------------------------------------------------------------------------


@few
@given(st.dictionaries(st.sampled_from(["p1", "p2", "p3"]), st.tuples(words, many), min_size=1))
def test_values_arrive_as_they_left(values: dict[str, tuple[str, list[str]]]) -> None:
    with company() as world:
        fill(
            world,
            {
                key: {"first": "A", "last": "B", "status": "active", "department": department, "phone": list(phones)}
                for key, (department, phones) in values.items()
            },
        )
        run_out(world)
        for key, (department, phones) in values.items():
            account = world.accounts()[key]
            assert account["department"] == department
            assert same(account["phone"], from_values(list(phones)))


# -- a year of random days ---------------------------------------------------------


def wanted(person: Attributes) -> Attributes:
    """What the target should hold of somebody whom HR has: the rules of the definition, in Python."""
    first, last = str(person["first"]), str(person["last"])
    account: Attributes = {
        "externalId": person["id"],
        "userName": f"{first}.{last}@example.org".lower(),
        "givenName": first.strip(),
        "familyName": last.strip(),
        "active": person["status"] == "active",
    }
    if "department" in person:
        account["department"] = person["department"]
    if "phone" in person:
        phone = person["phone"]
        account["phone"] = sorted(phone, key=str) if isinstance(phone, list) else phone
    return account


class Year(RuleBasedStateMachine):
    """Random days against the plainest model: who is hired has an account, who has gone has a disabled one."""

    def __init__(self) -> None:
        super().__init__()
        self._context = company()
        self.world = self._context.__enter__()
        self.hired: dict[str, Attributes] = {}  # as HR says
        self.seen: set[str] = set()  # as of the last imports
        self.desired: dict[str, Attributes] = {}
        self.written: dict[str, Attributes] = {}  # as the target must say
        self.plans: dict[int, dict[str, tuple[Attributes, Attributes | None]]] = {}  # desired, and written by then

    def teardown(self) -> None:
        self._context.__exit__(None, None, None)

    @initialize(people=companies)
    def begin(self, people: dict[str, Attributes]) -> None:
        for key, attributes in people.items():
            self.hire(key, attributes)

    @rule(key=st.sampled_from([f"p{number}" for number in range(30)]), attributes=person)
    def hire(self, key: str, attributes: Attributes) -> None:
        """Somebody new, somebody who returns, or somebody whom HR writes down anew."""
        self.hired[key] = {"id": key, **_plain(attributes)}
        self.world.hr.objects[key] = copy.deepcopy(self.hired[key])

    @precondition(lambda self: len(self.hired) > 1)
    @rule(data=st.data())
    def fire(self, data: st.DataObject) -> None:
        """At most two between two imports: more would be held, and that has tests of its own."""
        if len(self.seen - set(self.hired)) >= 2:
            return
        key = data.draw(st.sampled_from(sorted(self.hired)))
        del self.hired[key]
        self.world.fire(key)

    @precondition(lambda self: self.hired)
    @rule(data=st.data(), last=names)
    def change(self, data: st.DataObject, last: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.hired)))
        self.hired[key]["last"] = last
        self.world.change(key, last=last)

    @rule(delta=st.booleans())
    def run(self, delta: bool) -> None:
        report = self.world.run(delta=delta)
        assert report.state == "done", report
        self._imported(delta=delta)
        self.written.update(self.desired)

    @rule(delta=st.booleans())
    def plan(self, delta: bool) -> None:
        before = copy.deepcopy(self.world.crm.objects)
        report = self.world.plan(delta=delta)
        assert self.world.crm.objects == before, "a plan writes nothing"
        self._imported(delta=delta)
        differ = {key: value for key, value in self.desired.items() if self.written.get(key) != value}
        assert report.row_count == len(differ)
        self.plans[report.run_id] = {key: (value, self.written.get(key)) for key, value in differ.items()}

    @precondition(lambda self: self.plans)
    @rule(data=st.data(), approve_first=st.booleans())
    def release(self, data: st.DataObject, approve_first: bool) -> None:
        """Exactly that plan: of it, what still is the same change."""
        plan = data.draw(st.sampled_from(sorted(self.plans)))
        if approve_first:
            self.world.approve(plan)
        self.world.release(plan)
        for key, change in self.plans.pop(plan).items():
            if change == (self.desired.get(key), self.written.get(key)):
                self.written[key] = change[0]

    @precondition(lambda self: self.plans)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        plan = data.draw(st.sampled_from(sorted(self.plans)))
        del self.plans[plan]
        self.world.engine.drop(plan, connectors=())

    def _imported(self, *, delta: bool) -> None:
        self.desired.update({key: wanted(person) for key, person in self.hired.items()})
        self.seen |= set(self.hired)
        if delta:
            return
        for key in self.seen - set(self.hired):
            self.seen.remove(key)
            if key in self.written:
                self.desired[key] = {**self.written[key], "active": False, "note": "left"}
            else:
                del self.desired[key]

    @invariant()
    def the_target_says_what_the_model_says(self) -> None:
        assert accounts(self.world) == self.written


Year.TestCase.settings = few
TestYear = Year.TestCase
