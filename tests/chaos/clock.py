"""The clock of a process, moved: whatever the product asks for the time is told another one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

PACKAGE = "identitymesh"


class Moved(datetime):
    """A ``datetime`` whose ``now`` is that of the machine, or a fixed one, and an offset."""

    ahead = timedelta()
    fixed: datetime | None = None

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        moment = datetime.now(tz) if cls.fixed is None else cls.fixed.astimezone(tz)
        return moment + cls.ahead


def install() -> None:
    """Every module of the product that is imported by now takes ``Moved`` for ``datetime``."""
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE) and getattr(module, "datetime", None) is datetime:
            vars(module)["datetime"] = Moved


def step(seconds: float) -> None:
    """From now on the clock is so much further than it would be; back, when negative."""
    Moved.ahead += timedelta(seconds=seconds)


def stand(moment: datetime) -> None:
    """The clock stands at this moment, until it is put to another."""
    Moved.fixed = moment


def import_all() -> None:
    """Everything that a run may import later, so that it is there before the clock is replaced."""
    import importlib
    import pkgutil

    import identitymesh

    def skipped(name: str) -> Any:
        del name

    for found in pkgutil.walk_packages(identitymesh.__path__, f"{PACKAGE}.", onerror=skipped):
        if not found.name.startswith((f"{PACKAGE}.__main__", f"{PACKAGE}.storage.migrations", f"{PACKAGE}.child")):
            try:
                importlib.import_module(found.name)
            except ImportError:  # an extra that is not installed here, or a module of another system
                continue


def now() -> datetime:
    """What the moved clock says, with its zone."""
    return Moved.now(UTC)
