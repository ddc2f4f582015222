"""Keyrings that answer with records made by hand."""
# ruff: noqa: ARG002 - an imitation takes what the real one takes

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from identitymesh.redaction import Secret
from identitymesh.secrets.custody.adding import AddedSlot
from identitymesh.secrets.custody.joining import JoinReport
from identitymesh.secrets.custody.removing import NewRecovery, RemovedSlots
from identitymesh.secrets.custody.rotation import RotationReport
from identitymesh.secrets.custody.station import Progress
from identitymesh.secrets.custody.status import KeyringStatus, RotationStatus, SlotStatus, Status, TrialResult
from identitymesh.secrets.keyring import Slot, SlotState

START = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
SHEET = "abcd-efgh-jkmn-pqrs-tvwx"
SLOT_ID = "5b0c5a5e-6a1c-4c57-9d3f-1f9d1f0b7a10"
SLOT = Slot(SLOT_ID, "host-file", "old host", SlotState.ACTIVE, "age1qqq", "")
ROTATION = RotationReport("connectors", 2, 1000, 1000, 1.5, resumed=True)


def keyring() -> KeyringStatus:
    rotation = RotationStatus("reseal", "asked", "ada, process 7 on host", START, working=False, done=3, total=9)
    slot = SlotStatus(SLOT_ID, "host-file", "unattended", "host", "active", here=True, opened=START, opened_by="host")
    return KeyringStatus(
        "connectors",
        4,
        None,
        "",
        4,
        None,
        SHEET,
        ["1 retiring", "2 primary"],
        [slot],
        "host-file",
        "whoever reads it",
        rotation,
    )


class FakeKeys:
    """As ``KeyCommands`` asks for."""

    def status(self) -> Status:
        return Status([keyring()], sheet_verified=False)

    def open_test(self, through: str | None, typed: Secret | None) -> Sequence[TrialResult]:
        return [TrialResult("connectors", SLOT_ID, "host-file", "host", None)]

    def add(
        self,
        slot_type: str,
        keyrings: Sequence[str],
        label: str | None,
        announce: Callable[[Secret], None],
        *,
        own: Secret | None = None,
    ) -> Sequence[AddedSlot]:
        if slot_type == "passphrase" and own is None:
            announce(Secret("aaaaa-bbbbb"))
        return [AddedSlot("connectors", SLOT_ID, slot_type, label or "host", already=False)]

    def remove(self, wanted: str, keyrings: Sequence[str], *, progress: Progress) -> RemovedSlots:
        return RemovedSlots({"connectors": [SLOT]}, [ROTATION])

    def replace_recovery(
        self, announce: Callable[[NewRecovery], None], *, progress: Progress
    ) -> Sequence[RotationReport]:
        announce(NewRecovery(Secret("AGE-SECRET-KEY-1NEW"), SHEET))
        return [ROTATION]

    def credential(self, wanted: str) -> bytes:
        return b"Whxqht+dQJax\n"

    def join(self, through: str, typed: Secret | None, *, label: str | None, fingerprint: str | None) -> JoinReport:
        return JoinReport("6f0c4d8e", SHEET, fingerprint is not None, ["connectors"], 3, ["secret://b"], already=False)

    def rotate(self, keyrings: Sequence[str], *, progress: Progress) -> Sequence[RotationReport]:
        return [ROTATION]
