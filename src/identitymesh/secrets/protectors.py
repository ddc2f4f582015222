"""What guards the identity of a slot: the contract that each file under ``slots/`` implements, and how one is found.

A slot is an age X25519 identity. A protector keeps that identity somewhere and gives it
back when the keyring is opened; it never sees the keyring. What it answers when it
guards one (a sealed blob of its own kind, or nothing) lies beside the keyring row.
Adding a protector is adding one file there, with a function ``build(place)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final, Protocol

from identitymesh.errors import KeyringBroken
from identitymesh.redaction import Secret
from identitymesh.secrets import slots
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.vaults import OpenBaoSettings

HOST_FILE: Final = "host-file"
RECOVERY: Final = "recovery"
SYSTEMD_CREDS: Final = "systemd-creds"


class SlotClass(StrEnum):
    """How a slot is used; of the first and the last, one must always be left."""

    UNATTENDED = "unattended"  # opens without a person: what services run with
    ATTENDED = "attended"  # somebody types something
    RECOVERY = "recovery"  # lies offline


@dataclass(frozen=True, slots=True)
class Traits:
    """What a person should know of a kind of slot. The slot with the lowest ``strength`` is the weakest link."""

    slot_class: SlotClass
    strength: int
    opened_by: str


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine gives to protectors besides the host folder. ``settings`` reads it."""

    tpm2_tcti: str = ""
    credentials: Path | None = None  # $CREDENTIALS_DIRECTORY: what the service manager delivered to this process
    openbao: OpenBaoSettings | None = None
    azure: AzureKeyVaultSettings | None = None
    systemd_secret: Path | None = None  # $SYSTEMD_CREDENTIAL_SECRET: another file for the host key of systemd-creds

    def vaults(self) -> Means:
        """What belongs to providers alone: it is the same for the folder of a drill."""
        return Means(azure=self.azure, openbao=self.openbao)


NO_MEANS: Final = Means()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a protector looks: this host, the keyring and slot, what lies in the database, what somebody typed."""

    host: Path
    keyring: str
    typed: Secret | None = None
    slot: str = ""
    guarded: bytes | None = None
    means: Means = NO_MEANS


class Protector(Protocol):
    """Guards one identity of one slot in one way."""

    @property
    def type(self) -> str:
        """The slot type, also the name of the module: ``host-file`` is ``slots/host_file.py``."""

    @property
    def traits(self) -> Traits: ...

    def exists(self) -> bool:
        """Something is there that could be the identity; it may still be refused."""

    def describe(self) -> str:
        """Where it is, for a message."""

    def identity(self) -> Secret:
        """The guarded identity, 74 bytes of ``AGE-SECRET-KEY-1...``.

        Raises:
            KeyringError: it is missing, unsafe, or its protector does not answer.
        """

    def guard(self, identity: Secret) -> bytes | None:
        """Guard an identity, durably; answer what lies beside the keyring row. Only where a slot is added on purpose.

        Raises:
            KeyringExists: there is one already; it is left as it is.
            KeyringError: it cannot be guarded here.
        """

    def remove(self) -> None:
        """Take away what :meth:`guard` left on this host."""


def known_types() -> tuple[str, ...]:
    """The slot types that this program has: the modules under ``slots/``."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(slots.__path__)))


def find_protector(slot_type: str, place: Place) -> Protector:
    """The protector of a slot type.

    Raises:
        KeyringBroken: this program has none of that type.
    """
    known = known_types()
    if slot_type not in known:
        raise KeyringBroken(
            f"keyring {place.keyring}: unknown slot type {slot_type[:40]!r}",
            hint=f"This program knows {', '.join(known)}.",
        )
    protector: Protector = import_module(f"{slots.__name__}.{slot_type.replace('-', '_')}").build(place)
    return protector


def traits_of(slot_type: str) -> Traits:
    """The traits of a slot type, without looking at any machine."""
    return find_protector(slot_type, Place(Path(), "")).traits
