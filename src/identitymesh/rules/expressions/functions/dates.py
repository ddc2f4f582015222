"""Dates, which travel as RFC 3339 text: a day (`2026-11-22`), or an instant in UTC (`2026-11-22T08:30:00Z`)."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import Final

from identitymesh.errors import EvaluationError
from identitymesh.rules.expressions.calendar import Calendar, zone_named
from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.functions.date_texts import (
    Moment,
    form_complaint,
    read,
    read_as,
    readable_complaint,
    write,
    write_as,
)
from identitymesh.rules.expressions.kinds import INTEGER, TEXT

_LENGTHS: Final = {
    "ww": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "n": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_MONTHS: Final = {"yyyy": 12, "q": 3, "m": 1}
_INTERVALS: Final = "`yyyy` years, `q` quarters, `m` months, `ww` weeks, `d` days, `h` hours, `n` minutes, `s` seconds"


def _today(calendar: Calendar) -> str:
    return calendar.today


def _now(calendar: Calendar) -> str:
    return calendar.instant


def _parse_date(calendar: Calendar, text: str, form: str | None = None) -> str:
    return write(read("ParseDate", text, calendar.zone) if form is None else read_as(text, form, calendar.zone))


def _format_date(text: str, form: str, zone: str = "UTC") -> str:
    return write_as(read("FormatDate", text), form, zone_named(zone) or UTC)


def _date_add(interval: str, number: int, text: str) -> str:
    moment = read("DateAdd", text)
    try:
        if months := _MONTHS.get(interval.lower()):
            return write(_months_later(moment, months * number))
        length = _LENGTHS[interval.lower()] * number
        if length % timedelta(days=1) and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        return write(moment + length)
    except (ValueError, OverflowError):
        raise EvaluationError("DateAdd: the result is no date of the years 1 to 9999") from None


def _months_later(moment: Moment, months: int) -> Moment:
    """The same day of another month, or its last day where it has no such day."""
    years, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    if not date.min.year <= years <= date.max.year:
        raise ValueError
    return moment.replace(year=years, month=month + 1, day=min(moment.day, monthrange(years, month + 1)[1]))


def _date_diff(interval: str, first: str, second: str) -> int:
    one, other = read("DateDiff", first), read("DateDiff", second)
    name = interval.lower()
    if months := _MONTHS.get(name):
        return _number(other, months) - _number(one, months)
    days = other.toordinal() - one.toordinal()
    if name in ("d", "ww"):
        return days if name == "d" else _whole(days, 7)
    elapsed = _instant(other) - _instant(one)
    return _whole(elapsed // timedelta(seconds=1), _LENGTHS[name] // timedelta(seconds=1))


def _number(moment: Moment, months: int) -> int:
    """Which year, quarter or month this is, counted from the beginning."""
    return (moment.year * 12 + moment.month - 1) // months


def _instant(moment: Moment) -> datetime:
    return moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


def _whole(number: int, length: int) -> int:
    """Whole lengths, towards zero."""
    return number // length if number >= 0 else -(-number // length)


def _interval_complaint(interval: str) -> str:
    return "" if interval.lower() in _MONTHS | _LENGTHS else "is none of yyyy, q, m, ww, d, h, n, s"


def _zone_complaint(name: str) -> str:
    return "" if zone_named(name) else "is no time zone that is known, such as Europe/Berlin"


_INTERVAL: Final = Parameter("interval", TEXT, complaint=_interval_complaint)

FUNCTIONS: Final = (
    Function(
        name="Today",
        summary="The day on which the rules are evaluated, in the time zone of the mesh.",
        parameters=(),
        result=TEXT,
        call=_today,
        volatile=True,
        calendar=True,
        notes="A day such as `2026-11-22`; compare it with days. The zone is `timezone` of the definition, UTC if "
        "there is none. Whoever becomes due is evaluated again by the next run, without any change at a source. The "
        "examples of this page are evaluated on 2026-11-22 at 08:30 UTC.",
        examples=(
            Example("Today()", {}, "2026-11-22"),
            Example("[end] == null or ParseDate([end]) >= Today()", {"end": "2026-11-22"}, True),
            Example("[end] == null or ParseDate([end]) >= Today()", {"end": "2026-11-21"}, False),
            Example('DateAdd("d", 14, Today()) >= [start]', {"start": "2026-12-06"}, True),
        ),
    ),
    Function(
        name="Now",
        summary="The instant at which the rules are evaluated, in UTC.",
        parameters=(),
        result=TEXT,
        call=_now,
        volatile=True,
        calendar=True,
        notes="One instant for everybody of a run, such as `2026-11-22T08:30:00Z`; compare it with instants.",
        examples=(
            Example("Now()", {}, "2026-11-22T08:30:00Z"),
            Example("ParseDate([expires]) > Now()", {"expires": "2026-11-22T10:00:00+01:00"}, True),
        ),
    ),
    Function(
        name="ParseDate",
        summary="A text that a source has as a date: a day stays a day, a time becomes an instant in UTC.",
        parameters=(
            Parameter("text", TEXT, many="each"),
            Parameter("format", TEXT, optional=True, complaint=readable_complaint),
        ),
        result=TEXT,
        call=_parse_date,
        calendar=True,
        notes="Without `format` the text is RFC 3339 (a space may stand for the `T`) or the generalised time of "
        "directories. With it, its parts are those of FormatDate; `yy` is 1950 to 2049. A time without zone is one of "
        "the mesh's zone: of an hour that a clock shows twice the first is meant, and what it skips is as much later. "
        "An empty text is no date; ask `IsNullOrEmpty` first where a source has such.",
        examples=(
            Example("ParseDate([end])", {"end": "2026-11-22"}, "2026-11-22"),
            Example("ParseDate([end])", {"end": "2026-11-22 08:30:00+02:00"}, "2026-11-22T06:30:00Z"),
            Example("ParseDate([end])", {"end": "20261122083000.0Z"}, "2026-11-22T08:30:00Z"),
            Example('ParseDate([end], "dd.MM.yyyy")', {"end": "22.11.2026"}, "2026-11-22"),
            Example('ParseDate([end], "M/d/yy HH:mm")', {"end": "2/3/26 17:05"}, "2026-02-03T17:05:00Z"),
            Example("ParseDate([end])", {}, None),
        ),
    ),
    Function(
        name="FormatDate",
        summary="A date or time in the form that a target wants.",
        parameters=(
            Parameter("date", TEXT, many="each"),
            Parameter("format", TEXT, complaint=form_complaint),
            Parameter("zone", TEXT, optional=True, complaint=_zone_complaint),
        ),
        result=TEXT,
        call=_format_date,
        grows=True,
        notes="The parts of `format` are those of .NET: `yyyy` `yy` `MM` `M` `dd` `d` `HH` `H` `mm` `m` `ss` `s`. "
        "Other letters stand in single quotes, everything else stands for itself. The date is RFC 3339, with or "
        "without a time; a time is turned to UTC, or to `zone`, and one without zone is UTC already. A date without "
        "time starts at 00:00, wherever that is.",
        examples=(
            Example('FormatDate([start], "dd.MM.yyyy")', {"start": "2026-11-22"}, "22.11.2026"),
            Example(
                'FormatDate([start], "yyyy-MM-dd HH:mm:ss")', {"start": "2026-11-22T08:30:00Z"}, "2026-11-22 08:30:00"
            ),
            Example(
                "FormatDate([start], \"yyyyMMddHHmmss'Z'\")",
                {"start": "2026-11-22T08:30:00+02:00"},
                "20261122063000Z",
            ),
            Example(
                'FormatDate([start], "yyyy-MM-dd", "Europe/Berlin")', {"start": "2026-11-21T23:30:00Z"}, "2026-11-22"
            ),
            Example('FormatDate([start], "M/d/yy")', {"start": "2026-02-03"}, "2/3/26"),
            Example('FormatDate([start], "yyyy")', {}, None),
        ),
    ),
    Function(
        name="DateAdd",
        summary="A date so many intervals later, or earlier for a negative number.",
        parameters=(_INTERVAL, Parameter("number", INTEGER), Parameter("date", TEXT, many="each")),
        result=TEXT,
        call=_date_add,
        notes=f"Intervals: {_INTERVALS}. A day of a month that has none becomes its last day. A day is 24 hours; with "
        "hours, minutes or seconds a day becomes an instant, counted from 00:00 UTC.",
        examples=(
            Example('DateAdd("d", -14, [start])', {"start": "2026-11-22"}, "2026-11-08"),
            Example('DateAdd("m", 3, [start])', {"start": "2026-11-30"}, "2027-02-28"),
            Example('DateAdd("h", 36, [start])', {"start": "2026-11-22"}, "2026-11-23T12:00:00Z"),
            Example('DateAdd("yyyy", 1, [start])', {"start": "2028-02-29T10:00:00Z"}, "2029-02-28T10:00:00Z"),
            Example('DateAdd("d", 1, [start])', {}, None),
        ),
    ),
    Function(
        name="DateDiff",
        summary="How many intervals the second date is after the first; negative if it is before.",
        parameters=(_INTERVAL, Parameter("date1", TEXT), Parameter("date2", TEXT)),
        result=INTEGER,
        call=_date_diff,
        notes=f"Intervals: {_INTERVALS}. Years, quarters, months and days are counted by the calendar (from "
        "31 December to 1 January is a year), in UTC; weeks, hours, minutes and seconds only when they are over.",
        examples=(
            Example('DateDiff("d", [start], [end])', {"start": "2026-11-22", "end": "2026-12-01"}, 9),
            Example('DateDiff("yyyy", [start], [end])', {"start": "2026-12-31", "end": "2027-01-01"}, 1),
            Example('DateDiff("ww", [start], [end])', {"start": "2026-11-22", "end": "2026-11-09"}, -1),
            Example('DateDiff("h", [start], [end])', {"start": "2026-11-22", "end": "2026-11-22T08:30:00Z"}, 8),
            Example('DateDiff("d", Today(), [end]) <= 30', {"end": "2026-12-22"}, True),
            Example('DateDiff("d", [start], [end])', {"start": "2026-11-22"}, None),
        ),
    ),
)
