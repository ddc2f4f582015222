"""Small age files (C2SP age.md, v1) that a passphrase opens, with a work factor that is chosen and not measured.

pyrage measures how long scrypt takes on this machine, both to choose the work factor and to
refuse a dear one when it opens. So a fast machine makes what the bound of this product
refuses, and one that is busy just then refuses what it made itself. The rest of the format
is HKDF, HMAC and ChaCha20-Poly1305 of ``cryptography``, put together as age.md says; files
of one chunk are all that is needed here.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from identitymesh.redaction import Secret

CHUNK: Final = 64 * 1024
SALT_BYTES: Final = 16
FILE_KEY_BYTES: Final = 16
NONCE_BYTES: Final = 16
_SCRYPT_LABEL: Final = b"age-encryption.org/v1/scrypt"
_LAST_CHUNK: Final = bytes(11) + b"\x01"  # the first one, number 0, is the last
# The version line, then exactly one stanza of type scrypt with salt (16 bytes) and log2 of N; then the MAC.
_HEADER: Final = re.compile(
    rb"(age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---) "
    rb"([A-Za-z0-9+/]{43})\n"
)


class NotOpened(ValueError):
    """It is damaged, or for another passphrase."""


def work_factor(sealed: bytes) -> int | None:
    """Log2 of what scrypt is asked for; ``None``: this is no age file for one passphrase."""
    header = _HEADER.match(sealed)
    return None if header is None else int(header[3])


def seal(content: Secret, passphrase: Secret, factor: int) -> bytes:
    """An age file; ``factor`` is log2 of scrypt's N: 18 takes 256 MiB and about a second."""
    file_key, salt, nonce = Secret(os.urandom(FILE_KEY_BYTES)), os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    wrapped = _wrapping(passphrase, salt, factor).encrypt(bytes(12), file_key.reveal(), None)
    stanza = b"-> scrypt %b %d\n%b\n" % (_encode(salt), factor, _encode(wrapped))
    header = b"age-encryption.org/v1\n" + stanza + b"---"
    body = _payload(file_key, nonce).encrypt(_LAST_CHUNK, content.reveal(), None)
    return header + b" " + _encode(_mac(file_key, header)) + b"\n" + nonce + body


def open_sealed(sealed: bytes, passphrase: Secret) -> Secret:
    """What :func:`seal`, or another program, put in. Look at :func:`work_factor` first.

    Raises:
        NotOpened: it is damaged, larger than one chunk, or for another passphrase.
    """
    header = _HEADER.match(sealed)
    if header is None:
        raise NotOpened("it is no age file for one passphrase")
    signed, salt, factor, wrapped, mac = header.groups()
    rest = sealed[header.end() :]
    try:
        wrapping = _wrapping(passphrase, _decode(salt), int(factor))
        file_key = Secret(wrapping.decrypt(bytes(12), _decode(wrapped), None))
        if not hmac.compare_digest(_mac(file_key, signed), _decode(mac)):
            raise NotOpened("its header was changed")
        return Secret(_payload(file_key, rest[:NONCE_BYTES]).decrypt(_LAST_CHUNK, rest[NONCE_BYTES:], None))
    except (InvalidTag, ValueError):
        raise NotOpened("it is damaged, or for another passphrase") from None


def _wrapping(passphrase: Secret, salt: bytes, factor: int) -> ChaCha20Poly1305:
    kdf = Scrypt(salt=_SCRYPT_LABEL + salt, length=32, n=2**factor, r=8, p=1)
    return ChaCha20Poly1305(kdf.derive(passphrase.reveal()))


def _payload(file_key: Secret, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(SHA256(), 32, nonce, b"payload").derive(file_key.reveal()))


def _mac(file_key: Secret, header: bytes) -> bytes:
    key = HKDF(SHA256(), 32, None, b"header").derive(file_key.reveal())
    return hmac.digest(key, header, "sha256")


def _encode(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Unpadded Base64 in its one spelling (RFC 4648, section 3.5)."""
    found = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if _encode(found) != text:
        raise NotOpened("its Base64 has bits that mean nothing")
    return found
