"""What the tests of connectors open them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from identitymesh.connectors.catalogue import kind
from identitymesh.connectors.facade import Facade
from identitymesh.redaction import Secret


class Credentials:
    """Hands out fixed values and remembers which were asked for; ``values`` may change meanwhile."""

    def __init__(self, **values: str) -> None:
        self.values = {name.replace("__", "."): value for name, value in values.items()}
        self.opened: list[str] = []

    def __call__(self, name: str) -> Secret:
        self.opened.append(name)
        return Secret(self.values[name])


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def facade(settings: Mapping[str, Any], credentials: Credentials, *, clock: Clock | None = None) -> Facade:
    """A facade of a connector called ``crm``, whose pauses take no time."""
    found = kind(settings["type"])
    checked = found.settings.model_validate(settings)
    clock = clock or Clock()
    return Facade(
        "crm",
        found.open(checked, credentials),
        kind=found.name,
        timeout=checked.timeout,  # type: ignore[attr-defined]
        sleep=clock.sleep,
        clock=clock,
        chance=lambda: 1.0,
    )
