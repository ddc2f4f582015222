"""Dates, time zones, and when an answer about today changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identitymesh.errors import EvaluationError, ExpressionError
from identitymesh.model.attributes import Value
from identitymesh.rules.expressions import Calendar, Changing, changing, check, compile_one

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SANTIAGO = ZoneInfo("America/Santiago")


def evaluated(text: str, now: datetime = NOW, zone: ZoneInfo | None = None, **values: Value) -> Value | None:
    return compile_one(check(text, names=None), Calendar(now, zone or UTC))(values)


def changes(text: str, now: datetime = NOW, zone: ZoneInfo | None = None) -> Changing:
    found = changing([check(text, names=None)], Calendar(now, zone or UTC))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("now", "zone", "today"),
    [
        (datetime(2026, 11, 22, 22, 59, tzinfo=UTC), BERLIN, "2026-11-22"),
        (datetime(2026, 11, 22, 23, 0, tzinfo=UTC), BERLIN, "2026-11-23"),
        (datetime(2026, 6, 22, 21, 59, tzinfo=UTC), BERLIN, "2026-06-22"),
        (datetime(2026, 6, 22, 22, 0, tzinfo=UTC), BERLIN, "2026-06-23"),
        (datetime(2026, 11, 22, 0, 0, tzinfo=UTC), SANTIAGO, "2026-11-21"),
    ],
)
def test_today_is_the_day_of_the_zone(now: datetime, zone: ZoneInfo, today: str) -> None:
    assert evaluated("Today()", now, zone) == today
    assert evaluated("Now()", now, zone) == now.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22 08:30", "2026-11-22T07:30:00Z"),
        ("2026-06-22T08:30:00", "2026-06-22T06:30:00Z"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),  # twice: the first
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),  # skipped: an hour later, 03:30 on the clock
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"),
        ("20261025003000+0100", "2026-10-24T23:30:00Z"),
        ("2026-11-22", "2026-11-22"),
    ],
)
def test_a_time_without_zone_is_one_of_the_mesh(text: str, expected: str) -> None:
    assert evaluated("ParseDate([x])", zone=BERLIN, x=text) == expected


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("dd.MM.yyyy yy", "the same part twice"),
        ("dd.MM", "lacks the year"),
        ("yyyy HH:mm", "lacks the year, or the day of a time"),
        ("yyyy-MM-ddTHH:mm", "letters that mean nothing"),
    ],
)
def test_forms_that_nothing_can_be_read_by(form: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        check(f'ParseDate([x], "{form}")', names=None)


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ('ParseDate([x], "dd.MM.yyyy")', "2026-11-22", "not of that format"),
        ('ParseDate([x], "dd.MM.yyyy")', "31.02.2026", "no such date"),
        ("ParseDate([x])", "20261322083000Z", "no such date"),
        ("ParseDate([x])", "", "no RFC 3339 date"),
        ('DateAdd("yyyy", 9000, [x])', "2026-11-22", "years 1 to 9999"),
        ('DateAdd("d", -9000000, [x])', "2026-11-22", "years 1 to 9999"),
        ("DateAdd([y], 1, [x])", "2026-11-22", "none of yyyy, q, m"),
        ('FormatDate("2026-11-22", "yyyy", [x])', "Europe/Atlantis", "no time zone that is known"),
    ],
)
def test_what_cannot_be_evaluated(text: str, value: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        evaluated(text, x=value, y="fortnight")


@pytest.mark.parametrize(
    ("text", "values", "due"),
    [
        ("[end] == null or ParseDate([end]) >= Today()", {"end": "2026-11-25"}, "2026-11-26T00:00:00"),
        ("[end] == null or ParseDate([end]) >= Today()", {"end": "2026-11-22"}, "2026-11-23T00:00:00"),
        ("[end] == null or ParseDate([end]) >= Today()", {"end": "2026-11-21"}, None),
        ("[end] == null or ParseDate([end]) >= Today()", {}, None),
        ("[end] == null or ParseDate([end]) >= Today()", {"end": "nonsense"}, None),
        ("[end] == null or ParseDate([end]) >= Today()", {"end": "9999-12-31"}, None),
        ("[start] <= Today()", {"start": "2026-12-01"}, "2026-12-01T00:00:00"),
        ("[start] == Today()", {"start": "2026-12-01"}, "2026-12-01T00:00:00"),
        ("[start] == Today()", {"start": "2026-11-22"}, "2026-11-23T00:00:00"),
        ('[start] <= DateAdd("d", 14, Today())', {"start": "2026-12-24"}, "2026-12-10T00:00:00"),
        ('DateAdd("m", -1, Today()) > [end]', {"end": "2027-01-31"}, "2027-03-01T00:00:00"),
        ('DateDiff("d", Today(), [end]) <= 30', {"end": "2027-01-31"}, "2027-01-01T00:00:00"),
        ("ParseDate([end]) < Now()", {"end": "2026-11-22T10:00:00+01:00"}, "2026-11-22T09:00:01"),
        ("Coalesce([a], [b]) >= Today()", {"b": "2026-11-24"}, "2026-11-25T00:00:00"),
        ('Concat("valid ", Today())', {}, "2026-11-23T00:00:00"),  # not decided: each day
        ('FormatDate(Today(), "dd.MM.") == [birthday]', {"birthday": "24.12."}, "2026-11-23T00:00:00"),
    ],
)
def test_when_an_answer_changes(text: str, values: dict[str, Value], due: str | None) -> None:
    found = changes(text).next(values)
    assert found == (datetime.fromisoformat(due).replace(tzinfo=UTC) if due else None)


def test_the_day_begins_where_the_zone_says() -> None:
    assert changes("[x] <= Today()", zone=BERLIN).next({"x": "2027-06-01"}) == datetime(2027, 5, 31, 22, tzinfo=UTC)
    assert changes("[x] <= Today()", zone=BERLIN).next({"x": "2027-01-01"}) == datetime(2026, 12, 31, 23, tzinfo=UTC)
    # Clocks in Santiago skip midnight on 6 September 2026.
    before = datetime(2026, 9, 1, tzinfo=UTC)
    due = changes("[x] <= Today()", before, SANTIAGO).next({"x": "2026-09-06"})
    assert due is not None
    assert evaluated("Today()", due, SANTIAGO) == "2026-09-06"
    assert evaluated("Today()", due - timedelta(seconds=1), SANTIAGO) == "2026-09-05"


def test_what_does_not_look_at_the_day_never_changes() -> None:
    assert changing([check("ToLower([mail])", names=None)], Calendar(NOW)) is None


dates = st.dates(min_value=NOW.date() - timedelta(days=40), max_value=NOW.date() + timedelta(days=40)).map(str)
EXPRESSIONS = (
    "[a] <= Today() and ([b] == null or [b] >= Today())",
    'DateAdd("m", 1, Today()) >= [a] or Today() == [b]',
    'IIF(DateDiff("ww", Today(), [a]) > 2, [b] != Today(), not ([b] < DateAdd("d", -3, Today())))',
    "ParseDate([a]) > Now()",
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.fixed_dictionaries({}, optional={"a": dates, "b": dates}))
def test_between_now_and_the_due_instant_nothing_changes(text: str, values: dict[str, Value]) -> None:
    """Looked at every hour of a hundred days: no answer changes before the instant that was foretold."""
    due = changes(text, zone=BERLIN).next(values)
    checked = check(text, names=None)
    calendar = Calendar(NOW, BERLIN)
    evaluate = compile_one(checked, calendar)
    first = evaluate(values)
    for hours in range(1, 2400):
        calendar.move(NOW + timedelta(hours=hours))
        if evaluate(values) != first:
            assert due is not None
            assert due <= calendar.now
            return
