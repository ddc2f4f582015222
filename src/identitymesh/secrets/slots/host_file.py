"""The ``host-file`` protector: a slot's identity in ``host/<keyring>.key``.

The file is an ordinary age identity file of one line: 74 bytes of ``AGE-SECRET-KEY-1...``
and a newline. Mode 0400, regular, one link, ours. It is made where a slot is made on
purpose (``init``, ``keys join``, ``keys slots add``) and never mended or made again: a
missing key is a finding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from identitymesh.errors import HostKeyMissing, HostKeyUnsafe, KeyringExists
from identitymesh.redaction import Secret
from identitymesh.secrets.age import IDENTITY_BYTES, recipient_of
from identitymesh.secrets.private_files import UnsafeFile, create_private, read_private
from identitymesh.secrets.protectors import HOST_FILE, Place, Protector, SlotClass, Traits

MODE: Final = 0o400
FILE_BYTES: Final = IDENTITY_BYTES + 1
TRAITS: Final = Traits(SlotClass.UNATTENDED, 1, "whoever reads the key file on its host, or a copy of that file")


def build(place: Place) -> Protector:
    return HostFile(place.host, place.keyring)


class HostFile:
    """Reads and makes one host key file."""

    type = HOST_FILE
    traits = TRAITS

    def __init__(self, host: Path, keyring: str) -> None:
        self.path = host / f"{keyring}.key"
        self._keyring = keyring

    def exists(self) -> bool:
        """Something stands under this name, be it a broken link."""
        return self.path.exists() or self.path.is_symlink()

    def describe(self) -> str:
        return str(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def identity(self) -> Secret:
        """The identity in the file.

        Raises:
            HostKeyMissing: there is no such file.
            HostKeyUnsafe: it may not be trusted, or is not a key.
        """
        _check_folder(self.path.parent)
        try:
            content = read_private(self.path, modes=(MODE,), max_bytes=FILE_BYTES)
        except FileNotFoundError:
            raise HostKeyMissing(
                f"keyring {self._keyring}: the host key {self.path} is missing",
                hint="Put the key file of this host back, run the command in the right folder (IDENTITYMESH_HOME), "
                "or join this host with the recovery key (identitymesh keys join). No key is made in its place.",
            ) from None
        except UnsafeFile as reason:
            raise _unsafe(self.path, str(reason)) from None
        identity = _only_line(content)
        if identity is None:
            raise _unsafe(self.path, f"it is not one line of {IDENTITY_BYTES} bytes")
        try:
            recipient_of(identity)
        except ValueError:
            raise _unsafe(self.path, "its content is not an age X25519 identity") from None
        return identity

    def guard(self, identity: Secret) -> bytes | None:
        """Write the key file, durably. Nothing of it goes into the database.

        Raises:
            KeyringExists: a file has this name; it is left as it is.
        """
        try:
            create_private(self.path, Secret(identity.reveal() + b"\n"), mode=MODE)
        except FileExistsError:
            raise KeyringExists(f"keyring {self._keyring}: the host key {self.path} exists already") from None
        return None


def _only_line(content: Secret) -> Secret | None:
    """The line without its end. A function of its own: no frame that raises holds the key in clear."""
    line = content.reveal()
    return Secret(line[:-1]) if len(line) == FILE_BYTES and line.endswith(b"\n") else None


def _check_folder(folder: Path) -> None:
    """Who may write the folder may exchange the key in it."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return  # the file in it will be found missing
    if mode & 0o022:
        raise HostKeyUnsafe(
            f"the folder {folder} of the host keys may be written by other users",
            hint=f"Find out who did that, then run `chmod 0700 {folder}`.",
        )


def _unsafe(path: Path, reason: str) -> HostKeyUnsafe:
    return HostKeyUnsafe(
        f"the host key {path} may not be trusted: {reason}",
        hint=f"Put the right file back, or correct its mode (chmod 0400 {path}) if nobody else can have read it; "
        "otherwise remove this slot and give the host a new one.",
    )
