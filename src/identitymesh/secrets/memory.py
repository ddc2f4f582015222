"""Keyrings that this process has open, for as long as nothing that they were opened from has changed.

Opening a keyring costs two X25519 operations, or a chip. What was opened and checked once
is used again while all of this is as it was: every byte of the keyring row, the anchor,
the key file, the list of this host's slots, their folder, what the service manager
delivered and, for a slot that is not the key file, what its protector keeps in the
database. Anything else is opened and checked from the start, and refused where it must be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from identitymesh.redaction import Secret
from identitymesh.secrets.anchors import MAX_BYTES, MODE
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.ledger import Audience, read_audience
from identitymesh.secrets.private_files import UnsafeFile, read_private
from identitymesh.secrets.protectors import HOST_FILE, NO_MEANS, Means
from identitymesh.secrets.rows import KeyringRow, SlotRow, StoredAudience

# File systems count time in steps, of two seconds at worst: only of a file that has rested for longer do its times
# say that nothing was written since.
RESTED_NS: Final = 3_000_000_000

TELL_SECONDS: Final = 3600.0  # how often the last successful opening of a slot is written down

Trace = tuple[int, ...] | None
Traces = tuple[tuple[Trace, ...], Secret | None]  # of the files; and the content of the anchor, if that was read


@dataclass(slots=True)
class OpenKeyring:
    """A keyring that was opened and checked, with all that this rests on."""

    generation: int
    sealed: bytes
    traces: Traces
    guards: frozenset[tuple[str, bytes | None]] | None  # None: opened with the key file, whatever lies beside the row
    document: Document
    audiences: dict[str, tuple[str, bytes, Audience]] = field(default_factory=dict)

    def audience(self, row: StoredAudience) -> Audience:
        """As :func:`read_audience`; the same text under the same HMAC is proven once."""
        known = self.audiences.get(row.ref)
        if known is None or known[0] != row.audience or known[1] != row.audience_mac:
            known = self.audiences[row.ref] = (row.audience, row.audience_mac, read_audience(self.document, row))
        return known[2]


class KeyringMemory:
    """What one :class:`SecretStore` remembers. Dropped with it; on no disk."""

    def __init__(self, host: Path, means: Means = NO_MEANS) -> None:
        self._folder = str(host)
        self._delivered = means.credentials
        self._open: dict[str, OpenKeyring] = {}
        self._slots: dict[str, str] = {}
        self._told: dict[tuple[str, str], float] = {}

    def opened_through(self, name: str, slot: str) -> None:
        """A keyring was opened and checked; which slot did it."""
        self._slots[name] = slot

    def slots_to_tell(self) -> Sequence[tuple[str, str]]:
        """Keyring and slot of what is open, unless that was told within the hour: then nobody has to write it again."""
        now = time.monotonic()
        return [one for one in self._slots.items() if now - self._told.get(one, -TELL_SECONDS) >= TELL_SECONDS]

    def told(self, slots: Sequence[tuple[str, str]]) -> None:
        self._told |= dict.fromkeys(slots, time.monotonic())

    def traces(self, name: str) -> Traces:
        """How the files of a keyring stand now."""
        return self._files(name), self._anchor(name)

    def _files(self, name: str) -> tuple[Trace, ...]:
        place = f"{self._folder}{os.sep}{name}"  # strings and few calls: this is on the way of every opening
        folder = _trace(self._folder)
        files = (_trace(place + ".anchor"), _trace(place + ".key"), _trace(place + ".slots"))
        # Of the folder only what it is and who may write it: its times change with every lock.
        return (*files, folder and folder[:4], *self._credentials())

    def _credentials(self) -> tuple[Trace, ...]:
        if self._delivered is None:
            return ()
        try:
            return tuple(_trace(str(path)) for path in sorted(self._delivered.iterdir()))
        except OSError:
            return ()

    def _anchor(self, name: str) -> Secret | None:
        try:
            return read_private(Path(self._folder, f"{name}.anchor"), modes=(MODE,), max_bytes=MAX_BYTES)
        except (OSError, UnsafeFile):
            return None

    def keep(self, row: KeyringRow, slots: Sequence[SlotRow], through: str, before: Traces, document: Document) -> None:
        """Remember a keyring that was opened and checked, ``through`` a slot type, if its files stood still."""
        if before[1] is None or before != self.traces(row.name):
            return
        guards = None if through == HOST_FILE else _guards(slots)
        self._open[row.name] = OpenKeyring(row.generation, row.sealed, before, guards, document)

    def recall(self, name: str, generation: int, sealed: bytes, slots: Sequence[SlotRow] | None) -> OpenKeyring | None:
        """The open keyring of this row, or ``None``. ``slots`` is ``None`` when they were not read."""
        known = self._open.get(name)
        if known is None or known.generation != generation or known.sealed != sealed:
            return None
        if known.guards is not None and (slots is None or known.guards != _guards(slots)):
            return None
        files, anchor = known.traces
        if files != self._files(name):
            return None
        if anchor is not None:
            if anchor != self._anchor(name):
                return None
            if _rested(files):
                known.traces = (files, None)
        return known


def _guards(slots: Sequence[SlotRow]) -> frozenset[tuple[str, bytes | None]]:
    return frozenset((slot.id, slot.guarded) for slot in slots)


def _trace(path: str) -> Trace:
    try:
        it = os.lstat(path)
    except OSError:
        return None
    return it.st_mode, it.st_uid, it.st_dev, it.st_ino, it.st_nlink, it.st_size, it.st_mtime_ns, it.st_ctime_ns


def _rested(files: Sequence[Trace]) -> bool:
    latest = time.time_ns() - RESTED_NS
    return all(trace is None or trace[-1] < latest for trace in files[:3])
