"""What changes encrypted values that are there: back to plain, under another key, into the other format.

Each is online: a row that an application writes meanwhile is left as it is and looked at
again; the work ends with a pass that found nothing to change. Killed anywhere, the same
command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from identitymesh.columns.encrypting import DECRYPTED, DECRYPTING, ROTATING, UPGRADING, seen_in
from identitymesh.columns.formats import Cipher, Format
from identitymesh.columns.places import Change, ColumnPlace, Row, State
from identitymesh.columns.report import PlaceReport
from identitymesh.columns.session import Session, Target, Which, save_state
from identitymesh.columns.sweeping import Passed, Progress, Work, from_the_start, silent, sweep, taken
from identitymesh.errors import ColumnBroken, ColumnsUnfinished, ColumnValueRefused
from identitymesh.redaction import Secret

_PASSES: Final = 8


def _until_nothing_changes(
    target: Target, which: Which, work: Work, *, state: State, report: PlaceReport, progress: Progress
) -> Passed:
    """Passes over the rows until one had nothing to write; the first goes on where a killed one stopped."""
    here: State | None = state
    passed = Passed()
    for _again in range(_PASSES):
        report.verified = report.broken = report.refused = 0
        report.findings = []
        passed = sweep(target, which, work, state=here, progress=progress)
        report.written += passed.written
        whole = here is None or not here.cursor
        if whole and not passed.written and not passed.missed:
            return passed
        here = None
    raise ColumnsUnfinished(
        f"{report.place}: rows are still written in the old way",
        hint="Start the applications anew with the new key or format, then run the same command again.",
    )


def decrypt(target: Target, cipher: Cipher, state: State, report: PlaceReport, progress: Progress = silent) -> State:
    """Write every encrypted value back as a plain one; the encrypted ones stay."""
    if state.step != DECRYPTING:
        state = from_the_start(state, DECRYPTING)

    def work(row: Row) -> Change | None:
        if row.cell is None:
            return None
        try:
            value = cipher.open(row.key, row.cell)
        except ColumnBroken:
            _broken(report, row)
            return None
        report.verified += 1
        return None if row.plain == value else Change(row, plain=value)

    _until_nothing_changes(target, Which.ENCRYPTED, work, state=state, report=report, progress=progress)
    return _reseen(target, cipher, from_the_start(state, DECRYPTED))


def drop(session: Session, places: Sequence[tuple[Target, Cipher, State]]) -> None:
    """After decrypting, with every table locked: encrypted values go, all or none.

    Raises:
        ColumnsUnfinished: an application wrote an encrypted value after its place was decrypted.
    """
    with session.transaction():
        for target, _cipher, _state in places:
            target.lock()
        for target, cipher, state in places:
            for rows in taken(target, Which.ENCRYPTED):
                if not all(_is_plain(cipher, row) for row in rows):
                    raise ColumnsUnfinished(
                        f"{target.place.name}: encrypted values are being written right now; none was dropped",
                        hint="Let the applications write plain values again, then run the same command again.",
                    )
            target.drop_cells(state)


def _is_plain(cipher: Cipher, row: Row) -> bool:
    """Whether the plain value is what the encrypted one holds."""
    try:
        return row.cell is not None and cipher.open(row.key, row.cell) == row.plain
    except ColumnBroken:
        return False


def rotate(
    session: Session,
    target: Target,
    ciphers: tuple[Cipher, Cipher],
    state: State,
    *,
    report: PlaceReport,
    progress: Progress = silent,
) -> State:
    """From the first key to the second. Values under both stand side by side until it ends."""
    old, new = ciphers
    if state.step != ROTATING:
        before = state.step
        state = replace(
            from_the_start(state, ROTATING),
            next_key_id=new.key.id,
            next_key_check=new.key.check,
            detail={**state.detail, "before": before},
        )
        _save(session, state)

    def work(row: Row) -> Change | None:
        if row.cell is None:
            return None
        for cipher, done in ((old, False), (new, True)):
            try:
                value = cipher.open(row.key, row.cell)
            except ColumnBroken:
                continue
            report.verified += 1
            return None if done else _rewritten(new, row, value, report)
        _broken(report, row)
        return None

    _until_nothing_changes(target, Which.ENCRYPTED, work, state=state, report=report, progress=progress)
    if report.broken or report.refused:
        return state
    detail = {name: value for name, value in state.detail.items() if name != "before"}
    ended = replace(
        from_the_start(state, str(state.detail.get("before", "encrypted"))),
        key_id=new.key.id,
        key_check=new.key.check,
        next_key_id="",
        next_key_check="",
        detail={**detail, "former_key_id": old.key.id},
    )
    ended = _reseen(target, new, ended)
    _save(session, ended)
    return ended


def upgrade(
    session: Session, target: Target, cipher: Cipher, state: State, *, report: PlaceReport, progress: Progress = silent
) -> State:
    """From ``compatible`` to ``sealed``."""
    if state.step != UPGRADING:
        state = replace(from_the_start(state, UPGRADING), detail={**state.detail, "before": state.step})
        _save(session, state)

    def work(row: Row) -> Change | None:
        if row.cell is None:
            return None
        try:
            value = cipher.open(row.key, row.cell)
        except ColumnBroken:
            _broken(report, row)
            return None
        return None if cipher.writes(row.cell) else _rewritten(cipher, row, value, report)

    _until_nothing_changes(target, Which.COMPATIBLE, work, state=state, report=report, progress=progress)
    if report.broken or report.refused:
        return state
    detail = {name: value for name, value in state.detail.items() if name != "before"}
    ended = replace(
        from_the_start(state, str(state.detail.get("before", "encrypted"))), form=Format.SEALED.value, detail=detail
    )
    ended = _reseen(target, cipher, ended)
    _save(session, ended)
    return ended


def _rewritten(cipher: Cipher, row: Row, value: Secret, report: PlaceReport) -> Change | None:
    try:
        return Change(row, cell=cipher.encrypt(row.key, value))
    except ColumnValueRefused as refused:
        report.refused += 1
        report.note(row.key, refused.message.partition(": ")[2])
        return None


def _broken(report: PlaceReport, row: Row) -> None:
    report.broken += 1
    report.note(row.key, "the encrypted value does not open")


def _save(session: Session, state: State) -> None:
    with session.transaction():
        save_state(session, state)


def _reseen(target: Target, cipher: Cipher, state: State) -> State:
    """A row of a key/value table is remembered as it is now."""
    if isinstance(target.place, ColumnPlace):
        return state
    rows = target.scan(Which.FILLED, None, 1)
    if not rows or "seen" not in state.detail:
        return state
    return replace(state, detail={**state.detail, "seen": seen_in(cipher.key, rows[0].plain, rows[0].cell)})
