"""The fingerprint of the recovery sheet: short enough to read aloud, too long to forge."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from identitymesh.secrets.sealing import length_prefixed

_LABEL: Final = b"identitymesh/recovery-fingerprint/1"
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: nothing that reads like something else
_GROUPS: Final = 5


def fingerprint(installation: str, recipient: str) -> str:
    """The fingerprint of the recovery sheet: installation id with the recovery public key.

    100 bits of SHA-256 as five groups of four characters; to read aloud and compare.
    """
    digest = sha256(length_prefixed(_LABEL, installation.encode(), recipient.encode())).digest()
    bits = int.from_bytes(digest[:13], "big") >> 4
    letters = "".join(ALPHABET[bits >> shift & 31] for shift in range(95, -1, -5))
    return "-".join(letters[start : start + 4] for start in range(0, 4 * _GROUPS, 4))
