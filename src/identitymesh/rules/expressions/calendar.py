"""What time it is for expressions: one instant for a whole run, and the zone of the mesh.

Nothing here reads a clock: whoever evaluates says what the instant is.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Calendar:
    """``now``: the instant (aware). ``zone``: where days begin. ``today`` and ``instant`` are their texts."""

    __slots__ = ("instant", "now", "today", "zone")

    def __init__(self, now: datetime, zone: tzinfo = UTC) -> None:
        self.zone = zone
        self.move(now)

    def move(self, now: datetime) -> None:
        """Another instant; for those who look when an answer changes."""
        self.now = now.astimezone(UTC)
        self.instant = write_instant(self.now)
        self.today = self.now.astimezone(self.zone).date().isoformat()

    def next_midnight(self) -> datetime:
        """When the next day begins in the zone."""
        return self.start_of(self.now.astimezone(self.zone).date() + timedelta(days=1))

    def start_of(self, day: date) -> datetime:
        """The first instant of a day in the zone, also where the clock skips midnight."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


def write_instant(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


@cache
def zone_named(name: str) -> tzinfo | None:
    """A zone of the IANA database, ``None`` if there is none of that name."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
