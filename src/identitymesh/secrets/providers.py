"""What keeps the values: the contract that each file under ``stores/`` implements, and how one is found.

A provider keeps values by ref and version, and nothing else: ledger, audience, versions
in use and audit stay in the product's own database, whatever the provider is. There are
two sorts. ``database`` seals values itself, in rows (:class:`KeyringSession` holds the
keys). A vault has custody of its own: it is given the value as Base64 over TLS, and each
entry names its ref and this installation, which is checked on every read and write.

What needs a network happens outside of transactions: :meth:`Provider.put`,
:meth:`Provider.fetch`, :meth:`Provider.list` and whatever takes ``rows``. What must be
one with ledger and audit happens inside: :meth:`Change.record`. A vault writes first, so
after a kill in between it may hold a version that the ledger does not know: one that was
set to be current is followed at the next read, one that was pending is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Final, Protocol

from identitymesh.errors import ProviderMisconfigured, SecretError
from identitymesh.redaction import Secret
from identitymesh.secrets import stores
from identitymesh.secrets.keyring import APPLICATION, Document
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import DATABASE, LedgerRow, SealedValue, SecretRows, SecretTransaction, SecretView

PINNED: Final = "pinned"  # reads give the version that the ledger names
CURRENT: Final = "current"  # reads give what the vault calls current, and the ledger follows


@dataclass(frozen=True, slots=True)
class Wanted:
    """One version of a secret, by the id that its provider gave it.

    With ``follow`` it is the version that the ledger calls current, and a vault answers with its own current one
    instead if that is newer; ``database`` has no other one.
    """

    ref: str
    version: str
    follow: bool = False


class Held(Protocol):
    """A value that is found, but not opened."""

    @property
    def version(self) -> str:
        """Which version it is; of a followed one perhaps another than was wanted."""

    @property
    def outside(self) -> bool:
        """It was set by somebody else than this product."""

    @property
    def stale(self) -> int:
        """Seconds since the provider gave it, where it does not answer now and that is allowed; else 0."""

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


@dataclass(frozen=True, slots=True)
class Fetched:
    """A value that a vault gave. It is in memory until it is used, as a :class:`Secret`."""

    value: Secret
    version: str
    outside: bool = False
    stale: int = 0

    def check(self) -> None:
        """It is here."""

    def open(self) -> Secret:
        return self.value


class Change(Protocol):
    """Something that a provider did, or will do when it is recorded."""

    def record(self, transaction: SecretTransaction) -> str:
        """Finish it inside the transaction of ledger and audit; answers the version id ("" for a deletion)."""


@dataclass(frozen=True, slots=True)
class Done:
    """A change that a vault has made already."""

    version: str = ""

    def record(self, _transaction: SecretTransaction) -> str:
        return self.version


Found = Mapping[Wanted, Held | SecretError]


@dataclass(frozen=True, slots=True)
class Survey:
    """What already stands at the names of some refs: values of theirs, deleted ones, and what belongs to others."""

    present: Sequence[str]
    deleted: Sequence[str] = ()
    foreign: Sequence[str] = ()


class Provider(Protocol):
    """Keeps values by ref and version. Its methods may be called from several threads at once.

    Every method may raise a :class:`~identitymesh.errors.ProviderError`: ``ProviderUnavailable`` (no answer, or
    throttled beyond the patience of this program), ``ProviderDenied`` (this login may not do that),
    ``ProviderMismatch`` (the entry names another ref or installation), ``ProviderRefused`` (it takes no such value).
    """

    @property
    def name(self) -> str: ...

    @property
    def remote(self) -> bool:
        """It is reached over a network. Then :meth:`look` answers nothing that could be opened before :meth:`fetch`."""

    @property
    def writes_per_second(self) -> float:
        """What the service takes for long, by its published limits; 0 is as much as it can."""

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        keyring: str,
        session: KeyringSession,
        *,
        pending: bool = False,
        expires: int = 0,
    ) -> Change:
        """A new version of a value. A vault writes it now, ``database`` when it is recorded.

        ``expires``: seconds since 1970, 0 is never; the ledger sees to it, a provider may bind it to the value too.
        ``pending``: whoever follows the vault must not take it for current before the ledger says so.
        """

    def look(self, view: SecretView, wanted: Sequence[Wanted], session: KeyringSession) -> Found:
        """Find versions. Inside a snapshot: no network here."""

    def fetch(self, wanted: Sequence[Wanted], found: Found) -> Found:
        """Ask for what :meth:`look` could not answer, several at once. Outside of every transaction.

        What fails is answered for each, so that one entry stops one connector only; after the first
        ``ProviderUnavailable`` the rest is answered with it, and not asked for.
        """

    def list(self, rows: SecretRows) -> Sequence[str]:
        """The refs of this installation that it has values of, sorted."""

    def survey(self, rows: SecretRows, refs: Sequence[str]) -> Survey:
        """What would be met if these refs were written. For the plan of a migration."""

    def versions(self, rows: SecretRows, refs: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Version ids that can be opened, of each of these refs that has any, oldest first."""

    def older(self, rows: SecretRows, ref: str, than: Collection[str]) -> Sequence[str]:
        """Version ids that can be opened, none of these, and that the newest of these came after, oldest first."""

    def exists(self, rows: SecretRows, wanted: Wanted) -> bool:
        """Whether it could be opened, as far as the provider tells without opening it."""

    def retire(self, ref: SecretReference, versions: Sequence[str]) -> Change:
        """Destroy these versions, or where a vault has nothing better make them unreadable. None is current."""

    def delete(self, ref: SecretReference, *, purge: bool = False) -> Change:
        """Remove every version; one that is gone already is no error.

        Where a vault keeps what is deleted for a while, ``purge`` asks it not to.
        """

    def check(self, rows: SecretRows) -> None:
        """Ask it something that shows that it answers, and answers to us. For ``doctor``."""


