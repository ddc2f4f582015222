"""Key files of encrypted columns: 32 random bytes, for one purpose, that only their owner may read.

Nothing makes a key but :func:`create_key`. A key that is missing, or is not the one that
the columns were encrypted under, is an error with that name: a new key opens nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identitymesh.errors import ColumnKeyExists, ColumnKeyMissing, ColumnKeyUnsafe
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import UnsafeFile, read_private, sync_directory
from identitymesh.secrets.sealing import SealingKey

KEY_BYTES: Final = 32
MODE: Final = 0o600
_MODES: Final = (MODE, 0o400)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_INFO: Final = b"identitymesh/columns/1/"

logger = logging.getLogger("identitymesh.columns")


@dataclass(frozen=True, slots=True)
class ColumnKey:
    """The key of one key file.

    ``id`` (8 hex digits) and ``check`` (64) are derived with HKDF-SHA-256 (RFC 5869): they
    tell keys apart and say nothing about them. ``raw`` encrypts ``compatible`` values;
    what seals, and what fingerprints, is derived from it.
    """

    path: Path
    id: str
    check: str
    raw: Secret
    sealing: SealingKey
    fingerprinting: Secret


def load_key(path: str | os.PathLike[str]) -> ColumnKey:
    """Read a key file, and check again that nobody else could: call it once for each process, keep the answer.

    The load is logged to ``identitymesh.columns``, with path and key id.

    Raises:
        ColumnKeyMissing: there is no such file. None is ever made here.
        ColumnKeyUnsafe: a link, not ours, readable by others, or not exactly 32 bytes.
    """
    place = Path(path)
    try:
        raw = read_private(place, modes=_MODES, max_bytes=KEY_BYTES)
    except FileNotFoundError:
        raise ColumnKeyMissing(
            f"there is no key file {place}",
            hint=(
                "Bring it back from your backup of keys. Only where nothing was encrypted yet: "
                f"identitymesh columns init-key {place}"
            ),
        ) from None
    except UnsafeFile as error:
        raise ColumnKeyUnsafe(f"the key file {place} is not used: {error}", hint=_remedy(place)) from None
    if _size(raw) != KEY_BYTES:
        raise ColumnKeyUnsafe(
            f"the key file {place} is not used: it has {_size(raw)} bytes, and a key has {KEY_BYTES}",
            hint="Bring it back from your backup of keys; keys are raw bytes, neither hex nor Base64.",
        )
    key = make_key(place, raw)
    logger.info("key %s loaded from %s", key.id, place)
    return key


def _remedy(path: Path) -> str:
    return f"It must be a file of its own, belong to the user that this runs as, and have mode 0600: chmod 600 {path}"


def _size(raw: Secret) -> int:
    return len(raw.reveal())


def make_key(path: Path, raw: Secret) -> ColumnKey:
    """What follows from 32 bytes; ``path`` says where they are from."""

    def derive(purpose: bytes, size: int) -> bytes:
        return HKDF(SHA256(), size, None, _INFO + purpose).derive(raw.reveal())

    number = int.from_bytes(derive(b"key-id", 4), "big")
    sealing = SealingKey(number, derive(b"keyset-id", 16), Secret(derive(b"sealed-value", KEY_BYTES)))
    check = derive(b"key-check", 32).hex()
    return ColumnKey(path, f"{number:08x}", check, raw, sealing, Secret(derive(b"fingerprint", KEY_BYTES)))


def create_key(path: Path) -> ColumnKey:
    """Make a key file: mode 0600 from its first moment, durable before this returns.

    Raises:
        ColumnKeyExists: there is something of that name; it is left as it is.
        ColumnKeyMissing: the folder does not exist.
        ColumnKeyUnsafe: the folder cannot be written.
    """
    try:
        with _alone_in(path.parent):
            _remove_unfinished(path)
            handle = os.open(path, _CREATE, MODE)
            _fill(handle, Secret(os.urandom(KEY_BYTES)))
            sync_directory(path.parent)
    except FileExistsError:
        raise ColumnKeyExists(
            f"{path} exists already and is left as it is",
            hint="What it encrypted would be lost with it. Each purpose has a file of its own: choose another name.",
        ) from None
    except FileNotFoundError:
        raise ColumnKeyMissing(
            f"there is no folder {path.parent}", hint=f"Make it for its owner alone: install -d -m 0700 {path.parent}"
        ) from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ColumnKeyUnsafe(
            f"{path} cannot be written: {reason}", hint="Run this as the user that the application runs as."
        ) from None
    return load_key(path)


def _fill(handle: int, content: Secret) -> None:
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), MODE)  # a umask may take rights from the owner; nothing ever adds any
        file.write(content.reveal())
        file.flush()
        os.fsync(file.fileno())


def _remove_unfinished(path: Path) -> None:
    """What a killed ``init-key`` left is shorter than a key: nothing can have been encrypted with it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if path.is_file() and not path.is_symlink() and found.st_size < KEY_BYTES and found.st_uid == os.geteuid():
        path.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One ``init-key`` at a time in a folder."""
    import fcntl  # there is none on Windows

    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
