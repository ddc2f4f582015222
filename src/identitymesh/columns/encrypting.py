"""Encrypting: the steps of one place, each of which may be cut short anywhere and is taken up by the next run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from identitymesh.columns.formats import ANY_ROW, Cell, Cipher, fingerprint
from identitymesh.columns.keys import ColumnKey
from identitymesh.columns.places import Change, ColumnPlace, Row, State
from identitymesh.columns.plan import Plan
from identitymesh.columns.report import PlaceReport
from identitymesh.columns.session import WHOLE, Part, Session, Structure, Target, Which
from identitymesh.columns.sharing import share
from identitymesh.columns.sweeping import LARGEST_BATCH, Progress, from_the_start, silent, sweep
from identitymesh.errors import ColumnBroken, ColumnsUnfinished, ColumnValueRefused
from identitymesh.redaction import Secret

ENCRYPTING: Final = "encrypting"
ENCRYPTED: Final = "encrypted"
DROPPED: Final = "dropped"
DECRYPTING: Final = "decrypting"
DECRYPTED: Final = "decrypted"
ROTATING: Final = "rotating"
UPGRADING: Final = "upgrading"
_PASSES: Final = 5  # a writer that changes rows as fast as they are read is met with locks after these


def prepare(target: Target, structure: Structure, state: State | None, key: ColumnKey, form: str) -> State:
    """The first step: columns, guard and side table."""
    name = target.place.name
    if state is None:
        state = State(name, ENCRYPTING, form, key.id, key.check, detail={"column": structure.column})
    elif state.step != ENCRYPTING:
        state = from_the_start(state, ENCRYPTING)
    if structure.column:
        state = replace(state, detail={**state.detail, "column": structure.column})
    state = replace(state, key_id=key.id, key_check=key.check)
    target.prepare(state)
    return state


def encrypt(
    plan: Plan, target: Target, cipher: Cipher, state: State, *, report: PlaceReport, progress: Progress = silent
) -> State:
    """The second step: every plain value that has no encrypted one yet."""
    if not isinstance(target.place, ColumnPlace):
        return _encrypt_row(target, cipher, state, report)

    def piece(own: Target, part: Part, found: PlaceReport, step: Progress) -> None:
        cursor = state if own is target else None  # that of this process alone is kept
        found.written += sweep(own, Which.PENDING, work_of(found), state=cursor, part=part, progress=step).written

    def work_of(found: PlaceReport) -> Callable[[Row], Change | None]:
        return lambda row: encrypted(row, cipher, found)

    if state.cursor:
        piece(target, WHOLE, report, progress)  # the rest of what was cut short
    else:
        share(plan, target, report, piece, progress, writing=True)
    left = LARGEST_BATCH
    for _again in range(_PASSES):
        report.refused, report.findings = 0, []
        passed = sweep(target, Which.PENDING, work_of(report))
        report.written += passed.written
        before, left = left, passed.written + passed.missed
        if not left or left > before // 2:  # what is left now, somebody has just written
            break
    return from_the_start(state, ENCRYPTING)


def encrypted(row: Row, cipher: Cipher, report: PlaceReport) -> Change | None:
    """The change that encrypts a plain value; ``None`` if there is none, or it cannot be: then that is reported."""
    plain = row.plain
    if plain is None:
        return None
    if row.unfit:
        report.refused += 1
        report.note(row.key, row.unfit)
        return None
    try:
        return Change(row, cell=cipher.encrypt(row.key if cipher.binds else ANY_ROW, plain))
    except ColumnValueRefused as refused:
        report.refused += 1
        report.note(row.key, refused.message.partition(": ")[2])
        return None


# A row of a key/value table


def seen_in(key: ColumnKey, plain: Secret | None, cell: Cell | None) -> dict[str, str]:
    return {
        "plain": fingerprint(key, plain) if plain is not None else "",
        "cell": fingerprint(key, Secret(cell.encrypted)) if cell is not None else "",
    }


def _encrypt_row(target: Target, cipher: Cipher, state: State, report: PlaceReport) -> State:
    for _again in range(_PASSES):
        rows = target.scan(Which.FILLED, None, 1)
        if not rows:
            return state
        row = rows[0]
        change = _row_change(row, cipher, state, report)
        cell = change.cell if change is not None else row.cell
        seen = {**state.detail, "seen": seen_in(cipher.key, row.plain, cell)}
        wanted = replace(state, detail=seen if not report.refused else state.detail)
        written = target.write([change] if change is not None else [], wanted)
        if change is None or written:
            report.written += written
            return wanted
    raise ColumnsUnfinished(f"{report.place} changes faster than it is encrypted", hint="Run the command again.")


def _row_change(row: Row, cipher: Cipher, state: State, report: PlaceReport) -> Change | None:
    if row.plain is None or row.cell is None:
        return encrypted(row, cipher, report)
    try:
        value = cipher.open(row.key, row.cell)
    except ColumnBroken:
        return None  # the next step says so
    if value == row.plain:
        return None
    before, now = state.detail.get("seen", {}), seen_in(cipher.key, row.plain, row.cell)
    if before.get("cell") == now["cell"]:
        return encrypted(row, cipher, report)
    if before.get("plain") != now["plain"]:
        report.refused += 1
        report.note(row.key, "its plain and its encrypted value differ, and both are new: remove the older one")
    return None


# Dropping


def drop(session: Session, target: Target, cipher: Cipher, state: State, report: PlaceReport) -> None:
    """The last step, with the table locked: what was written a moment ago is encrypted too, then the plain values go.

    Raises:
        ColumnsUnfinished: an application writes plain values faster than this.
    """
    with session.transaction():
        target.lock()
        rows = target.take(Which.PENDING, LARGEST_BATCH)
        changes = []
        for row in rows:
            change = encrypted(row, cipher, report)
            if change is not None and change.cell is not None and cipher.open(row.key, change.cell) == row.plain:
                changes.append(change)
        if changes:
            report.written += target.write(changes, None)
        if target.take(Which.PENDING, 1) or not _still_true(target, cipher, state):
            raise ColumnsUnfinished(
                f"{report.place}: plain values are being written right now; nothing of it was dropped",
                hint="Stop what still writes them, and run the same command again.",
            )
        report.verified += len(changes)
        report.pending = 0
        target.drop_plain(from_the_start(state, DROPPED))
    report.dropped = True


def _still_true(target: Target, cipher: Cipher, state: State) -> bool:
    """Whether the row of a key/value table is as it was verified; columns have a guard for that."""
    if isinstance(target.place, ColumnPlace):
        return True
    seen = state.detail.get("seen")
    return all(seen_in(cipher.key, row.plain, row.cell) == seen for row in target.take(Which.FILLED, 1))
