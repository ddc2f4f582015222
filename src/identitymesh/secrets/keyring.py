"""The keyring document: what is inside the age file of a keyring. Pure values, no input or output.

Canonical JSON (sorted names, no spaces, ASCII), described in ``docs/formats/keyring.md``.
Bytes are Base64 (RFC 4648), ids hexadecimal, moments RFC 3339 in UTC with seconds.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identitymesh.errors import KeyringBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.sealing import KEY_BYTES, KEYSET_ID_BYTES, SealingKey, length_prefixed

FORMAT: Final = "identitymesh-keyring/1"
CONNECTORS: Final = "connectors"
APPLICATION: Final = "application"
KEYRINGS: Final = (CONNECTORS, APPLICATION)

_ANCHOR_LABEL: Final = b"identitymesh/keyset-secret/1\x00"
_ENDORSEMENT_INFO: Final = b"identitymesh/keyring-endorsement/1"
MAX_ENDORSEMENTS: Final = 64
_LEDGER_INFO: Final = b"identitymesh/ledger-audience/1"


class SlotState(StrEnum):
    PENDING = "pending"  # no fresh process has opened the keyring through it yet
    ACTIVE = "active"


class KeyState(StrEnum):
    PREPARED = "prepared"  # every reader learns it before anything is sealed with it
    PRIMARY = "primary"  # seals; exactly one
    RETIRING = "retiring"  # opens only


@dataclass(frozen=True, slots=True)
class Slot:
    """One way to open the keyring: an age recipient whose identity a protector guards."""

    id: str
    type: str
    label: str
    state: SlotState
    recipient: str
    created: str


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key that seals values: 32 bytes."""

    id: int
    state: KeyState
    created: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Endorsement:
    """An earlier keyset secret, and its word for the one that followed in ``generation``.

    Only who could open the keyring of that time knows the secret. A host whose anchor has
    its hash can therefore follow to the next one, however many changes it slept through.
    """

    generation: int
    secret: Secret
    next_secret_sha256: str
    mac: bytes


@dataclass(frozen=True)  # without slots: cached_property
class Document:
    """A keyring, opened. The slot list here is the truth; rows in the database are hints."""

    installation: str
    keyring: str
    keyset_id: bytes
    keyset_secret: Secret
    generation: int
    data_keys: tuple[DataKey, ...]
    slots: tuple[Slot, ...]
    endorsements: tuple[Endorsement, ...] = ()

    def primary(self) -> SealingKey:
        """The key that seals new values."""
        return next(self._sealing(key) for key in self.data_keys if key.state is KeyState.PRIMARY)

    def sealing_key(self, key_id: int) -> SealingKey | None:
        """The key with this id, or ``None``: keys are named, never tried in turn."""
        return next((self._sealing(key) for key in self.data_keys if key.id == key_id), None)

    def _sealing(self, key: DataKey) -> SealingKey:
        return SealingKey(key.id, self.keyset_id, key.secret)

    def secret_hash(self) -> str:
        """What anchors remember of the keyset secret: SHA-256 in hexadecimal."""
        return hash_of(self.keyset_secret)

    @cached_property
    def ledger_key(self) -> Secret:
        """The key of the HMAC over audiences, HKDF-SHA-256 (RFC 5869) of the keyset secret."""
        return Secret(HKDF(SHA256(), KEY_BYTES, self.keyset_id, _LEDGER_INFO).derive(self.keyset_secret.reveal()))

    def endorse(self, next_secret: Secret, generation: int) -> Endorsement:
        """This keyset secret's word for the next one."""
        following = hash_of(next_secret)
        return Endorsement(
            generation, self.keyset_secret, following, self._word(self.keyset_secret, generation, following)
        )

    def is_endorsed(self, secret_sha256: str, generation: int) -> bool:
        """Whether endorsements lead here from the keyset secret with this hash, last seen at ``generation``."""
        at, seen = secret_sha256, generation
        for one in self.endorsements:
            if hash_of(one.secret) != at or one.generation <= seen:
                continue
            if not hmac.compare_digest(one.mac, self._word(one.secret, one.generation, one.next_secret_sha256)):
                return False
            at, seen = one.next_secret_sha256, one.generation
        return hmac.compare_digest(at, self.secret_hash()) and seen <= self.generation

    def _word(self, secret: Secret, generation: int, following: str) -> bytes:
        key = HKDF(SHA256(), KEY_BYTES, self.keyset_id, _ENDORSEMENT_INFO).derive(secret.reveal())
        fields = (self.installation, self.keyring, self.keyset_id.hex(), hash_of(secret), following, str(generation))
        return hmac.digest(key, length_prefixed(*(field.encode() for field in fields)), "sha256")

    def recipients(self) -> tuple[str, ...]:
        """To whom the next age file is sealed: every slot, active or pending."""
        return tuple(slot.recipient for slot in self.slots)

    def slot_of(self, recipient: str) -> Slot | None:
        return next((slot for slot in self.slots if slot.recipient == recipient), None)

    def with_active(self, slot_ids: Sequence[str]) -> Document:
        """These slots active, in the same generation. For a document that is not stored yet."""
        slots = tuple(replace(s, state=SlotState.ACTIVE) if s.id in slot_ids else s for s in self.slots)
        return replace(self, slots=slots)


