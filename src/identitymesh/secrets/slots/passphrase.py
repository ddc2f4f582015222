"""The ``passphrase`` protector: the identity in an age file of its own, encrypted with scrypt to a passphrase.

Whoever copies the database can try passphrases offline for as long as he likes. So one is
generated (150 bits) unless somebody insists. The work factor stands in the file, in the
database: it is looked at before anything is computed, else a row could ask for years.
"""

from __future__ import annotations

from typing import Final

from identitymesh.errors import KeyringBroken, KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import checked_identity
from identitymesh.secrets.age_scrypt import NotOpened, open_sealed, seal, work_factor
from identitymesh.secrets.protectors import Place, Protector, SlotClass, Traits

TYPE: Final = "passphrase"
# Log2 of scrypt's N. What `age` itself takes: 256 MiB and about a second, on every machine that may open it.
WORK_FACTOR: Final = 18
MAX_WORK_FACTOR: Final = 20  # one gibibyte and a few seconds
MIN_CHARACTERS: Final = 20
TRAITS: Final = Traits(
    SlotClass.ATTENDED, 3, "whoever knows the passphrase; a copy of the database lets anybody try, so it must be long"
)


def build(place: Place) -> Protector:
    return Passphrase(place)


class Passphrase:
    """An age file that a passphrase opens."""

    type = TYPE
    traits = TRAITS

    def __init__(self, place: Place) -> None:
        self._keyring = place.keyring
        self._typed = place.typed
        self._guarded = place.guarded

    def exists(self) -> bool:
        return self._typed is not None and self._guarded is not None

    def describe(self) -> str:
        return "the passphrase"

    def identity(self) -> Secret:
        """What the passphrase opens.

        Raises:
            KeyringError: no passphrase, or a wrong one.
            KeyringBroken: what is stored is no such file, or asks for too much work.
        """
        if self._guarded is None:
            raise KeyringError(
                f"keyring {self._keyring}: nothing is stored for this passphrase slot",
                hint="It lies beside the keyring in the database and not in backups: add the slot anew.",
            )
        _check_work(self._guarded, self._keyring)
        try:
            opened = open_sealed(self._guarded, _typed(self._typed))
        except NotOpened:
            raise KeyringError(
                f"keyring {self._keyring}: the passphrase does not open this slot",
                hint="Type it as it was shown, or use another slot or the recovery key.",
            ) from None
        return checked_identity(opened, f"keyring {self._keyring}: what the passphrase opened")

    def guard(self, identity: Secret) -> bytes | None:
        """Encrypt to the passphrase.

        Raises:
            KeyringError: the passphrase is too short.
        """
        typed = _typed(self._typed)
        if len(typed.reveal()) < MIN_CHARACTERS:
            raise KeyringError(
                f"keyring {self._keyring}: a passphrase needs at least {MIN_CHARACTERS} characters",
                hint="A copy of the database lets anybody try passphrases. Have one generated.",
            )
        return seal(identity, typed, WORK_FACTOR)

    def remove(self) -> None:
        """Nothing is on this host."""


def _typed(typed: Secret | None) -> Secret:
    return Secret(b"" if typed is None else typed.reveal().strip())


def _check_work(guarded: bytes, keyring: str) -> None:
    asked = work_factor(guarded)
    if asked is None or asked > MAX_WORK_FACTOR:
        reason = "is not an age file for one passphrase" if asked is None else "asks for more work than is sane"
        raise KeyringBroken(
            f"keyring {keyring}: what is stored for the passphrase slot {reason}",
            hint="The row was edited outside Identity Mesh. Remove the slot and add it anew.",
        )
