"""Stands in for the two calls of Windows: one machine opens what it protected, with the same entropy and flags."""

import os
import sys
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from identitymesh.redaction import Secret
from identitymesh.secrets import opentest
from identitymesh.secrets.slots import dpapi

MACHINE = b"this machine"


class Machine:
    """As crypt32.dll on a machine of this name."""

    def __init__(self, name: bytes = MACHINE) -> None:
        self._key = AESGCM(sha256(name).digest())

    def protect(self, value: Secret, entropy: Secret, flags: int) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._key.encrypt(nonce, value.reveal(), entropy.reveal() + bytes([flags]))

    def unprotect(self, sealed: bytes, entropy: Secret, flags: int) -> Secret:
        try:
            return Secret(self._key.decrypt(sealed[:12], sealed[12:], entropy.reveal() + bytes([flags])))
        except InvalidTag:
            raise OSError(13, "The data is invalid") from None


if __name__ == "__main__":
    dpapi.system_calls = Machine
    sys.exit(opentest.main())
