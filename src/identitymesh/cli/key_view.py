"""What the key commands show to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from identitymesh.cli.output import Output
from identitymesh.cli.text import count, local_time

if TYPE_CHECKING:
    from identitymesh.secrets.custody.adding import AddedSlot
    from identitymesh.secrets.custody.joining import JoinReport
    from identitymesh.secrets.custody.removing import RemovedSlots
    from identitymesh.secrets.custody.rotation import RotationReport
    from identitymesh.secrets.custody.status import KeyringStatus, Status, TrialResult


def show_status(out: Output, status: Status) -> None:
    """Everything that a person should know of the keyrings, the worrying first."""
    for keyring in status.keyrings:
        out.heading(f"keyring {keyring.keyring}, generation {keyring.generation}")
        _show_keyring(out, keyring)
    if not status.sheet_verified:
        out.warning("nobody has compared the recovery sheet on this host: identitymesh keys join --fingerprint F")


def _show_keyring(out: Output, keyring: KeyringStatus) -> None:
    if keyring.problem:
        out.line(f"does not open here: {keyring.problem}", style="red")
        out.line(f"  {keyring.hint}")
    if keyring.anchor_problem:
        out.line(f"anchor: {keyring.anchor_problem}", style="red")
    elif keyring.anchor_generation is not None:
        out.line(f"anchor of this host: generation {keyring.anchor_generation}")
    if keyring.fingerprint:
        out.line(f"fingerprint of the recovery sheet: {keyring.fingerprint}")
    if keyring.rotation:
        one = keyring.rotation
        state = "works on it" if one.working else "has stopped; go on with: identitymesh keys rotate"
        out.line(f"rotation: {one.state}, {one.done} of {one.total} values, {one.holder} {state}", style="yellow")
    rows = [
        [
            slot.id,
            slot.type,
            slot.slot_class,
            slot.label or "-",
            slot.state,
            "yes" if slot.here else "-",
            f"{local_time(slot.opened)} on {slot.opened_by}" if slot.opened else "never",
        ]
        for slot in keyring.slots
    ]
    out.table(["slot", "type", "class", "label", "state", "here", "last opened"], rows)
    if keyring.weakest:
        out.line(f"weakest link: {keyring.weakest}, opened by {keyring.weakest_opened_by}")


def show_trials(out: Output, results: Sequence[TrialResult]) -> None:
    """One line for each slot that was tried."""
    if not results:
        out.line("no slot is within reach of this host")
    rows = [[one.keyring, one.type or "-", one.label or "-", one.problem or "opened"] for one in results]
    out.table(["keyring", "type", "label", "result"], rows)


def show_added(out: Output, added: Sequence[AddedSlot]) -> None:
    for one in added:
        state = "was active before" if one.already else "active: a fresh process opened the keyring through it"
        out.line(f"{one.keyring}: slot {one.id} ({one.type} {one.label}) {state}")


def show_removed(out: Output, removed: RemovedSlots) -> None:
    for keyring, slots in removed.slots.items():
        for slot in slots:
            out.line(f"{keyring}: removed slot {slot.id} ({slot.type} {slot.label})")
    show_rotated(out, removed.rotations)


def show_rotated(out: Output, reports: Sequence[RotationReport]) -> None:
    for one in reports:
        begun = " (begun earlier)" if one.resumed else ""
        out.line(
            f"{one.keyring}: data key {one.key} is the only one{begun}; {count(one.resealed)} values sealed again, "
            f"{count(one.verified)} opened, {one.seconds:.1f} s"
        )


def show_joined(out: Output, report: JoinReport) -> None:
    out.line(f"{'had joined' if report.already else 'joined'} installation {report.installation}")
    out.line(f"keyrings      {', '.join(report.keyrings)}")
    out.line(f"fingerprint   {report.fingerprint} ({'compared' if report.verified else 'not compared'})")
    out.line(f"secrets       {count(report.secrets)} opened")
    for ref in report.broken:
        out.warning(f"{ref} does not open; set it again: identitymesh secrets set {ref}")
