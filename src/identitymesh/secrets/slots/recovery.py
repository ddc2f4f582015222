"""The ``recovery`` protector: nothing is stored; the identity is printed once and kept offline.

One recovery identity opens both keyrings, with this program or with the ordinary ``age``.
"""

from __future__ import annotations

from typing import Final

from identitymesh.errors import KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import recipient_of
from identitymesh.secrets.protectors import RECOVERY, Place, Protector, SlotClass, Traits

TRAITS: Final = Traits(SlotClass.RECOVERY, 6, "whoever has the recovery sheet")


def build(place: Place) -> Protector:
    return Recovery(place.typed)


class Recovery:
    """An identity that somebody typed in or piped in."""

    type = RECOVERY
    traits = TRAITS

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

    def guard(self, identity: Secret) -> bytes | None:  # noqa: ARG002 - it is kept nowhere; the caller has shown it
        """Nothing is kept."""
        return None

    def remove(self) -> None:
        """Nothing was kept."""
