"""For which instant rules about dates are evaluated. A clock that jumped must not make anybody join or leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

BACK: Final = timedelta(days=1)  # a clock that is put right, or another host's
FORWARD: Final = timedelta(days=35)  # runs started by hand once a month


class Trusted(NamedTuple):
    """``now`` for the rules; ``doubt`` says why that is not what the clock says."""

    now: datetime
    doubt: str = ""


def trusted(clock: datetime, mark: datetime | None) -> Trusted:
    """``mark``: the instant of the last evaluation. Small steps back change nothing, large steps are not believed."""
    if mark is None or mark <= clock <= mark + FORWARD:
        return Trusted(clock)
    if mark - BACK <= clock < mark:
        return Trusted(mark)
    way = "forward" if clock > mark else "back"
    days = abs(clock - mark) // timedelta(days=1)
    return Trusted(
        mark,
        f"the clock says {_text(clock)}, {days:,} days {way} of the last evaluation; rules about dates still take it "
        f"to be {_text(mark)}. If the clock is right: identitymesh plan --accept-clock",
    )


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
