"""Makes passphrases that are to be written down and typed."""

from __future__ import annotations

import secrets
from typing import Final

from identitymesh.redaction import Secret
from identitymesh.secrets.fingerprint import ALPHABET

GROUPS: Final = 6
LETTERS: Final = 5  # of 32 each: 150 bits in all


def new_passphrase() -> Secret:
    """150 random bits in six groups of five letters and digits that are not mistaken for each other."""
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))
    return Secret("-".join(groups))
