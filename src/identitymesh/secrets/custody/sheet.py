"""Whether this host's trust in its keyrings was compared with the recovery sheet: ``host/recovery-sheet``.

JSON of mode 0600, written by ``keys join``. No file means that this host made the
installation itself. It lies on the host, because a row could be edited by whom it warns of.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from identitymesh.errors import AnchorBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.private_files import UnsafeFile, read_private, replace_private

FORMAT: Final = "identitymesh-recovery-sheet/1"
MODE: Final = 0o600
MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Sheet:
    """The fingerprint that was found, and whether a person has compared it."""

    fingerprint: str
    verified: bool


class RecoverySheet:
    """Reads and writes the note of this host."""

    def __init__(self, host: Path) -> None:
        self.path = host / "recovery-sheet"

    def read(self) -> Sheet | None:
        """The note; ``None`` where this host made the installation.

        Raises:
            AnchorBroken: it is unsafe or damaged.
        """
        try:
            return _parse(read_private(self.path, modes=(MODE,), max_bytes=MAX_BYTES))
        except FileNotFoundError:
            return None
        except UnsafeFile as reason:
            problem = str(reason)
        except (ValueError, TypeError, KeyError):
            problem = "it is damaged"
        raise AnchorBroken(
            f"the note {self.path} about the recovery sheet cannot be used: {problem}",
            hint="Remove it and run `identitymesh keys join --fingerprint F` with the recovery key.",
        )

    def note(self, fingerprint: str, *, verified: bool) -> bool:
        """Remember it; what was compared once stays compared. Answers whether it is."""
        known = self.read()
        verified = verified or (known is not None and known.verified and known.fingerprint == fingerprint)
        fields = {"format": FORMAT, "fingerprint": fingerprint, "verified": verified}
        if known != Sheet(fingerprint, verified):
            replace_private(self.path, Secret(json.dumps(fields, sort_keys=True, indent=1) + "\n"), mode=MODE)
        return verified


def _parse(content: Secret) -> Sheet:
    fields = json.loads(content.reveal())
    if fields["format"] != FORMAT or not isinstance(fields["verified"], bool):
        raise ValueError("format")
    return Sheet(str(fields["fingerprint"]), fields["verified"])
