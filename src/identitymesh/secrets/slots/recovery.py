"""The ``recovery`` protector: nothing is stored; the identity is printed once and kept offline.

One recovery identity opens both keyrings, with this program or with the ordinary ``age``.
"""

from __future__ import annotations

from identitymesh.errors import KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of
from identitymesh.secrets.protectors import RECOVERY, Place, Protector


def build(place: Place) -> Protector:
    return Recovery(place.typed)


class Recovery:
    """An identity that somebody typed in or piped in."""

    type = RECOVERY

    def __init__(self, typed: Secret | None) -> None:
        self._typed = typed

    def exists(self) -> bool:
        return self._typed is not None

    def describe(self) -> str:
        return "the recovery key"

    def identity(self) -> Secret:
        """The identity, without the white space around it.

        Raises:
            KeyringError: what was given is not a recovery key.
        """
        identity = Secret(b"" if self._typed is None else self._typed.reveal().strip())
        try:
            recipient_of(identity)
        except ValueError:
            raise KeyringError(
                "what was given is not a recovery key",
                hint="It is one line beginning with AGE-SECRET-KEY-1, the first one that `identitymesh init` printed.",
            ) from None
        return identity

    def create(self) -> Secret:
        """A new identity. The caller shows it; it is kept nowhere."""
        return new_identity()

    def remove(self) -> None:
        """Nothing was kept."""
