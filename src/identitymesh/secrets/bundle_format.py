"""The bundle: secrets of an installation as one age file for chosen recipients. Pure: no file, no database.

Inside is JSON, described in ``docs/formats/bundle.md``; the ordinary ``age`` program shows it. age does not say who
made a file, so reading checks everything that could hurt: names, sizes, counts, unknown fields.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from identitymesh.errors import MeshError, ReferenceInvalid, SecretError
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import KEYRINGS
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.sealing import MAX_VALUE_BYTES, check_value

FORMAT: Final = "identitymesh-bundle/1"
MAX_BYTES: Final = 512 * 1024 * 1024
MAX_SECRETS: Final = 200_000
MAX_TEXT: Final = 1000
MAX_CADENCE: Final = 36_500
_HEAD: Final = frozenset({"format", "installation", "created", "secrets"})
_FIELDS: Final = frozenset({"ref", "keyring", "value", "owner", "description", "cadence_days"})


class BundleRefused(SecretError):
    """A bundle that is not one, or that holds something which may not be stored."""

    code = "bundle-refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """One secret of a bundle."""

    ref: SecretReference
    keyring: str
    value: Secret
    owner: str | None = None
    description: str | None = None
    cadence_days: int | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is in a bundle: where it comes from, when it was made, and its secrets by ref."""

    installation: str
    created: str
    entries: tuple[Entry, ...]


def encode(installation: str, entries: Sequence[Entry]) -> Secret:
    """The bundle as JSON."""
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    secrets = [_encode_entry(one) for one in sorted(entries, key=lambda one: one.ref)]
    content = {"format": FORMAT, "installation": installation, "created": created, "secrets": secrets}
    return Secret(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True) + "\n")


def _encode_entry(entry: Entry) -> dict[str, Any]:
    return {
        "ref": entry.ref.text,
        "keyring": entry.keyring,
        "value": base64.b64encode(entry.value.reveal()).decode(),
        "owner": entry.owner,
        "description": entry.description,
        "cadence_days": entry.cadence_days,
    }


def decode(content: Secret) -> Bundle:
    """Read and check a bundle, all of it.

    Raises:
        BundleRefused: it is not one of this version, or one entry of it may not be stored; names the entry.
    """
    fields = _parse(content)
    if (
        fields is None
        or fields.keys() != _HEAD
        or fields["format"] != FORMAT
        or not isinstance(fields["secrets"], list)
    ):
        raise refused("it is not a bundle of this version of Identity Mesh")
    installation, created, secrets = fields["installation"], fields["created"], fields["secrets"]
    if not _is_text(installation) or not _is_text(created):
        raise refused("it does not say which installation made it, and when")
    if len(secrets) > MAX_SECRETS:
        raise refused(f"it has {len(secrets):,} secrets; {MAX_SECRETS:,} is the limit")
    entries = tuple(_decode_entry(one, number) for number, one in enumerate(secrets, 1))
    if len({one.ref for one in entries}) != len(entries):
        raise refused("a reference is in it twice")
    return Bundle(installation, created, entries)


def _parse(content: Secret) -> dict[str, Any] | None:
    """The object in it, or nothing. The parser's own error would quote a part."""
    try:
        found = json.loads(content.reveal())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _decode_entry(fields: Any, number: int) -> Entry:
    where = f"its secret number {number}"
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise refused(f"{where} has fields that are missing or unknown")
    try:
        ref = SecretReference(fields["ref"] if _is_text(fields["ref"]) else "")
    except ReferenceInvalid:
        raise refused(f"{where} has no valid reference") from None
    if fields["keyring"] not in KEYRINGS:
        raise refused(f"{where}, {ref}, names a keyring that this program has not")
    return Entry(ref, fields["keyring"], _value(fields["value"], ref), *_about(fields, ref))


def _value(text: Any, ref: SecretReference) -> Secret:
    value = _from_base64(text) if isinstance(text, str) and len(text) <= 2 * MAX_VALUE_BYTES else None
    if value is None:
        raise refused(f"the value of {ref} is not Base64, or is too large")
    try:
        check_value(value, ref.text)
    except MeshError as error:
        raise refused(error.message) from None
    return value


def _about(fields: dict[str, Any], ref: SecretReference) -> tuple[str | None, str | None, int | None]:
    owner, description, cadence = fields["owner"], fields["description"], fields["cadence_days"]
    if any(text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT) for text in (owner, description)):
        raise refused(f"owner or description of {ref} is no text of at most {MAX_TEXT} characters")
    if cadence is not None and (type(cadence) is not int or not 0 < cadence <= MAX_CADENCE):
        raise refused(f"the cadence of {ref} is no number of days")
    return owner, description, cadence


def _from_base64(text: str) -> Secret | None:
    try:
        return Secret(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def refused(reason: str) -> BundleRefused:
    return BundleRefused(f"the bundle is refused: {reason}", hint="Nothing was stored. Ask for it once more.")
