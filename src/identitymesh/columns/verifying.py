"""Verifying: every encrypted value is opened and compared with its plain one."""

from __future__ import annotations

from typing import Final

from identitymesh.columns.encrypting import encrypted
from identitymesh.columns.formats import ANY_ROW, Cell, Cipher
from identitymesh.columns.places import Change, Row
from identitymesh.columns.plan import Plan
from identitymesh.columns.report import PlaceReport
from identitymesh.columns.session import Part, Target, Which
from identitymesh.columns.sharing import share
from identitymesh.columns.sweeping import Progress, silent, sweep
from identitymesh.errors import ColumnBroken

_COUNTS: Final = ("verified", "newer", "alone", "pending", "broken")


def verify(
    plan: Plan,
    target: Target,
    cipher: Cipher,
    report: PlaceReport,
    *,
    replacing: bool = False,
    progress: Progress = silent,
) -> None:
    """Open every encrypted value, and compare it with its plain one.

    With ``replacing`` encrypt anew what does not open, where its plain value is there.
    """
    for count in _COUNTS:
        setattr(report, count, 0)

    def piece(own: Target, part: Part, found: PlaceReport, step: Progress) -> None:
        def work(row: Row) -> Change | None:
            cell = row.cell
            if cell is None:
                found.pending += 1
                return None
            return _looked_at(row, cell, cipher, found, replacing=replacing)

        found.written += sweep(own, Which.FILLED, work, part=part, progress=step).written

    share(plan, target, report, piece, progress, writing=replacing)
    report.pending = max(0, report.pending - report.refused)


def _looked_at(row: Row, cell: Cell, cipher: Cipher, report: PlaceReport, *, replacing: bool) -> Change | None:
    try:
        value = cipher.open(row.key if cell.nonce is None else ANY_ROW, cell)
    except ColumnBroken:
        if replacing and row.plain is not None and not row.unfit:
            return encrypted(row, cipher, report)
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
