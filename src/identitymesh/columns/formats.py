"""The two forms of an encrypted value, byte for byte in ``docs/formats/columns.md``.

``compatible``: AES-256-GCM (NIST SP 800-38D) under the key file itself, a random 12-byte
nonce beside the ciphertext, no header, nothing bound. Any program that has the key reads it.

``sealed``: a sealed value v1 (:mod:`identitymesh.secrets.sealing`) under a key derived from
the file, bound to table, column and row. It needs no nonce beside it: a value without one is
sealed, a value with one is compatible. So both can stand in one column while it is upgraded.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from identitymesh.columns.keys import ColumnKey
from identitymesh.errors import ColumnBroken, ColumnValueRefused, SecretBroken
from identitymesh.redaction import Secret
from identitymesh.secrets import sealing

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEYRING: Final = "columns"

RowKey = tuple[str, ...]  # the values of the primary key, as the database writes them as text


class Format(StrEnum):
    """What new values are written as."""

    COMPATIBLE = "compatible"
    SEALED = "sealed"


class Cell(NamedTuple):
    """What stands in the two columns of a value. ``nonce`` is ``None`` for a sealed one."""

    encrypted: bytes
    nonce: bytes | None


class Cipher:
    """Encrypts and opens the values of one place.

    ``table`` and ``column`` are the names that sealed values are bound to.
    """

    def __init__(
        self, key: ColumnKey, table: str, column: str, form: Format, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._key = key
        self._aes = AESGCM(key.raw.reveal())
        self._table = table
        self._column = column
        self._form = form
        self._random = random

    @property
    def binds(self) -> bool:
        """Whether :meth:`encrypt` needs the row; else any row will do."""
        return self._form is Format.SEALED

    @property
    def key(self) -> ColumnKey:
        """What it works with."""
        return self._key

    def encrypt(self, row: RowKey, value: Secret) -> Cell:
        """Encrypt a value for its row.

        Raises:
            ColumnValueRefused: it is empty, too large to be sealed, or (compatible) not UTF-8.
        """
        plain = value.reveal()
        if not plain:
            raise ColumnValueRefused(
                f"{self._where(row)}: an empty value is not encrypted", hint="Store no value (NULL) instead."
            )
        if self._form is Format.COMPATIBLE:
            return self._compatible(row, plain)
        if len(plain) > sealing.MAX_VALUE_BYTES:
            raise ColumnValueRefused(
                f"{self._where(row)}: a sealed value has at most {sealing.MAX_VALUE_BYTES:,} bytes",
                hint="Keep it in the format `compatible`, or store what is secret of it alone.",
            )
        return Cell(sealing.seal(value, self._key.sealing, self._context(row), random=self._random), None)

    def open(self, row: RowKey, cell: Cell) -> Secret:
        """The value, in whichever of the two forms it is.

        Raises:
            ColumnBroken: it was changed, cut, swapped or moved, or belongs to another key.
        """
        encrypted, nonce = cell
        if nonce is None:
            try:
                return sealing.unseal(encrypted, self._key.sealing, self._context(row))
            except SecretBroken:
                raise self._broken(row) from None
        if len(nonce) != NONCE_BYTES or len(encrypted) <= TAG_BYTES:
            raise self._broken(row)
        try:
            return Secret(self._aes.decrypt(nonce, encrypted, None))
        except InvalidTag:
            raise self._broken(row) from None

    def _compatible(self, row: RowKey, plain: bytes) -> Cell:
        if not (plain.isascii() or _is_text(plain)):
            raise ColumnValueRefused(
                f"{self._where(row)}: the value is not UTF-8, and readers of `compatible` values expect text",
                hint="Correct the value; or write `format: sealed`, which keeps any bytes of a binary column.",
            )
        nonce = self._random(NONCE_BYTES)
        return Cell(self._aes.encrypt(nonce, plain, None), nonce)

    def writes(self, cell: Cell) -> bool:
        """Whether this is the form that :meth:`encrypt` writes."""
        return (cell.nonce is None) == (self._form is Format.SEALED)

    def _context(self, row: RowKey) -> sealing.Context:
        return sealing.Context(KEYRING, self._table, f"{self._column} {encode_row(row)}", 1)

    def _where(self, row: RowKey) -> str:
        return f"{self._table}.{self._column} of row {show_row(row)}"

    def _broken(self, row: RowKey) -> ColumnBroken:
        return ColumnBroken(
            f"{self._where(row)} does not open: it was changed, cut or swapped, or belongs to another key or row",
            hint="Bring the row back from a backup, or set the secret anew in the application.",
        )


def _is_text(plain: bytes) -> bool:
    try:
        plain.decode()
    except UnicodeDecodeError:
        return False
    return True


_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
ANY_ROW: Final[RowKey] = ("?",)  # where nothing is bound, and the caller names the row


def pooled_random(size: int = 32_768) -> Callable[[int], bytes]:
    """Random bytes, asked of the system by the block. A fork does not go on with the block: it would repeat nonces."""
    pool = b""
    at = owner = 0

    def take(count: int) -> bytes:
        nonlocal pool, at, owner
        if at + count > len(pool) or owner != os.getpid():
            pool, at, owner = os.urandom(max(size, count)), 0, os.getpid()
        at += count
        return pool[at - count : at]

    return take


def encode_row(row: Sequence[str]) -> str:
    """A primary key as text that no other key encodes to: a JSON array of strings, ASCII."""
    return _ENCODE(row)


def show_row(row: Sequence[str]) -> str:
    """A primary key for a person."""
    return row[0] if len(row) == 1 else "(" + ", ".join(row) + ")"


def fingerprint(key: ColumnKey, value: Secret) -> str:
    """Tells whether a value is still the one that was seen, to nobody but who has the key (HMAC-SHA-256, hex)."""
    return hmac.digest(key.fingerprinting.reveal(), value.reveal(), "sha256").hex()