def hash_of(keyset_secret: Secret) -> str:
    """What anchors remember of a keyset secret: SHA-256 in hexadecimal."""
    return sha256(_ANCHOR_LABEL + keyset_secret.reveal()).hexdigest()


def check_rules(document: Document) -> None:
    """The rules that hold for every keyring, at each writing and each opening.

    Raises:
        KeyringBroken: fewer than two active slots, none of them recovery, a recipient or
            an id twice, not exactly one primary data key, or a size that is wrong.
    """
    active = [slot for slot in document.slots if slot.state is SlotState.ACTIVE]
    ids = [key.id for key in document.data_keys]
    problems = {
        "it is not one of the keyrings of this program": document.keyring not in KEYRINGS,
        "fewer than two slots are active": len(active) < 2,
        "no recovery slot is active": all(slot.type != "recovery" for slot in active),
        "a slot is listed twice": len({slot.id for slot in document.slots}) != len(document.slots)
        or len(set(document.recipients())) != len(document.slots),
        "a data key is listed twice": len(set(ids)) != len(ids),
        "it has not exactly one primary data key": [k.state for k in document.data_keys].count(KeyState.PRIMARY) != 1,
        "a key has a wrong size": any(len(key.secret.reveal()) != KEY_BYTES for key in document.data_keys)
        or len(document.keyset_secret.reveal()) != KEY_BYTES
        or any(len(one.secret.reveal()) != KEY_BYTES for one in document.endorsements)
        or len(document.keyset_id) != KEYSET_ID_BYTES,
        "a number is out of range": document.generation < 1 or any(not 0 < number < 2**32 for number in ids),
    }
    for problem, found in problems.items():
        if found:
            raise KeyringBroken(f"keyring {document.keyring}: {problem}")


def encode(document: Document) -> Secret:
    """The document as canonical JSON."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "installation": document.installation,
        "keyring": document.keyring,
        "keyset": document.keyset_id.hex(),
        "keyset_secret": base64.b64encode(document.keyset_secret.reveal()).decode(),
        "generation": document.generation,
        "data_keys": [
            {
                "id": key.id,
                "state": key.state.value,
                "created": key.created,
                "key": base64.b64encode(key.secret.reveal()).decode(),
            }
            for key in document.data_keys
        ],
        "slots": [
            {
                "id": slot.id,
                "type": slot.type,
                "label": slot.label,
                "state": slot.state.value,
                "recipient": slot.recipient,
                "created": slot.created,
            }
            for slot in document.slots
        ],
        "endorsements": [
            {
                "generation": one.generation,
                "secret": base64.b64encode(one.secret.reveal()).decode(),
                "next_secret_sha256": one.next_secret_sha256,
                "mac": base64.b64encode(one.mac).decode(),
            }
            for one in document.endorsements
        ],
    }
    return Secret(json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def decode(content: Secret, name: str) -> Document:
    """Read and check a document; ``name`` is the keyring for messages only.

    Raises:
        KeyringBroken: it is not one, has a field too many or too few, or breaks a rule.
    """
    try:
        document = _parse(json.loads(content.reveal()))
    except (ValueError, TypeError, KeyError, binascii.Error):
        # The cause could quote a part of the document.
        raise KeyringBroken(
            f"keyring {name}: what is sealed in it is not a keyring document of this version",
            hint="Use the version of Identity Mesh that wrote it last, or restore it from a backup.",
        ) from None
    check_rules(document)
    return document


def _parse(fields: dict[str, Any]) -> Document:
    if fields.pop("format") != FORMAT:
        raise ValueError("format")
    return Document(
        installation=_text(fields.pop("installation")),
        keyring=_text(fields.pop("keyring")),
        keyset_id=bytes.fromhex(fields.pop("keyset")),
        keyset_secret=_bytes(fields.pop("keyset_secret")),
        generation=_number(fields.pop("generation")),
        data_keys=tuple(_data_key(key) for key in fields.pop("data_keys")),
        slots=tuple(_slot(slot) for slot in fields.pop("slots")),
        endorsements=tuple(_endorsement(one) for one in fields.pop("endorsements")),
        **fields,  # what is left is a TypeError: a field that this version does not know
    )


def _data_key(fields: dict[str, Any]) -> DataKey:
    secret = _bytes(fields.pop("key"))
    state = KeyState(fields.pop("state"))
    return DataKey(_number(fields.pop("id")), state, _text(fields.pop("created")), secret, **fields)


def _slot(fields: dict[str, Any]) -> Slot:
    state = SlotState(fields.pop("state"))
    names = ("id", "type", "label", "recipient", "created")
    return Slot(state=state, **{name: _text(fields.pop(name)) for name in names}, **fields)


def _endorsement(fields: dict[str, Any]) -> Endorsement:
    mac = base64.b64decode(_text(fields.pop("mac")), validate=True)
    following = _text(fields.pop("next_secret_sha256"))
    return Endorsement(_number(fields.pop("generation")), _bytes(fields.pop("secret")), following, mac, **fields)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _bytes(value: Any) -> Secret:
    return Secret(base64.b64decode(_text(value), validate=True))
