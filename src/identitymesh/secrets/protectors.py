"""What guards the identity of a slot: the contract that each file under ``slots/`` implements, and how one is found.

A slot is an age X25519 identity. A protector keeps that identity somewhere and gives it
back when the keyring is opened; it never sees the keyring. Adding a protector is adding
one file there, with a function ``build(place)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final, Protocol

from identitymesh.errors import KeyringBroken
from identitymesh.redaction import Secret
from identitymesh.secrets import slots

HOST_FILE: Final = "host-file"
RECOVERY: Final = "recovery"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a protector looks: this host's folder, the keyring, and what a person typed for it, if that is its way."""

    host: Path
    keyring: str
    typed: Secret | None = None


class Protector(Protocol):
    """Guards one identity of one keyring in one way."""

    @property
    def type(self) -> str:
        """The slot type, also the name of the module: ``host-file`` is ``slots/host_file.py``."""

    def exists(self) -> bool:
        """Something is there that could be the identity; it may still be refused."""

    def describe(self) -> str:
        """Where it is, for a message."""

    def identity(self) -> Secret:
        """The guarded identity, 74 bytes of ``AGE-SECRET-KEY-1...``.

        Raises:
            KeyringError: it is missing, unsafe, or its protector does not answer.
        """

    def create(self) -> Secret:
        """Make an identity and guard it, durably. Only where a slot is added on purpose.

        Raises:
            KeyringExists: there is one already; it is left as it is.
        """

    def remove(self) -> None:
        """Take away what :meth:`create` made, when making the slot failed."""


def find_protector(slot_type: str, place: Place) -> Protector:
    """The protector of a slot type.

    Raises:
        KeyringBroken: this program has none of that type.
    """
    known = sorted(module.name.replace("_", "-") for module in iter_modules(slots.__path__))
    if slot_type not in known:
        raise KeyringBroken(
            f"keyring {place.keyring}: unknown slot type {slot_type[:40]!r}",
            hint=f"This program knows {', '.join(known)}.",
        )
    protector: Protector = import_module(f"{slots.__name__}.{slot_type.replace('-', '_')}").build(place)
    return protector
