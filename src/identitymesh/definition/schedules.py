"""When connectors are read: cron expressions in one time zone, and when each is due next. Pure.

An expression has five fields as in crontab(5). What names hours or minutes follows the clock on the wall as Debian's
cron does: a time that daylight saving leaves out is due as soon as the clock goes on, one that comes twice is due the
first time; what repeats (``*/15 * * * *``) just goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from identitymesh.definition.reading import Definition

Mode = Literal["full", "delta", "housekeeping"]
FIELDS: Final = "minute hour day-of-month month day-of-week"
_COUNT: Final = 5
_SHARE: Final = 4  # at most this part of the time between two due moments is used to stagger them


@dataclass(frozen=True, slots=True)
class Schedule:
    """One connector, how it is read, and when. ``zone`` is an IANA name."""

    connector: str
    mode: Mode
    expression: str
    zone: str = "UTC"

    def after(self, moment: datetime) -> datetime:
        """The first due moment after ``moment``, UTC."""
        for found in CronSim(self.expression, moment.astimezone(ZoneInfo(self.zone))):
            due = found.astimezone(UTC)
            if due > moment:  # in an hour that comes twice the next one can lie before
                return due
        raise ValueError(f"{self.expression} is never due")  # check() has refused it

    def stagger(self, due: datetime, most: timedelta) -> timedelta:
        """How much later this connector begins than the expression says: always the same, other for each connector.

        At most ``most``, and at most a quarter of the time to the next one.
        """
        room = min(most, (self.after(due) - due) / _SHARE).total_seconds()
        digest = hashlib.sha256(f"{self.connector}/{self.mode}".encode()).digest()
        return timedelta(seconds=int(room * int.from_bytes(digest[:4]) / 2**32))


def check(expression: object) -> str:
    """What is wrong with a cron expression, in words; empty when nothing is."""
    if not isinstance(expression, str):
        return f'a schedule is text in quotes, such as "0 2 * * *": {FIELDS}'
    if len(expression.split()) != _COUNT:
        return f'a schedule has five fields, such as "0 2 * * *": {FIELDS}'
    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        words = str(error).replace("Bad ", "")
        return f"the field {words} cannot be understood, or names a day that no month has; fields: {FIELDS}"
    except StopIteration:
        return "this is never due: no such day comes"
    return ""


def check_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: this host knows none of that name.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"no time zone {name[:60]!r} is known here; names are such as Europe/Berlin (Debian: package tzdata)"
        ) from None
    return name


def schedules(definition: Definition) -> Iterator[Schedule]:
    """Those of a definition, full before delta, in its order."""
    for name, connector in definition.connectors.items():
        settings, zone = connector.settings, definition.shape.timezone
        if settings.full_schedule:
            yield Schedule(name, "full", settings.full_schedule, zone)
        if settings.schedule:
            yield Schedule(name, "delta", settings.schedule, zone)
