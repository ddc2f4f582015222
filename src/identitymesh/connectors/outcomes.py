"""What became of one change at a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from identitymesh.connectors.contract import Entry
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    KeyringError,
    ObjectError,
    PermissionDenied,
    SecretError,
    Throttled,
    TimedOut,
    Unreachable,
)

NOT_CARRIED_OUT: Final = (Unreachable, Throttled)  # what a call that raises one of these was to do did not happen
UNUSABLE: Final = (*NOT_CARRIED_OUT, CredentialRefused, ConnectorMisconfigured)  # the system as a whole, for now
NOT_SENT: Final = (*UNUSABLE, SecretError, KeyringError)
ANSWERED: Final = (ObjectError, PermissionDenied)  # the system looked at the change and said no


@contextmanager
def after_a_change() -> Iterator[None]:
    """The rest of a call that has changed something already.

    Raises:
        ConnectionLost: in place of every error which would say of the whole call that it did nothing.
    """
    try:
        yield
    except (ConnectionLost, TimedOut):
        raise
    except (ConnectorError, SecretError, KeyringError) as error:
        raise ConnectionLost(f"a part of the change was carried out, and then: {error}", hint=error.hint) from error


class Verdict(StrEnum):
    """``DONE`` it already was as wanted, nothing was written. ``WRITTEN`` it was changed or deleted just now.

    ``STALE`` it is neither as known nor as wanted: somebody else changed it, nothing was written.
    ``MISSING`` there is no such object any more, nothing was written.
    """

    DONE = "done"
    WRITTEN = "written"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """``entry`` is the object as it is at the target now; ``None`` after a delete and when it is missing.

    ``unsure``: it may have been changed by this very call, wholly or in part: the answer of an earlier try was lost.
    """

    verdict: Verdict
    entry: Entry | None = None
    unsure: bool = False

    @property
    def settled(self) -> bool:
        """The target is as wanted."""
        return self.verdict in {Verdict.DONE, Verdict.WRITTEN}
