"""When connectors are due: daylight saving, staggering, and expressions that are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from identitymesh.connectors.catalogue import kinds
from identitymesh.definition.changes import compare
from identitymesh.definition.reading import Definition, read
from identitymesh.definition.schedules import Schedule, check, schedules
from identitymesh.errors import DefinitionRefused, Problem

BERLIN = "Europe/Berlin"


def due(expression: str, start: datetime, count: int, zone: str = BERLIN) -> list[str]:
    found, moment = [], start
    for _ in range(count):
        moment = Schedule("hr", "full", expression, zone).after(moment)
        found.append(f"{moment:%d. %H:%M}")
    return found


def test_an_hour_that_is_left_out_is_due_once_as_soon_as_the_clock_goes_on() -> None:
    # 29 March 2026, 02:00 CET becomes 03:00 CEST, which is 01:00 UTC
    assert due("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == ["29. 01:00", "30. 00:30"]
    assert due("0,30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == ["29. 01:00", "30. 00:00"]


def test_an_hour_that_comes_twice_is_due_the_first_time_alone() -> None:
    # 25 October 2026, 03:00 CEST becomes 02:00 CET, which is 01:00 UTC
    assert due("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == ["25. 00:30", "26. 01:30"]
    for minutes in range(0, 120, 7):  # wherever between the two one looks, the second is none
        moment = datetime(2026, 10, 25, 0, 30, tzinfo=UTC) + timedelta(minutes=minutes)
        assert due("30 2 * * *", moment, 1) == ["26. 01:30"]


def test_what_repeats_goes_on_through_both() -> None:
    spring = due("*/30 * * * *", datetime(2026, 3, 29, 0, 10, tzinfo=UTC), 4)
    assert spring == ["29. 00:30", "29. 01:00", "29. 01:30", "29. 02:00"]
    autumn = due("*/30 * * * *", datetime(2026, 10, 25, 0, 10, tzinfo=UTC), 4)
    assert autumn == ["25. 00:30", "25. 01:00", "25. 01:30", "25. 02:00"]


def test_connectors_are_staggered_always_the_same_way_and_never_by_much() -> None:
    day, moment = timedelta(minutes=1), datetime(2026, 5, 1, 2, tzinfo=UTC)
    found = {name: Schedule(name, "full", "0 2 * * *").stagger(moment, day) for name in ("hr", "crm", "ad", "crm2")}
    assert found == {name: Schedule(name, "full", "0 2 * * *").stagger(moment, day) for name in found}
    assert len(set(found.values())) > 1
    assert all(timedelta() <= one < day for one in found.values())
    every_minute = Schedule("hr", "delta", "* * * * *")
    assert every_minute.stagger(moment, timedelta(hours=1)) <= timedelta(seconds=15)
    assert every_minute.stagger(moment, timedelta()) == timedelta()


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("@daily", "five fields"),
        ("61 * * * *", "the field minute"),
        ("0 25 * * *", "the field hour"),
        ("0 0 30 2 *", "a day that no month has"),
        ("0 0 31 4,6 *", "a day that no month has"),
        ("0 0 * * MUN", "the field day-of-week"),
        (5, "text in quotes"),
        ("", "five fields"),
    ],
)
def test_a_wrong_expression_is_named(expression: object, told: str) -> None:
    assert told in check(expression)


@pytest.mark.parametrize("expression", ["*/15 * * * *", "0 2 * * *", "0 0 29 2 *", "30 6 * * MON-FRI", "0 0 L * *"])
def test_a_right_one_is_not(expression: str) -> None:
    assert check(expression) == ""


TEXT = """\
version: 1
connectors:
  hr:
    type: sql
    url: sqlite:///hr.db
    objects: {user: {table: p, key: id}}
mesh: {user: {anchor: id, attributes: [{name: id, type: string}]}}
rules:
  join: [{name: j, connector: hr, object: user, source: id, target: id, create: true}]
  flow: [{name: f, connector: hr, object: user, target: id, value: "[id]", confidence: 1}]
"""


def definition(times: str = "", head: str = "") -> Definition:
    text = TEXT.replace("    url:", f"{times}    url:").replace("version: 1\n", f"version: 1\n{head}")
    return read(text, source="mesh.yaml", kinds=kinds())


def problems(times: str = "", head: str = "") -> tuple[Problem, ...]:
    with pytest.raises(DefinitionRefused) as refused:
        definition(times, head)
    return refused.value.problems


def test_a_wrong_schedule_is_an_error_at_its_line() -> None:
    (one,) = problems('    full_schedule: "0 2 * *"\n')
    assert (one.line, one.field) == (5, "connectors.hr.full_schedule")
    assert "five fields" in one.message


def test_a_zone_that_nobody_knows_is_an_error() -> None:
    for wrong in ("Europe/Bielefeld", "../etc/passwd", "''"):
        (one,) = problems(head=f"timezone: {wrong}\n")
        assert (one.line, one.field) == (2, "timezone")
        assert "no time zone" in one.message


def test_a_source_of_people_without_a_full_schedule_is_warned_of() -> None:
    (warning,) = definition().warnings
    assert warning.field == "connectors.hr"
    assert "no full_schedule" in warning.message
    assert len(definition('    schedule: "*/5 * * * *"\n').warnings) == 1
    assert definition('    full_schedule: "0 2 * * *"\n').warnings == ()


def test_the_schedules_of_a_definition() -> None:
    times = '    schedule: "*/5 * * * *"\n    full_schedule: "0 2 * * *"\n'
    found = list(schedules(definition(times, "timezone: Europe/Berlin\n")))
    assert found == [Schedule("hr", "full", "0 2 * * *", BERLIN), Schedule("hr", "delta", "*/5 * * * *", BERLIN)]


def test_a_change_of_times_is_told_and_nobody_waits_for_it() -> None:
    changes = compare(definition(), definition('    full_schedule: "0 2 * * *"\n', "timezone: Europe/Berlin\n"))
    assert changes.lines == (
        "~ connector hr: full_schedule",
        "~ timezone: Europe/Berlin (before: UTC)",
    )
    assert changes.waiting == {}
    assert changes.rules is False
