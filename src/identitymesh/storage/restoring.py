"""Restores a backup on this host: checked, loaded, opened with the recovery key, joined, paused.

The order decides what a kill leaves behind::

    1  the backup is read to its end; the recovery key opens both its keyrings, which vouch for its manifest
    2  this host gets its keys, and a slot in each keyring, in a generation above every anchor; a fresh process opens
       these very keyrings
    3  an anchor that would not accept them makes way (only with --replace)
    4  one transaction: every table, these keyrings, the pause
    5  anchors move up

Killed before 4 nothing has changed but files that the same command uses again; after it the installation is there, and
paused. The same command carries on.
"""

from __future__ import annotations

import contextlib
import hmac
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from identitymesh.errors import AnchorBroken, BackupRefused, KeyringRolledBack, KeyringSubstituted
from identitymesh.redaction import Secret
from identitymesh.secrets.age import new_identity, recipient_of, seal_document
from identitymesh.secrets.anchors import Anchor, AnchorFile
from identitymesh.secrets.custody.sheet import RecoverySheet
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.keyring import CONNECTORS, KEYRINGS, Document, Slot, SlotState
from identitymesh.secrets.keyrings import check_row, open_row
from identitymesh.secrets.opentest import Attempt, open_in_fresh_process
from identitymesh.secrets.private_files import sync_directory
from identitymesh.secrets.protectors import HOST_FILE, Place, find_protector
from identitymesh.secrets.rows import KeyringRow
from identitymesh.secrets.setup import HOST_MODE
from identitymesh.storage import backups
from identitymesh.storage.archive import Archive, refused
from identitymesh.storage.database import Database


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person says about a restore."""

    recovery_key: Secret
    fingerprint: str | None = None
    replace: bool = False
    unauthenticated: bool = False


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was restored, and what to look at next. ``verified``: the fingerprint of the recovery sheet was compared."""

    installation: str
    created: str
    rows: int
    fingerprint: str
    verified: bool
    authenticated: bool
    resumed: bool
    lost_slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is restored: the database, this host's folder and its name."""

    database: Database
    host: Path
    label: str
    actor: str


def restore(file: Path, target: Target, wish: Wish) -> RestoreReport:
    """Restore a backup, and make this host a host of it.

    Raises:
        BackupRefused: it is damaged, nobody vouches for it, or something living is in the way; nothing was changed.
        KeyringError: the recovery key does not open it, or a fresh process does not; nothing was changed.
        KeyringSubstituted: its fingerprint is another one; nothing was changed.
    """
    with Archive(file) as archive:
        rows = archive.verify()
        stored = backups.keyrings_of(archive)
        documents = _open(archive, stored, wish)
        sheet = _check_fingerprint(documents, wish)
        done = _assert_free(target.database, archive, replace_it=wish.replace)
        if not done:
            _restore(archive, target, documents, wish)
        RecoverySheet(target.host).note(sheet, verified=wish.fingerprint is not None)
        manifest = archive.manifest
        return RestoreReport(
            installation=manifest.installation,
            created=manifest.created,
            rows=rows,
            fingerprint=sheet,
            verified=wish.fingerprint is not None,
            authenticated=manifest.authenticated,
            resumed=done,
            lost_slots=tuple(sorted(_lost(documents, target.host))),
        )


def _restore(archive: Archive, target: Target, documents: dict[str, Document], wish: Wish) -> None:
    make_host_folder(target.host)
    living = backups.generations(target.database)
    settled = {name: _settle(one, target, living.get(name, 0)) for name, one in documents.items()}
    sealed = {name: seal_document(one) for name, one in settled.items()}
    _prove(settled, sealed, target.host, wish.recovery_key)
    for name, document in settled.items():
        _make_way(AnchorFile(target.host, name), document)
    own = _own_slots(documents, target.host)
    backups.load(target.database, archive, settled, sealed, target.actor, own=own)
    for name, document in settled.items():
        AnchorFile(target.host, name).advance(document)


def make_host_folder(host: Path) -> None:
    host.mkdir(mode=HOST_MODE, exist_ok=True)
    if not any(host.iterdir()):
        host.chmod(HOST_MODE)  # whatever the umask
        sync_directory(host.parent)


