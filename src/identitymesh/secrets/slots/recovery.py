"""The ``recovery`` protector: nothing is stored; the identity is printed once and kept offline.

One recovery identity opens both keyrings, with this program or with the ordinary ``age``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from identitymesh.errors import KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.protectors import recipient_of
from identitymesh.secrets.sealing import length_prefixed

TYPE: Final = "recovery"
_FINGERPRINT_LABEL: Final = b"identitymesh/recovery-fingerprint/1"
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: nothing that reads like something else
_GROUPS: Final = 5


class Recovery:
    """An identity that somebody typed in or piped in."""

    type = TYPE

    def __init__(self, typed: Secret) -> None:
        self._typed = typed

    def identity(self) -> Secret:
        """The identity, without the white space around it.

        Raises:
            KeyringError: what was given is not a recovery key.
        """
        identity = Secret(self._typed.reveal().strip())
        try:
            recipient_of(identity)
        except ValueError:
            raise KeyringError(
                "what was given is not a recovery key",
                hint="It is one line that begins with AGE-SECRET-KEY-1, the first line that `identitymesh init` printed.",
            ) from None
        return identity


def fingerprint(installation: str, recipient: str) -> str:
    """The fingerprint of the recovery sheet: installation id with the recovery public key.

    100 bits of SHA-256 as five groups of four characters; to read aloud and compare.
    """
    digest = sha256(length_prefixed(_FINGERPRINT_LABEL, installation.encode(), recipient.encode())).digest()
    bits = int.from_bytes(digest[:13], "big") >> 4
    letters = "".join(_ALPHABET[bits >> shift & 31] for shift in range(95, -1, -5))
    return "-".join(letters[start : start + 4] for start in range(0, 4 * _GROUPS, 4))
