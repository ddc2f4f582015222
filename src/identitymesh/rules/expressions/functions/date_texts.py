"""Dates as text: RFC 3339, the forms of .NET, and the generalised time of directories (RFC 4517, 3.3.13)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import Final

from identitymesh.errors import EvaluationError
from identitymesh.rules.expressions.calendar import write_instant

_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)
_GENERALIZED: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)?(\d\d)?(?:[.,]\d+)?(Z|[+-]\d{4})", re.ASCII)
_TOKEN: Final = re.compile(r"yyyy|yy|MM|M|dd|d|HH|H|mm|m|ss|s|'[^']*'|[^A-Za-z']")
_QUOTED: Final = re.compile(r"'[^']*'")
_RUN: Final = re.compile(r"([A-Za-z])\1*")
_PARTS: Final = {"yyyy", "yy", "MM", "M", "dd", "d", "HH", "H", "mm", "m", "ss", "s"}
_FIELDS: Final = {"y": "year", "M": "month", "d": "day", "H": "hour", "m": "minute", "s": "second"}
_PIVOT: Final = 50  # of years with two digits, as in .NET: 49 is 2049, 50 is 1950

Moment = date | datetime  # a day, or an instant in UTC


def read(function: str, text: str, zone: tzinfo = UTC) -> Moment:
    """A date, or an instant in UTC; a time without zone is one of ``zone``.

    Raises:
        EvaluationError: the text is no date in a form that is known, or there is no such date.
    """
    found = _RFC_3339.fullmatch(text)
    try:
        if found is None:
            return _generalized(function, text)
        day, time, offset = found.groups()
        if time is None:
            return date.fromisoformat(day)
        moment = datetime.fromisoformat(f"{day}T{time}{(offset or '').upper()}")
        return (moment if offset else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError(f"{function}: there is no such date") from None


def _generalized(function: str, text: str) -> datetime:
    found = _GENERALIZED.fullmatch(text)
    if found is None:
        raise EvaluationError(f"{function}: the text is no RFC 3339 date")
    *numbers, offset = found.groups(default="0")
    year, month, day, hour, minute, second = map(int, numbers)
    written = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    return datetime.fromisoformat(written + (offset if offset == "Z" else f"{offset[:3]}:{offset[3:]}")).astimezone(UTC)


def read_as(text: str, form: str, zone: tzinfo) -> Moment:
    """A text in the form of .NET: a date, or, where the form has hours, an instant in UTC."""
    found = _reader(form).fullmatch(text)
    if found is None:
        raise EvaluationError("ParseDate: the text is not of that format")
    parts = {"month": 1, "day": 1, **{name: int(digits) for name, digits in found.groupdict().items()}}
    if "short" in parts:
        short = parts.pop("short")
        parts["year"] = short + (1900 if short >= _PIVOT else 2000)
    try:
        if "hour" not in parts:
            return date(parts["year"], parts["month"], parts["day"])
        return datetime(**parts, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError("ParseDate: there is no such date") from None


@cache
def _reader(form: str) -> re.Pattern[str]:
    pattern = ""
    for part in _TOKEN.findall(form):
        if part not in _PARTS:
            pattern += re.escape(part.strip("'"))
            continue
        name = "short" if part == "yy" else _FIELDS[part[0]]
        digits = rf"\d{{{len(part)}}}" if len(part) > 1 else r"\d{1,2}"
        pattern += f"(?P<{name}>{digits})"
    return re.compile(pattern, re.ASCII)


def write(moment: Moment) -> str:
    """RFC 3339: a day as ``yyyy-MM-dd``, an instant in UTC."""
    return write_instant(moment) if isinstance(moment, datetime) else moment.isoformat()


def write_as(moment: Moment, form: str, zone: tzinfo) -> str:
    """In the form of .NET; an instant as the clocks of ``zone`` show it, a day at 00:00."""
    if isinstance(moment, datetime):
        try:
            local = moment.astimezone(zone)
        except OverflowError:
            raise EvaluationError("FormatDate: there is no such date") from None
    else:
        local = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return "".join(_written(local, part) for part in _TOKEN.findall(form))


def _written(moment: datetime, part: str) -> str:
    name = _FIELDS.get(part[0])
    if name is None:
        return part.strip("'")
    number = getattr(moment, name)
    if part == "yy":
        number %= 100
    return f"{number:0{len(part)}d}"


def form_complaint(form: str) -> str:
    """Whole runs of a letter are judged, because `yyy` would be read as two parts, which nobody means."""
    bare = _QUOTED.sub(" ", form)
    if "'" in bare:
        return "has a single quote that is not closed"
    known = all(run.group() in _PARTS for run in _RUN.finditer(bare))
    return "" if known else "has letters that mean nothing; put them in single quotes"


def readable_complaint(form: str) -> str:
    """What else is wrong with a form that dates are read by."""
    if complaint := form_complaint(form):
        return complaint
    parts = [part for part in _TOKEN.findall(form) if part in _PARTS]
    fields = ["y" if part[0] == "y" else part[0] for part in parts]
    if len(set(fields)) < len(fields):
        return "has the same part twice"
    needed = "yMd" if set(fields) & set("Hms") else "y"
    return "" if set(needed) <= set(fields) else "lacks the year, or the day of a time"
