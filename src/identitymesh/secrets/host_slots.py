"""Which guarded slots are of this host: ``host/<keyring>.slots``, JSON of mode 0600.

Slot rows in the database are of many hosts. This file names those that were made here, so
that opening a keyring asks no chip and no service about a slot of another machine. It
holds no secret; losing it costs that way of opening, nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from identitymesh.errors import HostKeyUnsafe
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import UnsafeFile, create_private, one_at_a_time, read_private, replace_private

FORMAT: Final = "identitymesh-host-slots/1"
MODE: Final = 0o600
MAX_BYTES: Final = 16384


@dataclass(frozen=True, slots=True, order=True)
class HostSlot:
    """A slot that this host made."""

    id: str
    type: str


class HostSlots:
    """Reads and writes the list of one keyring."""

    def __init__(self, host: Path, keyring: str) -> None:
        self.path = host / f"{keyring}.slots"

    def read(self) -> tuple[HostSlot, ...]:
        """The slots, in the order in which they were made; none if there is no file.

        Raises:
            HostKeyUnsafe: the file may not be trusted, or is damaged.
        """
        try:
            return _parse(read_private(self.path, modes=(MODE,), max_bytes=MAX_BYTES))
        except FileNotFoundError:
            return ()
        except UnsafeFile as reason:
            problem = str(reason)
        except (ValueError, TypeError, KeyError):
            problem = "it is damaged"
        raise HostKeyUnsafe(
            f"the list {self.path} of this host's slots cannot be used: {problem}",
            hint="Put it back as it was; without it (removed) this host opens the keyring with its key file alone.",
        )

    def add(self, slot: HostSlot) -> None:
        with one_at_a_time(self.path):
            known = self.read()
            if slot not in known:
                self._write((*known, slot))

    def remove(self, slot_id: str) -> None:
        with one_at_a_time(self.path):
            known = self.read()
            if any(slot.id == slot_id for slot in known):
                self._write(tuple(slot for slot in known if slot.id != slot_id))

    def _write(self, slots: tuple[HostSlot, ...]) -> None:
        entries = [{"id": slot.id, "type": slot.type} for slot in slots]
        content = Secret(json.dumps({"format": FORMAT, "slots": entries}, sort_keys=True, indent=1) + "\n")
        if self.path.exists():
            replace_private(self.path, content, mode=MODE)
        else:
            create_private(self.path, content, mode=MODE)


def _parse(content: Secret) -> tuple[HostSlot, ...]:
    fields = json.loads(content.reveal())
    if fields["format"] != FORMAT:
        raise ValueError("format")
    return tuple(HostSlot(str(one["id"]), str(one["type"])) for one in fields["slots"])
