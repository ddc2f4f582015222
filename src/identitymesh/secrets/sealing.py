"""Sealed value v1: one credential, encrypted and bound to its place. Pure: no clock, no file, no database.

Byte layout (integers big endian), also in ``docs/formats/sealed-value.md``::

     0   4  magic "IMSV"
     4   1  format version, 1
     5   1  suite, 1 = HKDF-SHA-256, AES-256-GCM, 32-byte commitment
     6   2  flags, 0
     8   4  key id
    12  16  keyset id
    28  32  salt, random for each sealing
    60  32  commitment
    92   n  ciphertext of the padded value (n is a multiple of 64)
  92+n  16  GCM tag

Record key, nonce and commitment are derived with HKDF-SHA-256 (RFC 5869) from the data
key and the salt, so there is no nonce to count and none repeats after a restored
snapshot; the commitment lets a sealed value open under one key only. AES-256-GCM is
NIST SP 800-38D. The context (where the value lives) goes into the derivation and into
the additional data: a value moved anywhere else does not open.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identitymesh.errors import SecretBroken, SecretRefused
from identitymesh.redaction import Secret

MAGIC: Final = b"IMSV"
VERSION: Final = 1
SUITE: Final = 1
KEY_BYTES: Final = 32
KEYSET_ID_BYTES: Final = 16
SALT_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
BLOCK: Final = 64
MAX_VALUE_BYTES: Final = 16 * 1024

LABEL: Final = b"identitymesh/sealed-value/1"
_PREFIX: Final = struct.Struct(">4sBBHI16s")  # the header up to the salt, 28 bytes
_HEADER_BYTES: Final = _PREFIX.size + SALT_BYTES
_BODY_AT: Final = _HEADER_BYTES + COMMITMENT_BYTES
_MAX_PADDED: Final = MAX_VALUE_BYTES + BLOCK
_BEGINNING: Final = len(LABEL).to_bytes(4, "big") + LABEL + _HEADER_BYTES.to_bytes(4, "big")
_END: Final = struct.Struct(">IQIq")  # version and expiry, each behind its length
_SHA256: Final = SHA256()


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A data key (32 bytes) with the ids under which a sealed value names it."""

    key_id: int
    keyset_id: bytes
    secret: Secret


class Context(NamedTuple):
    """Where a sealed value belongs. ``version`` counts from 1; ``expires`` is in seconds since 1970, 0 is never."""

    keyring: str
    store: str
    ref: str
    version: int
    expires: int = 0


class Header(NamedTuple):
    """What a sealed value says about itself before anything is opened. Not authenticated yet."""

    key_id: int
    keyset_id: bytes
    salt: bytes

    def encode(self) -> bytes:
        """The first 60 bytes of a sealed value."""
        return _PREFIX.pack(MAGIC, VERSION, SUITE, 0, self.key_id, self.keyset_id) + self.salt


def check_value(value: Secret, ref: str) -> None:
    """Raise ``SecretRefused`` for a value that no provider may hold: empty, or above 16 KiB."""
    size = len(value.reveal())
    if size == 0:
        raise SecretRefused(
            f"{ref}: the value is empty",
            hint="Give a value; to remove the secret use `identitymesh secrets delete`.",
        )
    if size > MAX_VALUE_BYTES:
        raise SecretRefused(
            f"{ref}: the value has {size} bytes; {MAX_VALUE_BYTES} is the limit of every provider",
            hint="Store the part that is secret, for example the private key without its chain.",
        )


