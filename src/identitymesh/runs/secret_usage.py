"""Who uses which secret: the ledger beside the definition in force. Pure: nothing is read or opened here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.properties import SecretProperties

SOON = timedelta(days=14)

State = Literal["in use", "missing", "unused", "application", "initial"]


@dataclass(frozen=True, slots=True)
class SecretUse:
    """One setting of one connector that names a secret, and where that connector sends it."""

    connector: str
    field: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretUsage:
    """One ref: what is known about it (``None``: nothing is stored), and who names it."""

    ref: str
    state: State
    uses: tuple[SecretUse, ...]
    secret: SecretProperties | None


@dataclass(frozen=True, slots=True)
class DueSecret:
    """A secret with a cadence: when its value should be changed. ``overdue_days`` is negative while there is time."""

    ref: str
    owner: str | None
    cadence_days: int
    changed: datetime
    due: datetime
    overdue_days: int

    @property
    def overdue(self) -> bool:
        return self.overdue_days >= 0


def usage(secrets: Iterable[SecretProperties], connectors: Iterable[ConnectorDefinition]) -> Sequence[SecretUsage]:
    """Every ref that is stored or named, sorted."""
    stored = {one.ref: one for one in secrets}
    named: dict[str, list[SecretUse]] = {}
    for connector in connectors:
        for field, ref in connector.secrets.items():
            use = SecretUse(connector.name, field, connector.endpoints)
            named.setdefault(ref.text, []).append(use)
    return [
        SecretUsage(ref, _state(stored.get(ref), ref in named), tuple(named.get(ref, ())), stored.get(ref))
        for ref in sorted({*stored, *named})
    ]


def _state(secret: SecretProperties | None, named: bool) -> State:  # noqa: FBT001 - two facts, two words
    if secret is None:
        return "missing"
    if named:
        return "in use"
    if secret.expires is not None:
        return "initial"
    return "unused" if secret.keyring == CONNECTORS else "application"


def orphans(found: Iterable[SecretUsage]) -> Sequence[SecretUsage]:
    """What does not fit together: refs that a definition names and nobody stored, and secrets that nothing uses."""
    return [one for one in found if one.state in ("missing", "unused")]


def due(secrets: Iterable[SecretProperties], now: datetime, within: timedelta = SOON) -> Sequence[DueSecret]:
    """Secrets whose cadence is over, or will be ``within`` that time; the most urgent first."""
    found = []
    for one in secrets:
        if one.cadence_days is None:
            continue
        day = one.changed + timedelta(days=one.cadence_days)
        if day - within <= now:
            late = (now - day) // timedelta(days=1)
            found.append(DueSecret(one.ref, one.owner, one.cadence_days, one.changed, day, late))
    return sorted(found, key=lambda one: (one.due, one.ref))