class RowProvider(Provider, Protocol):
    """A provider whose values lie in rows of the product's own database: who has the row needs nothing more."""

    def open_row(self, row: SealedValue, document: Document) -> Secret:
        """The value of a row, under its opened keyring.

        Raises:
            SecretBroken: it does not open, or has expired.
        """


@dataclass(frozen=True, slots=True)
class Setup:
    """What a provider is built from. Building asks nobody; the calls are for when it is used.

    ``installation`` answers the installation id; ``login`` opens a secret of the keyring ``application``, which
    the database keeps, and records that.
    """

    means: Means
    installation: Callable[[], str]
    login: Callable[[SecretReference, str], Secret]


class Providers:
    """The providers of one installation. One that is built is kept: its connections and its login live as long."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._built: dict[str, Provider] = {}

    def find(self, name: str) -> Provider:
        """The provider of this name; there is no other one to fall back to.

        Raises:
            ProviderMisconfigured: this program has none of that name, or its settings are not complete.
        """
        if name not in self._built:
            self._built[name] = build_provider(name, self._setup)
        return self._built[name]

    def of(self, keyring: str, active: str) -> Provider:
        """The provider of the secrets of a keyring."""
        return self.find(provider_name(keyring, active))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not stop the work, but that a person should know. ``code`` is stable."""

    code: str
    message: str
    hint: str


def wanted(row: LedgerRow) -> Wanted | None:
    """What opening a secret asks its provider for. A pinned one, and one that is being rotated, is never followed."""
    if row.current_version is None:
        return None
    return Wanted(row.ref, row.current_version, row.follow != PINNED and row.pending_version is None)


def older_numbers(stored: Sequence[str], than: Collection[str]) -> Sequence[str]:
    """:meth:`Provider.older` where versions are numbered in the order in which they were stored."""
    newest = max((int(one) for one in stored if one in than), default=0)
    return [one for one in stored if int(one) < newest and one not in than]


def known_providers() -> tuple[str, ...]:
    """The names of the providers that this program has: the modules under ``stores/``."""
    return tuple(
        sorted(one.name.replace("_", "-") for one in iter_modules(stores.__path__) if not one.name.startswith("_"))
    )


def build_provider(name: str, setup: Setup) -> Provider:
    """A new provider. Raises as :meth:`Providers.find`."""
    if name not in known_providers():
        raise unknown_provider(name)
    provider: Provider = import_module(f"{stores.__name__}.{name.replace('-', '_')}").build(setup)
    return provider


def assert_usable(name: str, means: Means) -> None:
    """Raise as :meth:`Providers.find` does, without an installation."""
    build_provider(name, Setup(means, lambda: "", lambda _ref, _purpose: Secret(b"")))


def provider_name(keyring: str, active: str) -> str:
    """Secrets of the application stay in the database: the login to a vault cannot be kept in that vault."""
    return DATABASE if keyring == APPLICATION else active


def row_provider() -> RowProvider:
    """The provider ``database``."""
    provider: RowProvider = import_module(f"{stores.__name__}.{DATABASE}").build()
    return provider


def unknown_provider(name: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"unknown provider of secrets {name[:40]!r}",
        hint=f"This program knows {', '.join(known_providers())}. No other one is used in its place.",
    )
