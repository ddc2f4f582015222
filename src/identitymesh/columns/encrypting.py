"""Encrypting: the steps of one place, each of which may be cut short anywhere and is taken up by the next run."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from identitymesh.columns.formats import ANY_ROW, Cell, Cipher, fingerprint
from identitymesh.columns.keys import ColumnKey
from identitymesh.columns.places import Change, ColumnPlace, Row, State
from identitymesh.columns.report import PlaceReport
from identitymesh.columns.session import Session, Structure, Target, Which
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


def encrypt(target: Target, cipher: Cipher, state: State, report: PlaceReport, progress: Progress = silent) -> State:
    """The second step: every plain value that has no encrypted one yet."""
    if not isinstance(target.place, ColumnPlace):
        return _encrypt_row(target, cipher, state, report)

    def work(row: Row) -> Change | None:
        return _encrypted(row, cipher, report)

    passed = sweep(target, Which.PENDING, work, state=state, progress=progress)
    report.written += passed.written
    for _again in range(_PASSES):
        report.refused, report.findings = 0, []
        state = from_the_start(state, ENCRYPTING)
        passed = sweep(target, Which.PENDING, work)
        report.written += passed.written
        if not passed.written and not passed.missed:
            break
    return state


def _encrypted(row: Row, cipher: Cipher, report: PlaceReport) -> Change | None:
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


def verify(
    target: Target, cipher: Cipher, report: PlaceReport, *, replacing: bool = False, progress: Progress = silent
) -> None:
    """The third step: open every encrypted value, and compare it with its plain one."""
    report.verified = report.newer = report.alone = report.pending = report.broken = 0

    def work(row: Row) -> Change | None:
        cell = row.cell
        if cell is None:
            report.pending += 1
            return None
        return _looked_at(row, cell, cipher, report, replacing=replacing)

    passed = sweep(target, Which.FILLED, work, progress=progress)
    report.written += passed.written
    report.pending = max(0, report.pending - report.refused)


def _looked_at(row: Row, cell: Cell, cipher: Cipher, report: PlaceReport, *, replacing: bool) -> Change | None:
    try:
        value = cipher.open(row.key if cell.nonce is None else ANY_ROW, cell)
    except ColumnBroken:
        if replacing and row.plain is not None and not row.unfit:
            return _encrypted(row, cipher, report)
        report.broken += 1
        report.note(row.key, "the encrypted value does not open")
        return None
    report.verified += 1
    plain = row.plain
    if plain is None:
        report.alone += 1
    elif plain != value:
        report.newer += 1
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
        return _encrypted(row, cipher, report)
    try:
        value = cipher.open(row.key, row.cell)
    except ColumnBroken:
        return None  # the next step says so
    if value == row.plain:
        return None
    before, now = state.detail.get("seen", {}), seen_in(cipher.key, row.plain, row.cell)
    if before.get("cell") == now["cell"]:
        return _encrypted(row, cipher, report)
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
            change = _encrypted(row, cipher, report)
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
