"""One audit record, and the narrow protocol of what keeps them.

An action is ``thing.verb`` in lower case: ``secret.set``, ``secret.open``,
``secret.reveal``, ``secret.delete``, ``secret.verify``, ``secret.audience``,
``keyring.create``, ``definition.apply``, ``plan.approve``, ``run.start``,
``identity.create``, ``identity.change``, ``identity.leave``, ...

A payload says what happened in names, numbers and, for people, values before and
after. It never holds a credential: a :class:`~identitymesh.redaction.Secret` in it is a
``TypeError``, not a mask, because it should not have come this far.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from identitymesh.model.attributes import Value, dump

_ACTION: Final = re.compile(r"[a-z][a-z-]*(?:\.[a-z][a-z-]*)+\Z")

DONE: Final = "done"
REFUSED: Final = "refused"
FAILED: Final = "failed"


@dataclass(slots=True)  # frozen in spirit: one is made for each person of a first synchronisation
class Record:
    """Something that happened. ``at`` is filled in when it is stored, unless given."""

    action: str
    subject: str
    actor: str
    outcome: str = DONE
    run: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None

    def __post_init__(self) -> None:
        if _ACTION.match(self.action) is None:
            raise ValueError(f"{self.action!r} is not an audit action; thing.verb is expected")


class AuditTrail(Protocol):
    """Appends records inside the transaction of the caller: what is not recorded did not happen."""

    def append(self, records: Iterable[Record]) -> int:
        """Store all of them in order, in one batch; answers how many. Fit for a million."""


def person_record(
    action: str,
    identity: str,
    *,
    actor: str,
    run: str | None = None,
    outcome: str = DONE,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
    **details: Any,
) -> Record:
    """What happened to a person: values before and after, and details such as source, rule or confidence."""
    payload: dict[str, Any] = dict(details)
    if before is not None:
        payload["before"] = before
    if after is not None:
        payload["after"] = after
    return Record(action, identity, actor, outcome, run, payload)


def encode_payload(payload: Mapping[str, Any]) -> str:
    """Canonical JSON text (sorted names, no spaces).

    Raises:
        TypeError: something in it is no JSON value, above all a ``Secret``.
    """
    return dump(payload if type(payload) is dict else dict(payload)).decode()
