"""Dates, which travel as RFC 3339 text in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from identitymesh.errors import EvaluationError
from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import TEXT

_RFC_3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
_TOKEN: Final = re.compile(r"yyyy|yy|MM|M|dd|d|HH|H|mm|m|ss|s|'[^']*'|[^A-Za-z']")
_QUOTED: Final = re.compile(r"'[^']*'")
_RUN: Final = re.compile(r"([A-Za-z])\1*")
_PARTS: Final = {"yyyy", "yy", "MM", "M", "dd", "d", "HH", "H", "mm", "m", "ss", "s"}


def _format_date(text: str, form: str) -> str:
    moment = _read(text)
    return "".join(_written(moment, part) for part in _TOKEN.findall(form))


def _read(text: str) -> datetime:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise EvaluationError("FormatDate: the text is no RFC 3339 date")
    day, time, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time or '00:00:00'}{(zone or 'Z').upper()}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EvaluationError("FormatDate: there is no such date") from None


def _written(moment: datetime, part: str) -> str:
    numbers = {"y": moment.year, "M": moment.month, "d": moment.day}
    numbers |= {"H": moment.hour, "m": moment.minute, "s": moment.second}
    number = numbers.get(part[0])
    if number is None:
        return part.strip("'")
    if part == "yy":
        number %= 100
    return f"{number:0{len(part)}d}"


def _form_complaint(form: str) -> str:
    """Whole runs of a letter are judged, because `yyy` would be read as two parts, which nobody means."""
    bare = _QUOTED.sub(" ", form)
    if "'" in bare:
        return "has a single quote that is not closed"
    known = all(run.group() in _PARTS for run in _RUN.finditer(bare))
    return "" if known else "has letters that mean nothing; put them in single quotes"


FUNCTIONS: Final = (
    Function(
        name="FormatDate",
        summary="A date or time in the form that a target wants.",
        parameters=(Parameter("date", TEXT, many="each"), Parameter("format", TEXT, complaint=_form_complaint)),
        result=TEXT,
        call=_format_date,
        grows=True,
        notes="The parts of `format` are those of .NET: `yyyy` `yy` `MM` `M` `dd` `d` `HH` `H` `mm` `m` `ss` `s`. "
        "Other letters stand in single quotes, everything else stands for itself. The date is RFC 3339, with or "
        "without a time; a time is turned to UTC, and one without zone is UTC already. A date without time starts "
        "at 00:00.",
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
            Example('FormatDate([start], "M/d/yy")', {"start": "2026-02-03"}, "2/3/26"),
            Example('FormatDate([start], "yyyy")', {}, None),
        ),
    ),
)
