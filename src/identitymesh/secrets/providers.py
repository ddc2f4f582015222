"""What keeps the values: the contract that each file under ``stores/`` implements, and how one is found.

A provider is told the keyring session, because ``database`` seals with it; a vault
ignores it. What needs a network happens outside of transactions (:meth:`Provider.put`,
:meth:`Held.open`); what must be one with ledger and audit happens inside
(:meth:`Change.record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Final, Protocol

from identitymesh.errors import ProviderError, SecretError
from identitymesh.redaction import Secret
from identitymesh.secrets import stores
from identitymesh.secrets.keyring import APPLICATION
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SecretTransaction, SecretView

DATABASE: Final = "database"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One version of a secret, by the id that its provider gave it."""

    ref: str
    version: str


class Held(Protocol):
    """A value that is found, but not opened."""

    def check(self) -> None:
        """Prove, as far as that goes without a network, that :meth:`open` will succeed. Raises like it."""

    def open(self) -> Secret:
        """The value.

        Raises:
            SecretBroken: it does not open, or belongs to another ref.
            SecretMissing: it is gone.
            ProviderError: the provider did not answer.
            KeyringError: its keyring does not open on this host.
        """


class Change(Protocol):
    """Something that a provider did, or will do when it is recorded."""

    def record(self, transaction: SecretTransaction) -> str:
        """Finish it inside the transaction of ledger and audit; answers the version id ("" for a deletion)."""


class Provider(Protocol):
    """Keeps values by ref and version."""

    @property
    def name(self) -> str: ...

    def put(self, ref: SecretReference, value: Secret, keyring: str, session: KeyringSession) -> Change:
        """A new version of a value. A vault writes it now, ``database`` when it is recorded."""

    def look(
        self, view: SecretView, wanted: Sequence[Wanted], session: KeyringSession
    ) -> Mapping[Wanted, Held | SecretError]:
        """Find versions. Inside a snapshot: no network here."""

    def versions(self, view: SecretView, ref: str | None = None) -> Mapping[str, Sequence[str]]:
        """Version ids of a ref, or of every ref, oldest first."""

    def exists(self, view: SecretView, wanted: Wanted) -> bool: ...

    def delete(self, ref: SecretReference) -> Change:
        """Remove every version."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not stop the work, but that a person should know. ``code`` is stable."""

    code: str
    message: str
    hint: str


def known_providers() -> tuple[str, ...]:
    """The names of the providers that this program has: the modules under ``stores/``."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(stores.__path__)))


def find_provider(name: str) -> Provider:
    """The provider of this name; there is no other one to fall back to.

    Raises:
        ProviderError: this program has none of that name.
    """
    if name not in known_providers():
        raise unknown_provider(name)
    provider: Provider = import_module(f"{stores.__name__}.{name.replace('-', '_')}").build()
    return provider


def provider_of(keyring: str, active: str) -> Provider:
    """Secrets of the application stay in the database: the login to a vault cannot be kept in that vault."""
    return find_provider(DATABASE if keyring == APPLICATION else active)


def unknown_provider(name: str) -> ProviderError:
    return ProviderError(
        f"unknown provider of secrets {name[:40]!r}",
        hint=f"This program knows {', '.join(known_providers())}. No other one is used in its place.",
    )
