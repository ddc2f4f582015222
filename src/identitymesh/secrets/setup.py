"""Makes an installation: host keys, anchors, both keyrings. Only ``identitymesh init`` calls it.

The order decides what a crash leaves behind::

    1  host keys and anchors, durable on disk
    2  both keyrings sealed, and opened by a fresh process through every slot
    3  the recovery key is announced (printed and flushed)
    4  one transaction: installation, both keyrings, audit

Killed before 4, the database holds nothing: the host files are of no use, every command
says that there is no keyring, and ``init`` says how to start over. Killed after 4, the
installation is complete, and its recovery key has been shown. There is no moment at
which an installation exists whose recovery key nobody has seen. An error (not a kill)
before 4 takes the new files away again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import KeyringExists
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of, seal_document
from identitymesh.secrets.anchors import Anchor, AnchorFile
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.keyring import KEYRINGS, DataKey, Document, KeyState, Slot, SlotState
from identitymesh.secrets.opentest import Attempt, open_in_fresh_process
from identitymesh.secrets.private_files import sync_directory
from identitymesh.secrets.protectors import HOST_FILE, RECOVERY, Place, find_protector
from identitymesh.secrets.providers import known_providers, unknown_provider
from identitymesh.secrets.rows import InstallationRow, KeyringRow, SecretRows, SecretTransaction, SlotRow
from identitymesh.secrets.sealing import KEY_BYTES, KEYSET_ID_BYTES

HOST_MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class InitResult:
    """A new installation. ``recovery_key`` is the age identity, shown once; ``fingerprint`` belongs on its sheet."""

    installation: str
    recovery_key: Secret
    recovery_recipient: str
    fingerprint: str
    keyrings: tuple[str, ...]
    host: Path


Announce = Callable[[InitResult], None]


def check_new(rows: SecretRows, host: Path) -> None:
    """Make sure that there is nothing here that a new installation could replace.

    Raises:
        KeyringExists: a keyring row, a host key or an anchor exists. Nothing was changed.
    """
    with rows.read() as view:
        stored = [name for name in KEYRINGS if view.keyring(name) is not None]
        known = view.installation()
    present = [place for name in KEYRINGS for place in _present(host, name)]
    if stored or known is not None:
        raise KeyringExists(
            f"the database has an installation already (keyrings: {', '.join(stored) or 'none'}); nothing was changed",
            hint="Use it, or run `identitymesh init` in a new folder with another database.",
        )
    if present:
        raise KeyringExists(
            f"{present[0]} exists, but the database has no keyring; nothing was changed",
            hint="If this folder served an installation, restore its database. If an earlier `identitymesh init` was "
            f"interrupted, nothing was stored under these keys: remove {host} and run it again.",
        )


def initialise(
    rows: SecretRows, host: Path, *, provider: str, actor: str, label: str, announce: Announce
) -> InitResult:
    """Make a new installation in an empty database (with its schema) and an absent or empty ``host`` folder.

    ``announce`` must show the recovery key durably (print and flush) before it returns;
    it is called before anything is stored. ``label`` names this host in the slot list.

    Raises:
        KeyringExists: there is something already; nothing was changed.
        ProviderError: ``provider`` is unknown.
        KeyringBroken: a fresh process could not open what was made; nothing was stored.
        Exception: whatever ``announce`` raises; nothing was stored.
    """
    if provider not in known_providers():
        raise unknown_provider(provider)
    check_new(rows, host)
    installation = str(uuid.uuid4())
    recovery_key = new_identity()
    recipient = recipient_of(recovery_key)
    result = InitResult(installation, recovery_key, recipient, fingerprint(installation, recipient), KEYRINGS, host)
    with ExitStack() as undo:
        if make_host_folder(host):
            undo.callback(_remove_folder, host)
        made = [_make_keyring(result, name, label, undo) for name in KEYRINGS]
        _prove(made, result)
        announce(result)
        now = datetime.now(UTC)
        with rows.write() as transaction:
            _store(transaction, made, InstallationRow(installation, provider, now), actor, label)
        undo.pop_all()
    return result


def _present(host: Path, keyring: str) -> list[str]:
    """What this host has of a keyring: its key, its anchor."""
    key, anchor = find_protector(HOST_FILE, Place(host, keyring)), AnchorFile(host, keyring)
    return [thing.describe() for thing in (key, anchor) if thing.exists()]


def make_host_folder(host: Path) -> bool:
    """Make the folder of this host's keys; False when there is one."""
    try:
        host.mkdir(mode=HOST_MODE)
    except FileExistsError:
        return False
    host.chmod(HOST_MODE)  # whatever the umask
    sync_directory(host.parent)
    return True


def _remove_folder(host: Path) -> None:
    """Only if nothing else is in it by now."""
    if not any(host.iterdir()):
        host.rmdir()


def _make_keyring(result: InitResult, name: str, label: str, undo: ExitStack) -> tuple[Document, bytes]:
    """Host key, document, sealed file and anchor of one keyring; the document says ``active``, which is proven next."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    host_key = find_protector(HOST_FILE, Place(result.host, name))
    host_identity = new_identity()
    host_key.guard(host_identity)
    undo.callback(host_key.remove)
    recipients = (
        (HOST_FILE, label, recipient_of(host_identity)),
        (RECOVERY, "", result.recovery_recipient),
    )
    document = Document(
        installation=result.installation,
        keyring=name,
        keyset_id=os.urandom(KEYSET_ID_BYTES),
        keyset_secret=Secret(os.urandom(KEY_BYTES)),
        generation=1,
        data_keys=(DataKey(1, KeyState.PRIMARY, now, Secret(os.urandom(KEY_BYTES))),),
        slots=tuple(Slot(str(uuid.uuid4()), kind, text, SlotState.ACTIVE, to, now) for kind, text, to in recipients),
    )
    anchor_file = AnchorFile(result.host, name)
    anchor_file.create(Anchor.of(document))
    undo.callback(anchor_file.path.unlink, missing_ok=True)
    return document, seal_document(document)


def _prove(made: list[tuple[Document, bytes]], result: InitResult) -> None:
    """The very bytes that will be stored are opened through each slot, by a process that made none of them."""
    attempts: list[tuple[Attempt, Document]] = []
    for document, sealed in made:
        name = document.keyring
        for slot in document.slots:
            typed = result.recovery_key if slot.type == RECOVERY else None
            attempts.append((Attempt(slot.type, sealed, Place(result.host, name, typed, slot.id)), document))
    open_in_fresh_process(attempts)


def _store(
    transaction: SecretTransaction, made: list[tuple[Document, bytes]], row: InstallationRow, actor: str, label: str
) -> None:
    if not transaction.insert_installation(row):
        raise KeyringExists("another process made an installation in this database just now; nothing was changed")
    for document, sealed in made:
        keyring = KeyringRow(document.keyring, document.generation, sealed, row.created)
        slots = [
            SlotRow(
                document.keyring,
                slot.id,
                slot.type,
                slot.label,
                slot.state.value,
                slot.recipient,
                opened=row.created,  # by the fresh process that proved it
                opened_by=label,
            )
            for slot in document.slots
        ]
        transaction.insert_keyring(keyring, slots)
    transaction.audit(
        Record(
            "keyring.create",
            document.keyring,
            actor,
            payload={
                "installation": document.installation,
                "keyset": document.keyset_id.hex(),
                "slots": [slot.type for slot in document.slots],
            },
        )
        for document, _sealed in made
    )