def _settle(document: Document, target: Target, living: int) -> Document:
    """The keyring with a slot of this host, in a generation above everything that any host may have seen."""
    key = find_protector(HOST_FILE, Place(target.host, document.keyring))
    if key.exists():
        identity = key.identity()
    else:
        identity = new_identity()
        key.guard(identity)
    anchor = AnchorFile(target.host, document.keyring)
    seen = [document.generation, living]
    if anchor.exists():
        with contextlib.suppress(AnchorBroken):
            seen.append(anchor.read().generation)
    slots = document.slots
    own = document.slot_of(recipient_of(identity))
    if own is None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        recipient = recipient_of(identity)
        slots = (*slots, Slot(str(uuid.uuid4()), HOST_FILE, target.label, SlotState.ACTIVE, recipient, moment))
    elif own.state is not SlotState.ACTIVE:
        slots = document.with_active([own.id]).slots
    return replace(document, slots=slots, generation=max(seen) + 1)


def _prove(settled: dict[str, Document], sealed: dict[str, bytes], host: Path, recovery_key: Secret) -> None:
    """The very bytes that will be stored are opened by a process that made none of them."""
    attempts = []
    for name, document in settled.items():
        identity = find_protector(HOST_FILE, Place(host, name)).identity()
        own, recovery = document.slot_of(recipient_of(identity)), document.slot_of(recipient_of(recovery_key))
        for slot, typed in ((own, None), (recovery, recovery_key)):
            if slot is not None:
                attempts.append((Attempt(slot.type, sealed[name], Place(host, name, typed, slot.id)), document))
    open_in_fresh_process(attempts)


def _open(archive: Archive, stored: dict[str, KeyringRow], wish: Wish) -> dict[str, Document]:
    if set(stored) != set(KEYRINGS):
        raise refused("it does not hold both keyrings")
    documents = {name: open_row(row, wish.recovery_key, given="this recovery key") for name, row in stored.items()}
    for name, row in stored.items():
        check_row(row, documents[name])
    if {one.installation for one in documents.values()} != {archive.manifest.installation}:
        raise refused("its keyrings belong to another installation than it says")
    if not archive.manifest.authenticated:
        if not wish.unauthenticated:
            raise BackupRefused(
                "nobody vouches for this backup: its host could not open the keyring when it was made",
                hint="If you trust where it was kept: --unauthenticated. Nothing was changed.",
            )
    elif not archive.check_mac(documents[CONNECTORS]):
        raise refused("its manifest was changed after it was made")
    return documents


def _check_fingerprint(documents: dict[str, Document], wish: Wish) -> str:
    sheet = fingerprint(documents[CONNECTORS].installation, recipient_of(wish.recovery_key))
    if wish.fingerprint is not None and not hmac.compare_digest(sheet, wish.fingerprint.strip().lower()):
        raise KeyringSubstituted(
            f"the backup has the fingerprint {sheet}, not the one that was given",
            hint="Nothing was changed. Compare with the recovery sheet; this is a backup of something else.",
        )
    return sheet


def _assert_free(database: Database, archive: Archive, *, replace_it: bool) -> bool:
    """Whether this very restore was begun before and only has to be finished."""
    known, digest = backups.restored_from(database)
    if known is None:
        return False
    if digest == archive.manifest.digest and not replace_it:
        return True
    if not replace_it:
        raise BackupRefused(
            f"{database.describe()} holds the installation {known}; nothing was changed",
            hint="To put the backup in its place, and lose what came after it: --replace",
        )
    return False


def _make_way(anchor: AnchorFile, document: Document) -> None:
    """An anchor of another keyset secret, or one that is damaged: the recovery key overrules it."""
    if anchor.exists():
        try:
            anchor.read().check(document)
        except (AnchorBroken, KeyringSubstituted, KeyringRolledBack):
            anchor.path.unlink()
        else:
            return
    anchor.create(Anchor.of(document))


def _own_slots(documents: dict[str, Document], host: Path) -> set[str]:
    """Slots of keys that are on this host already."""
    found = set()
    for name, document in documents.items():
        key = find_protector(HOST_FILE, Place(host, name))
        slot = document.slot_of(recipient_of(key.identity())) if key.exists() else None
        if slot is not None:
            found.add(slot.id)
    return found


def _lost(documents: dict[str, Document], host: Path) -> set[str]:
    kept = _own_slots(documents, host)
    return {
        f"{slot.label or slot.type} ({slot.type}, {slot.id})"
        for document in documents.values()
        for slot in document.slots
        if slot.type != "recovery" and slot.id not in kept
    }
