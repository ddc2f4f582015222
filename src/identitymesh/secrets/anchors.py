"""The anchor: what this host remembers of a keyring, so that another one cannot take its place.

age does not authenticate the sender: whoever can write the database can seal a keyring
of his own to our public recipients. ``host/<keyring>.anchor`` is JSON of mode 0600 with
the installation, the keyset id, a hash of the keyset secret and the highest generation
seen. It moves only upwards, only after the commit. Described in ``docs/formats/anchor.md``.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from identitymesh.errors import AnchorBroken, KeyringExists, KeyringRolledBack, KeyringSubstituted
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.private_files import UnsafeFile, create_private, one_at_a_time, read_private, replace_private

FORMAT: Final = "identitymesh-anchor/1"
MODE: Final = 0o600
MAX_BYTES: Final = 4096
_FIELDS: Final = frozenset({"format", "installation", "keyring", "keyset", "keyset_secret_sha256", "generation"})
_KEEP: Final = "Nothing was released. Keep the host folder and the database as they are until this is understood. "


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a host remembers of one keyring."""

    installation: str
    keyring: str
    keyset: str
    keyset_secret_sha256: str
    generation: int

    @classmethod
    def of(cls, document: Document) -> Anchor:
        return cls(
            document.installation,
            document.keyring,
            document.keyset_id.hex(),
            document.secret_hash(),
            document.generation,
        )

    def check(self, document: Document) -> None:
        """Compare an opened keyring with what this host remembers.

        Raises:
            KeyringSubstituted: another installation, keyring, keyset, or a keyset secret that
                the one of this host does not endorse.
            KeyringRolledBack: an older generation.
        """
        found = Anchor.of(document)
        where = f"keyring {self.keyring}"
        if found.installation != self.installation:
            raise _substituted(where, f"it belongs to installation {found.installation}, not to {self.installation}")
        if found.keyring != self.keyring:
            raise _substituted(where, f"the keyring {found.keyring} stands in its place")
        if found.keyset != self.keyset:
            raise _substituted(where, f"it is keyset {found.keyset}, not {self.keyset}")
        same = hmac.compare_digest(found.keyset_secret_sha256, self.keyset_secret_sha256)
        if not same and not document.is_endorsed(self.keyset_secret_sha256, self.generation):
            raise _substituted(where, "it was not made by whoever made the keyring of this host")
        if found.generation < self.generation:
            raise KeyringRolledBack(
                f"{where}: the database holds generation {found.generation}; this host has seen {self.generation}",
                hint=_KEEP + "If the database was restored from an older backup, restore a newer one.",
            )


def _substituted(where: str, reason: str) -> KeyringSubstituted:
    return KeyringSubstituted(
        f"{where}: the keyring in the database is not the one of this host: {reason}",
        hint=_KEEP + "Check database.url and the folder; if both are right, somebody replaced the keyring: "
        "restore the database from a backup.",
    )


class AnchorFile:
    """Reads and moves one anchor."""

    def __init__(self, host: Path, keyring: str) -> None:
        self.path = host / f"{keyring}.anchor"
        self._keyring = keyring

    def exists(self) -> bool:
        """Something stands under this name."""
        return self.path.exists() or self.path.is_symlink()

    def describe(self) -> str:
        return str(self.path)

    def read(self) -> Anchor:
        """The anchor of this host.

        Raises:
            AnchorBroken: missing, unsafe or damaged. It is not made anew: without it a
                replaced keyring would look like the right one.
        """
        try:
            content = read_private(self.path, modes=(MODE,), max_bytes=MAX_BYTES)
        except FileNotFoundError:
            raise self._broken("it is missing, though this host has a key") from None
        except UnsafeFile as reason:
            raise self._broken(str(reason)) from None
        try:
            anchor = _parse(json.loads(content.reveal()))
        except (ValueError, TypeError, KeyError):
            raise self._broken("it is damaged") from None
        if anchor.keyring != self._keyring:
            raise self._broken(f"it is the anchor of the keyring {anchor.keyring}")
        return anchor

    def create(self, anchor: Anchor) -> None:
        """Write the first anchor of this host.

        Raises:
            KeyringExists: there is one already; it is left as it is.
        """
        try:
            create_private(self.path, _encode(anchor), mode=MODE)
        except FileExistsError:
            raise KeyringExists(f"keyring {self._keyring}: the anchor {self.path} exists already") from None

    def advance(self, document: Document) -> None:
        """Remember a checked document of a higher generation; a lower one changes nothing. Call it after the commit.

        Raises:
            AnchorBroken: it cannot be read or written.
            KeyringSubstituted: another process moved it to something else in between.
        """
        if self.read().generation >= document.generation:
            return
        try:
            with one_at_a_time(self.path):
                anchor = self.read()  # another process may have been here in between
                if anchor.generation < document.generation:
                    anchor.check(document)
                    replace_private(self.path, _encode(Anchor.of(document)), mode=MODE)
        except OSError as error:
            raise self._broken(f"it cannot be moved up: {(error.strerror or type(error).__name__).lower()}") from None

    def _broken(self, reason: str) -> AnchorBroken:
        return AnchorBroken(
            f"keyring {self._keyring}: the anchor {self.path} cannot be used: {reason}",
            hint="Put the anchor of this host back together with its key, or join the host anew with the recovery key.",
        )


def _encode(anchor: Anchor) -> Secret:
    fields = {"format": FORMAT} | {name: getattr(anchor, name) for name in sorted(_FIELDS - {"format"})}
    return Secret(json.dumps(fields, sort_keys=True, indent=1) + "\n")


def _parse(fields: dict[str, Any]) -> Anchor:
    if fields.keys() != _FIELDS or fields.pop("format") != FORMAT:
        raise ValueError("format")
    generation = fields.pop("generation")
    if type(generation) is not int or generation < 1 or not all(isinstance(value, str) for value in fields.values()):
        raise TypeError("field")
    return Anchor(generation=generation, **fields)
