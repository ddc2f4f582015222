"""The custody of keys as commands use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.custody.adding import AddedSlot, add_slots
from identitymesh.secrets.custody.joining import Joining, JoinReport
from identitymesh.secrets.custody.removing import NewRecovery, RemovedSlots, remove_slots, replace_recovery
from identitymesh.secrets.custody.rotation import RotationReport, rotate
from identitymesh.secrets.custody.station import Progress, Station, unwatched
from identitymesh.secrets.custody.status import Status, TrialResult, open_test, status
from identitymesh.secrets.keyring import KEYRINGS
from identitymesh.secrets.keyrings import held


class KeyCustody:
    """Slots, joining, the recovery key and rotation, on one host."""

    def __init__(self, station: Station) -> None:
        self._station = station

    def status(self) -> Status:
        """What there is; needs no key."""
        return status(self._station)

    def open_test(self, through: str | None = None, typed: Secret | None = None) -> Sequence[TrialResult]:
        """Try every slot within reach in a fresh process."""
        return open_test(self._station, through, typed)

    def add(
        self,
        slot_type: str,
        keyrings: Sequence[str],
        label: str | None,
        announce: Callable[[Secret], None],
        *,
        own: Secret | None = None,
    ) -> Sequence[AddedSlot]:
        """A new slot in these keyrings, or in all that this host holds."""
        names = self._names(keyrings) or held(self._station.host, self._station.means) or KEYRINGS
        return add_slots(self._station, slot_type, names, label or self._station.here, announce, own=own)

    def remove(self, wanted: str, keyrings: Sequence[str], *, progress: Progress = unwatched) -> RemovedSlots:
        """Remove slots by id or label, and renew the keys."""
        return remove_slots(self._station, wanted, self._names(keyrings) or KEYRINGS, progress)

    def replace_recovery(
        self, announce: Callable[[NewRecovery], None], *, progress: Progress = unwatched
    ) -> Sequence[RotationReport]:
        """A new recovery key for both keyrings."""
        return replace_recovery(self._station, announce, progress)

    def credential(self, wanted: str) -> bytes:
        """What a protector keeps for a slot, for a credential store. It is encrypted; only its host opens it.

        Raises:
            UsageError: there is no such slot, or nothing is kept for it.
        """
        for name in KEYRINGS:
            for slot in self._station.stored(name)[1]:
                if slot.id == wanted and slot.guarded is not None:
                    return slot.guarded
        raise UsageError(f"nothing is kept for a slot {wanted!r}", hint="See the slots: identitymesh keys status")

    def join(
        self, through: str, typed: Secret | None, *, label: str | None = None, fingerprint: str | None = None
    ) -> JoinReport:
        """Add this host, with what was typed or another slot."""
        return Joining(self._station, through, typed).join(label or self._station.here, fingerprint)

    def rotate(self, keyrings: Sequence[str], *, progress: Progress = unwatched) -> Sequence[RotationReport]:
        """Rotate the data keys of these keyrings, or of all that this host holds."""
        names = self._names(keyrings) or held(self._station.host, self._station.means) or KEYRINGS
        return [rotate(self._station, name, progress) for name in names]

    def _names(self, keyrings: Sequence[str]) -> Sequence[str]:
        unknown = [name for name in keyrings if name not in KEYRINGS]
        if unknown:
            raise UsageError(
                f"there is no keyring {unknown[0][:40]!r}", hint=f"The keyrings are {', '.join(KEYRINGS)}."
            )
        return keyrings