def seal(value: Secret, key: SealingKey, context: Context, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Seal a value of 1 to 16384 bytes. ``random`` gives the salt, so that known answers can be made.

    Raises:
        SecretRefused: the value is empty or too large.
    """
    check_value(value, context.ref)
    header = Header(key.key_id, key.keyset_id, random(SALT_BYTES)).encode()
    bound = _encode_context(header, context)
    record_key, nonce, commitment = _derive(key.secret, header[_PREFIX.size :], bound)
    body = AESGCM(record_key.reveal()).encrypt(nonce, _pad(value.reveal()), bound)
    return header + commitment + body


def read_header(sealed: bytes, ref: str) -> Header:
    """Check the frame and read which key a sealed value asks for.

    Raises:
        SecretBroken: not a sealed value, cut short, or of a version this program does not know.
    """
    if len(sealed) < _BODY_AT or sealed[:4] != MAGIC:
        raise _broken(ref, "it is cut short or not a sealed value")
    _magic, version, suite, flags, key_id, keyset_id = _PREFIX.unpack_from(sealed)
    if (version, suite, flags) != (VERSION, SUITE, 0):
        raise _broken(ref, "it has a version, suite or flag that this program does not know")
    padded = len(sealed) - _BODY_AT - TAG_BYTES
    if padded < BLOCK or padded > _MAX_PADDED or padded % BLOCK:
        raise _broken(ref, "it is cut short or has bytes too many")
    return Header(key_id, keyset_id, sealed[_PREFIX.size : _HEADER_BYTES])


def unseal(sealed: bytes, key: SealingKey, context: Context, header: Header | None = None) -> Secret:
    """Open a sealed value at the place where it was found. ``header`` is what :func:`read_header` said of it, if asked.

    Raises:
        SecretBroken: anything about it is not as it was sealed. Which part differs is not
            said: a changed byte, another key and a moved row look the same.
    """
    if header is None:
        header = read_header(sealed, context.ref)
    if header.key_id != key.key_id or not hmac.compare_digest(header.keyset_id, key.keyset_id):
        raise _broken(context.ref, "it was sealed under another key")
    bound = _encode_context(sealed[:_HEADER_BYTES], context)
    record_key, nonce, commitment = _derive(key.secret, header.salt, bound)
    if not hmac.compare_digest(commitment, sealed[_HEADER_BYTES:_BODY_AT]):
        raise _broken(context.ref, "it was changed, or moved here from another place")
    try:
        value = _unpad(AESGCM(record_key.reveal()).decrypt(nonce, sealed[_BODY_AT:], bound))
    except InvalidTag:
        raise _broken(context.ref, "it was changed, or moved here from another place") from None
    if value is None:
        raise _broken(context.ref, "its padding is wrong")
    return value


def length_prefixed(*fields: bytes) -> bytes:
    """Each field as a 4-byte big-endian length and its bytes: no two field lists encode alike."""
    return b"".join([len(field).to_bytes(4, "big") + field for field in fields])


def _encode_context(header: bytes, context: Context) -> bytes:
    """:func:`length_prefixed` over label, header, keyring, store, ref, version and expiry."""
    ref = context.ref.encode()
    return b"".join(
        (
            _BEGINNING,
            header,
            _encode_place(context.keyring, context.store),
            len(ref).to_bytes(4, "big"),
            ref,
            _END.pack(8, context.version, 8, context.expires),
        )
    )


@lru_cache(64)
def _encode_place(keyring: str, store: str) -> bytes:
    return length_prefixed(keyring.encode(), store.encode())


def _derive(data_key: Secret, salt: bytes, bound: bytes) -> tuple[Secret, bytes, bytes]:
    """Record key (32 bytes), nonce (12) and commitment (32).

    Each is HKDF-Expand with an info of its own; none is longer than a hash, so it is the first block: HMAC of info and
    0x01. The three share one keyed state, which is most of what they cost.
    """
    keyed = HMAC(HKDF.extract(_SHA256, salt, data_key.reveal()), _SHA256)
    tail = sha256(bound).digest() + b"\x01"
    found = []
    for purpose in (b"key", b"nonce", b"commit"):
        block = keyed.copy()
        block.update(LABEL + b"/" + purpose + b"\x00" + tail)
        found.append(block.finalize())
    record_key, nonce, commitment = found
    return Secret(record_key), nonce[:NONCE_BYTES], commitment


def _pad(value: bytes) -> bytes:
    # Hides the length up to 64 bytes; before encryption, so that the padding is authenticated too.
    marked = value + b"\x80"
    return marked + bytes(-len(marked) % BLOCK)


def _unpad(padded: bytes) -> Secret | None:
    value, mark, rest = padded.rpartition(b"\x80")
    if not mark or rest.strip(b"\x00") or not value or len(rest) >= BLOCK:
        return None  # raising here would leave the plaintext in a traceback's locals
    return Secret(value)


def _broken(ref: str, reason: str) -> SecretBroken:
    return SecretBroken(
        f"{ref}: the stored value does not open: {reason}",
        hint=f"Restore it from a backup, or set it again with `identitymesh secrets set {ref}`.",
    )
