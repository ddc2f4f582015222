"""Finds the values of ledger rows: what lies in the database inside of the snapshot, what lies in a vault after it.

A vault's own current version is followed: what its operators set there is used at the
next opening, and the ledger is told in the transaction that records that opening.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from identitymesh.audit import Record
from identitymesh.errors import SecretError, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.providers import Found, Held, Provider, Providers, Wanted, wanted
from identitymesh.secrets.rows import InstallationRow, LedgerRow, SecretTransaction, SecretView


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A value that the active provider has not, though the ledger names it; the one before it still has."""

    held: Held
    version: str
    provider: str
    outside: bool = False
    stale: int = 0

    def check(self) -> None:
        self.held.check()

    def open(self) -> Secret:
        return self.held.open()


@dataclass(frozen=True, slots=True)
class Before:
    """While a migration drains: the provider that was used before, and which of its versions are which."""

    provider: Provider
    versions: Mapping[Wanted, Wanted]
    here: Found

    def fill(self, found: dict[Wanted, Held | SecretError]) -> None:
        """Ask it for what was *not found*; every other failure stays as it is."""
        lacking = [one for one, held in found.items() if isinstance(held, SecretMissing) and one in self.versions]
        theirs = self.provider.fetch([self.versions[one] for one in lacking], self.here) if lacking else {}
        for one in lacking:
            held = theirs[self.versions[one]]
            if not isinstance(held, SecretError):
                found[one] = Elsewhere(held, one.version, self.provider.name)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a snapshot had; :meth:`fetch` is for when it is closed."""

    parts: tuple[tuple[Provider, tuple[Wanted, ...], Found], ...]
    failed: Found
    before: Before | None = None

    def fetch(self) -> Found:
        """Every value that is there, and for every other one the error that says why not. Waits for vaults."""
        found = dict(self.failed)
        for provider, asked, here in self.parts:
            try:
                found.update(provider.fetch(asked, here))
            except SecretError as error:
                found.update(dict.fromkeys(asked, error))
        if self.before is not None:
            self.before.fill(found)
        return found

    def followed(self) -> Mapping[Wanted, Held]:
        """What vaults have now of the values that are followed. What does not answer is left out."""
        found: dict[Wanted, Held | SecretError] = {}
        for provider, asked, here in self.parts:
            follow = tuple(one for one in asked if one.follow) if provider.remote else ()
            if follow:
                found.update(provider.fetch(follow, here))
        return {one: held for one, held in found.items() if not isinstance(held, SecretError)}


def look(
    providers: Providers, view: SecretView, rows: Iterable[LedgerRow], session: KeyringSession, here: InstallationRow
) -> Looked:
    """Look at the current version of each row, as :func:`~identitymesh.secrets.providers.wanted` has it."""
    by_keyring: dict[str, list[Wanted]] = {}
    for row in rows:
        item = wanted(row)
        if item is not None:
            by_keyring.setdefault(row.keyring, []).append(item)
    parts: list[tuple[Provider, tuple[Wanted, ...], Found]] = []
    failed: dict[Wanted, Held | SecretError] = {}
    for keyring, asked in by_keyring.items():
        try:
            provider = providers.of(keyring, here.provider)
            parts.append((provider, tuple(asked), provider.look(view, asked, session)))
        except SecretError as error:
            failed.update(dict.fromkeys(asked, error))
    drained = by_keyring.get(CONNECTORS)
    before = _before(providers, view, drained, session, here) if here.draining and drained else None
    return Looked(tuple(parts), failed, before)


def _before(
    providers: Providers, view: SecretView, asked: Sequence[Wanted], session: KeyringSession, here: InstallationRow
) -> Before:
    provider = providers.find(here.draining or "")
    counterparts = view.counterparts(((one.ref, one.version) for one in asked), here.provider)
    versions = {
        one: Wanted(one.ref, counterparts[one.ref, one.version])
        for one in asked
        if (one.ref, one.version) in counterparts
    }
    return Before(provider, versions, provider.look(view, list(versions.values()), session))


@dataclass(frozen=True, slots=True)
class Followed:
    """A vault had another current version than the ledger."""

    ref: str
    before: str
    version: str
    outside: bool


def note(
    transaction: SecretTransaction, followed: Iterable[Followed], actor: str, now: datetime, provider: str | None
) -> None:
    """Tell ledger and audit trail, unless the ledger has moved on meanwhile, or names another provider's versions."""
    # Sorted, so that two runs lock the rows in the same order.
    for one in sorted(set(followed), key=lambda one: one.ref):
        row = transaction.lock_ledger(one.ref)
        if row is None or row.current_version != one.before or row.pending_version is not None:
            continue
        active = transaction.installation()  # after the lock: a cut over waits for it, or has been
        if active is None or active.provider != provider:
            return
        transaction.put_ledger(replace(row, current_version=one.version, changed=now))
        payload = {"version": one.version, "replaced": one.before, "outside": one.outside}
        transaction.audit([Record("secret.follow", one.ref, actor, payload=payload)])
