"""What is known about secrets except their values. One bad row gives one bad line, never a failed list.

Imports little: `identitymesh secrets list` is to answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from identitymesh.errors import AudienceRefused, KeyringError, ReferenceInvalid
from identitymesh.secrets.keyrings import KeyringSession, KeyringView
from identitymesh.secrets.ledger import Destination, decode_audience, read_audience
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import LedgerRow


class LedgerView(KeyringView, Protocol):
    """The part of a snapshot that a list needs."""

    def ledger(self) -> Mapping[str, LedgerRow]:
        """All rows, by ref."""


@dataclass(frozen=True, slots=True)
class SecretProperties:
    """All that is known about a secret except its value. ``problem`` says in words what is wrong with its row."""

    ref: str
    keyring: str
    owner: str | None
    description: str | None
    cadence_days: int | None
    audience: tuple[Destination, ...]
    current_version: str | None
    pending_version: str | None
    created: datetime
    changed: datetime
    last_used: datetime | None
    last_used_version: str | None
    last_used_by: str | None
    expires: datetime | None = None
    problem: str | None = None
    follow: str = "current"


def read_properties(
    snapshot: AbstractContextManager[LedgerView], host: Path, means: Means = NO_MEANS
) -> Sequence[SecretProperties]:
    """Every ledger row as properties, by ref. The keyrings prove its audience, where this host can open them."""
    with snapshot as view:
        session = KeyringSession(host, view, means=means)
        ledger = view.ledger()
    return [_properties(ledger[ref], session) for ref in sorted(ledger)]


def _properties(row: LedgerRow, session: KeyringSession) -> SecretProperties:
    problem: str | None = None
    audience: tuple[Destination, ...] = ()
    try:
        audience = tuple(sorted(decode_audience(row.audience)))
        SecretReference(row.ref)
        read_audience(session.open(row.keyring), row)
    except (AudienceRefused, ReferenceInvalid) as error:
        problem = str(error)
    except ValueError:
        problem = f"{row.ref}: its audience is not readable"
    except KeyringError:
        pass  # a list needs no key; `doctor` and `verify` say what is wrong with the keyring
    return SecretProperties(
        ref=row.ref,
        keyring=row.keyring,
        owner=row.owner,
        description=row.description,
        cadence_days=row.cadence_days,
        audience=audience,
        current_version=row.current_version,
        pending_version=row.pending_version,
        created=row.created,
        changed=row.changed,
        last_used=row.last_used,
        last_used_version=row.last_used_version,
        expires=row.expires,
        last_used_by=row.last_used_by,
        problem=problem,
        follow=row.follow,
    )
