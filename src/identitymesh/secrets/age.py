"""The age format (C2SP age.md, v1) as keyrings use it: binary files to X25519 recipients.

The one module that calls pyrage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyrage
from pyrage import x25519

from identitymesh.errors import KeyringBroken, KeyringError, SecretBroken, UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import Document, check_rules, encode

IDENTITY_BYTES: Final = 74  # "AGE-SECRET-KEY-1" and 58 characters of Bech32
_NO_MATCH: Final = "No matching keys found"


class NotSealedToUs(Exception):
    """An intact age file that names other recipients."""


def new_identity() -> Secret:
    """A new age X25519 identity."""
    return Secret(str(x25519.Identity.generate()))


def recipient_of(identity: Secret) -> str:
    """The public half, ``age1...``.

    Raises:
        ValueError: not an age X25519 identity.
    """
    return str(_parse(identity).to_public())


def _parse(identity: Secret) -> x25519.Identity:
    try:
        return x25519.Identity.from_str(identity.reveal_text())
    except pyrage.IdentityError:
        raise ValueError("not an age X25519 identity") from None


def seal_document(document: Document) -> bytes:
    """The document as a binary age v1 file (C2SP age.md) to every slot of its own list.

    Raises:
        KeyringBroken: it breaks a rule of keyrings.
    """
    check_rules(document)
    try:
        recipients = [x25519.Recipient.from_str(text) for text in document.recipients()]
        sealed: bytes = pyrage.encrypt(encode(document).reveal(), recipients)
    except (pyrage.RecipientError, pyrage.EncryptError):
        raise KeyringBroken(f"keyring {document.keyring}: a slot's recipient is not an age recipient") from None
    return sealed


def open_age(sealed: bytes, identity: Secret, keyring: str) -> Secret:
    """Decrypt an age file.

    Raises:
        NotSealedToUs: it names other recipients, or its header was replaced.
        KeyringBroken: it is damaged.
    """
    try:
        return Secret(pyrage.decrypt(sealed, [_parse(identity)]))
    except pyrage.DecryptError as error:
        if str(error) == _NO_MATCH:
            raise NotSealedToUs from None
        raise KeyringBroken(
            f"keyring {keyring}: the stored keyring is damaged",
            hint="Restore the database from a backup.",
        ) from None
    except ValueError as error:
        raise KeyringError(f"keyring {keyring}: {error}") from None


def checked_identity(found: Secret, where: str) -> Secret:
    """What a protector gave back, if it is an age X25519 identity.

    Raises:
        KeyringError: it is something else.
    """
    try:
        recipient_of(found)
    except ValueError:
        raise KeyringError(
            f"{where} is not an age X25519 identity", hint="Remove this slot and add it anew; another slot opens."
        ) from None
    return found


def seal_file(content: Secret, recipients: Sequence[str]) -> bytes:
    """A binary age file for these recipients, ``age1...``.

    Raises:
        UsageError: one of them is not an X25519 recipient.
    """
    try:
        parsed = [x25519.Recipient.from_str(text) for text in recipients]
        sealed: bytes = pyrage.encrypt(content.reveal(), parsed)
    except (pyrage.RecipientError, pyrage.EncryptError):
        raise UsageError(
            "what was given as a recipient is not an age recipient",
            hint="It begins with age1; `age-keygen` prints it, and the recovery key has one too.",
        ) from None
    return sealed


def open_file(sealed: bytes, identity: Secret) -> Secret:
    """What an age file holds.

    Raises:
        UsageError: the identity is not one, or is none of its recipients.
        SecretBroken: it is no age file, or is damaged.
    """
    try:
        return Secret(pyrage.decrypt(sealed, [_parse(identity)]))
    except pyrage.DecryptError as error:
        if str(error) == _NO_MATCH:
            raise UsageError(
                "the file is not sealed to this key", hint="Give the private key of one of its recipients."
            ) from None
    except ValueError:
        raise UsageError(
            "what was given is not an age key", hint="It is one line beginning with AGE-SECRET-KEY-1."
        ) from None
    raise SecretBroken("the file is no age file, or is damaged", hint="Nothing was stored. Ask for it once more.")
