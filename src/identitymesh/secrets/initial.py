"""Initial passwords: made for an account that is about to be created, kept as secrets that expire, and never read here.

They are stored before the account is created, so that no crash leaves an account with a password that nobody knows.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import KeyringConflict, SecretMissing
from identitymesh.lease import Lease
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.providers import PINNED
from identitymesh.secrets.references import SCHEME, SecretReference, is_segment
from identitymesh.secrets.rows import SecretRows
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import again, assert_provider, hold_keyring, installation, new_row, own_row

FOLDER: Final = "initial"
# Without what people take for something else when they read it out: l and I, O and 0, 1.
_SETS: Final = ("abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-")
_ENCODED: Final = ("b32-", "sha-")
_SEGMENT: Final = 64


class InitialPasswords:
    """Keeps initial passwords for ``lifetime``."""

    def __init__(
        self, rows: SecretRows, store: SecretStore, actor: str, lifetime: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._rows = rows
        self._store = store
        self._actor = actor
        self._lifetime = lifetime
        self._clock = clock

    def keep(self, passwords: Mapping[SecretReference, Secret], run: str, lease: Lease) -> None:
        """Store all of them in one transaction, each as the newest version of its ref.

        Raises:
            LeaseLost: somebody else took ``lease`` over, and may have stored others.
            SecretError, KeyringError, StorageError: none can be relied on; nothing may be created with them.
        """
        again(lambda: self._keep(passwords, run, lease))

    def _keep(self, passwords: Mapping[SecretReference, Secret], run: str, lease: Lease) -> None:
        now = self._clock()
        expires = now + self._lifetime
        with self._rows.read() as view:
            session = self._store.session(view)
            active = installation(view).provider
        document = session.open(CONNECTORS)
        provider = self._store.providers.of(CONNECTORS, active)
        changes = {
            ref: provider.put(ref, value, CONNECTORS, session, expires=int(expires.timestamp()))
            for ref, value in passwords.items()
        }
        with self._rows.write() as transaction:
            transaction.hold_lease(lease)
            hold_keyring(transaction, CONNECTORS, document)
            assert_provider(transaction, CONNECTORS, provider)
            for ref in sorted(changes):
                row = own_row(transaction, new_row(ref, CONNECTORS, document))
                version = changes[ref].record(transaction)
                row = replace(row, current_version=version, changed=now, expires=expires, description=_ABOUT)
                # Pinned: a vault may also have what a run wrote that stood still and lost its lease.
                transaction.put_ledger(replace(row, follow=PINNED))
                payload = {"keyring": CONNECTORS, "version": version, "expires": expires.isoformat()}
                transaction.audit([Record("secret.initial", ref.text, self._actor, run=run, payload=payload)])

    def drop(self, refs: Iterable[SecretReference], lease: Lease) -> None:
        """Remove passwords that no account has: it was there already, or could not be created.

        Raises:
            LeaseLost: somebody else took ``lease`` over, and may have made accounts with passwords of these names.
        """
        for ref in refs:
            with suppress(SecretMissing, KeyringConflict):
                self._store.delete(ref, actor=self._actor, lease=lease)

    def remove_expired(self) -> None:
        """Remove every secret whose time is over, but what was stored again under its name meanwhile."""
        now = self._clock()
        with self._rows.read() as view:
            over = view.expired(now)
        for ref in over:
            with suppress(SecretMissing, KeyringConflict):
                self._store.delete(SecretReference(ref), actor=self._actor, expired=now)


_ABOUT: Final = "initial password, for whoever gets the account"


def generate(length: int) -> Secret:
    """A random password of so many characters, with at least one of each set."""
    every = "".join(_SETS)
    picked = [secrets.choice(one) for one in _SETS]
    picked += [secrets.choice(every) for _ in range(length - len(picked))]
    secrets.SystemRandom().shuffle(picked)
    return Secret("".join(picked))


def reference(target: str, anchor: str) -> SecretReference:
    """``secret://initial/TARGET/ANCHOR``; what cannot be a name there is encoded, always the same way."""
    return SecretReference(f"{SCHEME}{FOLDER}/{segment(target)}/{segment(anchor)}")


def segment(text: str) -> str:
    """A text as one segment of a reference: itself, else ``b32-`` and base32, or ``sha-`` and a digest."""
    if is_segment(text) and not text.startswith(_ENCODED):
        return text
    encoded = "b32-" + base64.b32encode(text.encode()).decode().rstrip("=").lower()
    return encoded if len(encoded) <= _SEGMENT else "sha-" + hashlib.sha256(text.encode()).hexdigest()[:56]
