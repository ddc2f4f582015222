"""What stands in the vault: names, tags, and values as Base64. Nothing here speaks to anybody.

A name is ``im-`` and the first 32 hex digits of SHA-256 over the ref. That is one way,
so each version we write says in its tags which ref and which installation it is of.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from identitymesh.errors import MeshError, ProviderMismatch, SecretBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.sealing import MAX_VALUE_BYTES

PREFIX: Final = "im-"
DIGITS: Final = 32
TAG_REF: Final = "identitymesh-ref"
TAG_INSTALLATION: Final = "identitymesh-installation"
TAG_PENDING: Final = "identitymesh-pending"
CONTENT_TYPE: Final = "application/octet-stream; encoding=base64"

Tags = Mapping[str, str] | None


def entry_name(ref: str) -> str:
    """``secret://ad/svc/password`` is ``im-4dcca9e40db8d988ebd8f907f7449ec4``."""
    return PREFIX + sha256(ref.encode()).hexdigest()[:DIGITS]


def encode(value: Secret) -> str:
    """The text that stands in the vault."""
    return base64.b64encode(value.reveal()).decode()


def decode(text: Secret, ref: str) -> Secret:
    """The value of a text.

    Raises:
        SecretBroken: it is not Base64, or too large: nobody could move it to another provider.
    """
    try:
        value = base64.b64decode(text.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise SecretBroken(
            f"{ref}: what stands in Azure Key Vault as {entry_name(ref)} is not Base64",
            hint=f"Set it with `identitymesh secrets set {ref}`; or there, as Base64 of its bytes.",
        ) from None
    if not value or len(value) > MAX_VALUE_BYTES:
        raise SecretBroken(
            f"{ref}: what stands in Azure Key Vault has {len(value)} bytes; 1 to {MAX_VALUE_BYTES} are accepted",
            hint=f"Set it with `identitymesh secrets set {ref}`.",
        )
    return Secret(value)


def is_outside(tags: Tags) -> bool:
    """No tag of ours: somebody else set this version."""
    return not any(tag in (tags or {}) for tag in (TAG_REF, TAG_INSTALLATION))


def foreign(tags: Tags, ref: str, installation: str) -> MeshError | None:
    """What is wrong with an entry that stands under the name of ``ref``, if it names something else."""
    if is_outside(tags):
        return None
    told = dict(tags or {})
    if told.get(TAG_INSTALLATION) != installation:
        owner = told.get(TAG_INSTALLATION, "nobody")[:40]
        return ProviderMismatch(
            f"{ref}: {entry_name(ref)} in Azure Key Vault belongs to another installation ({owner})",
            hint="Two installations that use the same refs need a vault each.",
        )
    if told.get(TAG_REF) != ref:
        return ProviderMismatch(
            f"{ref}: {entry_name(ref)} in Azure Key Vault is tagged as {told.get(TAG_REF, 'nothing')[:255]}; not used",
            hint=f"Find out who changed it there; then `identitymesh secrets delete {ref}` and set it again.",
        )
    return None
