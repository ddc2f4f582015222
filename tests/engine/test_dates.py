"""Joiners appear and leavers go on their day, without any change at a source; a clock that jumps moves nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from identitymesh.runs.reports import RunReport

from .world import World

TODAY = datetime.now(UTC).date()


def day(days: int) -> str:
    return (TODAY + timedelta(days=days)).isoformat()


def dated(text: str) -> str:
    """People are here from their start to their end, and are in the CRM's department while on probation."""
    present = 'Coalesce([start], "0") <= Today() and (IsAbsent([end]) or ParseDate([end]) >= Today())'
    text = text.replace("create: true}", f"create: true, present_when: '{present}'}}")
    return text.replace('value: "[department]"', """value: 'IIF([probation] >= Today(), "Probation", [department])'""")


def at(world: World, days: int) -> None:
    """Noon of a day, counted from today."""
    world.ahead = datetime.combine(TODAY + timedelta(days=days), datetime.min.time(), UTC) - datetime.now(UTC)
    world.ahead += timedelta(hours=12)


@pytest.fixture
def company(both: World) -> World:
    both.apply(dated, release=True)
    at(both, 0)
    both.hire_many(5)
    both.hire("joiner", start=day(3))
    both.hire("leaver", end=day(2), department="IT", probation=day(1))
    both.run()
    return both


def delta(world: World, days: int) -> RunReport:
    """A delta run of a connector that has nothing to do with anybody's dates."""
    at(world, days)
    return world.run(delta=True, connectors=["crm"])


def test_a_joiner_appears_on_the_day(company: World) -> None:
    assert "joiner" not in company.accounts()
    assert delta(company, 2).people["created"] == 0
    assert "joiner" not in company.accounts()

    report = delta(company, 3)

    assert report.people["created"] == 1
    assert company.accounts()["joiner"]["active"] is True
    assert report.imports == [], "nothing was read"
    assert delta(company, 4).row_count == 0


def test_a_leaver_goes_on_the_day_after_the_last_one(company: World) -> None:
    assert delta(company, 2).people["left"] == 0

    report = delta(company, 3)

    assert report.people["left"] == 1
    assert company.accounts()["leaver"]["active"] is False


def test_values_that_depend_on_the_day_change_on_it(company: World) -> None:
    assert company.accounts()["leaver"]["department"] == "Probation"
    delta(company, 1)
    assert company.accounts()["leaver"]["department"] == "Probation"

    delta(company, 2)

    assert company.accounts()["leaver"]["department"] == "IT"


def test_who_is_not_due_is_not_evaluated(company: World) -> None:
    seen: list[tuple[str, str, int]] = []
    at(company, 3)

    company.engine.run(
        delta=True, connectors=["crm"], progress=lambda phase, subject, done, _: seen.append((phase, subject, done))
    )

    assert [one for one in seen if one[0] == "due"] == [("due", "objects", 1), ("due", "identities", 1)]


def test_an_end_that_the_source_moves_on_the_same_day_makes_nobody_leave(company: World) -> None:
    at(company, 3)
    company.change("leaver", end=day(30))

    report = company.run()

    assert report.people["left"] == 0
    assert company.accounts()["leaver"]["active"] is True


def test_a_projection_that_asks_for_the_day(world: World) -> None:
    world.apply(
        lambda text: text.replace(
            "      on_leave: disable", "      when: '[department] >= Today()'\n      on_leave: disable", 1
        ).replace("on_leave: disable", "on_out_of_scope: delete\n      on_leave: disable"),
        release=True,
    )
    at(world, 0)
    world.hire("p1", department=day(1))
    world.run()
    assert "p1" in world.accounts()
    delta(world, 1)
    assert "p1" in world.accounts()

    delta(world, 2)

    assert world.accounts() == {}


def test_the_mesh_has_its_own_midnight(world: World) -> None:
    """In Auckland the day begins half a day before it does in UTC."""
    world.apply(lambda text: dated(text).replace("version: 1", "version: 1\ntimezone: Pacific/Auckland"), release=True)
    at(world, 0)
    world.hire("p1", start=day(1))

    world.run()

    assert "p1" in world.accounts()


# -- a clock that jumps ------------------------------------------------------------


@pytest.mark.parametrize("years", [30, 2, -2, -30])
def test_a_clock_that_jumps_moves_nobody(company: World, years: int) -> None:
    before = dict(company.accounts())
    at(company, 365 * years)

    report = company.run()

    assert report.state == "problems"
    assert [(one.subject, one.code) for one in report.issues] == [("clock", "clock-jumped")]
    assert "--accept-clock" in report.issues[0].message
    assert (report.people["left"], report.people["created"], report.row_count) == (0, 0, 0)
    assert company.accounts() == before
    at(company, 1)
    assert company.run().state == "done", "as if nothing had been"


def test_a_clock_that_was_put_right_by_an_hour_is_no_jump(company: World) -> None:
    delta(company, 3)
    company.ahead -= timedelta(hours=13)  # it is the day before again

    report = company.run()

    assert report.state == "done"
    assert "joiner" in company.accounts()


def test_a_person_says_that_the_clock_is_right(company: World) -> None:
    at(company, 300)
    company.run()

    report = company.engine.run(delta=False, connectors=(), progress=lambda *_: None, accept_clock=True)

    assert report.state == "done"
    assert (report.people["left"], report.people["created"]) == (1, 1)
    assert company.run().issues == []


def test_a_jump_concerns_nobody_where_no_rule_asks_for_the_day(world: World) -> None:
    world.hire("p1")
    world.run()
    at(world, 9000)

    assert world.run().state == "done"


# -- errors ------------------------------------------------------------------------


def test_a_date_that_cannot_be_read_changes_nothing_and_is_told(company: World) -> None:
    company.change("leaver", end="soon")

    report = company.run()

    assert [(one.subject, one.code) for one in report.issues] == [("leaver", "rule-failed")]
    assert "ParseDate" in report.issues[0].message
    assert "soon" not in report.issues[0].message
    assert company.accounts()["leaver"]["active"] is True
