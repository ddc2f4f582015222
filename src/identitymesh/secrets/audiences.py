"""Who widens an audience, and when: planning for ``apply``, and writing what was planned.

The first ``apply`` that names a ref gives it the connector that names it. A second
connector, or another host, is a change that somebody must allow by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from identitymesh.audit import Record
from identitymesh.errors import AudienceRefused, KeyringConflict, SecretMissing
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.ledger import (
    NOBODY,
    Audience,
    Destination,
    audience_mac,
    destinations,
    encode_audience,
    read_audience,
)
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import LedgerRow, SecretRows, SecretTransaction


@dataclass(frozen=True, slots=True)
class AudienceUse:
    """A definition names a secret: which connector, and every ``host:port`` that it sends to."""

    ref: SecretReference
    connector: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AudienceGrant:
    """What one ref's audience becomes; ``added`` and ``removed`` are for a diff."""

    ref: SecretReference
    before: Audience
    after: Audience
    seen_mac: bytes
    mac: bytes

    @property
    def added(self) -> tuple[Destination, ...]:
        return tuple(sorted(self.after - self.before))

    @property
    def removed(self) -> tuple[Destination, ...]:
        return tuple(sorted(self.before - self.after))


@dataclass(frozen=True, slots=True)
class AudienceConflict:
    """A use that must be allowed by name: ``identitymesh apply --allow-audience REF``."""

    ref: SecretReference
    asked: tuple[Destination, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class AudiencePlan:
    """``grants`` are to be written, ``conflicts`` to be refused, ``missing`` are refs that are not stored."""

    grants: tuple[AudienceGrant, ...] = ()
    conflicts: tuple[AudienceConflict, ...] = ()
    missing: tuple[SecretReference, ...] = ()


class Audiences:
    """Plans and writes audiences. The same actor, row and keyring rules hold for every provider."""

    def __init__(self, rows: SecretRows, host: Path, means: Means = NO_MEANS) -> None:
        self._rows = rows
        self._host = host
        self._means = means

    def plan(self, uses: Sequence[AudienceUse], allowed: Collection[SecretReference] = ()) -> AudiencePlan:
        """What these uses need. Writes nothing. Uses of one ref count in the order given.

        Raises:
            KeyringError: a keyring does not open on this host.
        """
        by_ref: dict[SecretReference, list[AudienceUse]] = {}
        for use in uses:
            by_ref.setdefault(use.ref, []).append(use)
        with self._rows.read() as view:
            session = KeyringSession(self._host, view, means=self._means)
            ledger = view.ledger([ref.text for ref in by_ref])
        grants: list[AudienceGrant] = []
        conflicts: list[AudienceConflict] = []
        for ref, named in by_ref.items():
            row = ledger.get(ref.text)
            if row is None:
                continue
            grant, conflict = _judge(ref, row, session.open(row.keyring), named, allowed=ref in allowed)
            grants += [grant] if grant else []
            conflicts += conflict
        missing = tuple(ref for ref in by_ref if ref.text not in ledger)
        return AudiencePlan(tuple(grants), tuple(conflicts), missing)

    def write(self, grants: Sequence[AudienceGrant], actor: str, transaction: SecretTransaction | None = None) -> None:
        """Write planned audiences with their audit records; inside ``transaction`` if one is given.

        Raises:
            KeyringConflict: an audience changed since the plan; plan again.
        """
        if not grants:
            return
        if transaction is not None:
            _write(transaction, grants, actor)
            return
        with self._rows.write() as own:
            _write(own, grants, actor)

    def allow(self, ref: SecretReference, connector: str, endpoints: Sequence[str], actor: str) -> None:
        """Let one connector send a value to these places, and to no other ones as before.

        Raises:
            SecretMissing: no such secret.
        """
        plan = self.plan([AudienceUse(ref, connector, tuple(endpoints))], allowed=[ref])
        if plan.missing:
            raise SecretMissing(f"{ref} is not stored", hint=f"Store it with `identitymesh secrets set {ref}`.")
        self.write(plan.grants, actor)


def _judge(
    ref: SecretReference, row: LedgerRow, document: Document, uses: Sequence[AudienceUse], *, allowed: bool
) -> tuple[AudienceGrant | None, list[AudienceConflict]]:
    """The grant of one ref, and the uses that are not allowed without being named."""
    try:
        before, intact = read_audience(document, row), True
    except AudienceRefused:
        # What an edited row says is never the ground to build on: allowing starts from nobody.
        before, intact = NOBODY, False
    after = before
    conflicts: list[AudienceConflict] = []
    for use in uses:
        asked = destinations(use.connector, use.endpoints)
        if asked <= after:
            continue
        if allowed or (intact and not after):
            # A connector that moved to another host leaves the old one behind.
            after = frozenset(item for item in after if item.connector != use.connector) | asked
        else:
            conflicts.append(AudienceConflict(ref, tuple(sorted(asked - after)), _reason(use, after, intact=intact)))
    if after == before and (intact or not allowed):
        return None, conflicts
    return AudienceGrant(ref, before, after, row.audience_mac, audience_mac(document, ref.text, after)), conflicts


def _reason(use: AudienceUse, audience: Audience, *, intact: bool) -> str:
    if not intact:
        return "its audience was edited outside Identity Mesh"
    if use.connector in {item.connector for item in audience}:
        return f"connector {use.connector} would send it to another place than before"
    return f"it belongs to {', '.join(sorted({item.connector for item in audience}))}; another connector asks for it"


def _write(transaction: SecretTransaction, grants: Sequence[AudienceGrant], actor: str) -> None:
    for grant in sorted(grants, key=lambda grant: grant.ref.text):  # as everybody who locks several
        row = transaction.lock_ledger(grant.ref.text)
        if row is None or row.audience_mac != grant.seen_mac:
            raise KeyringConflict(f"{grant.ref}: its audience changed in the meantime", hint="Run the command again.")
        changed = replace(row, audience=encode_audience(grant.after), audience_mac=grant.mac)
        transaction.put_ledger(changed)  # `changed` stays: it is the age of the value, which cadences count from
    transaction.audit(
        Record(
            "secret.audience",
            grant.ref.text,
            actor,
            payload={"added": list(map(str, grant.added)), "removed": list(map(str, grant.removed))},
        )
        for grant in grants
    )
