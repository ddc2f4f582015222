"""How the commands on encrypted columns look on a terminal, and what they end with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identitymesh.cli.output import Output
from identitymesh.cli.text import count, plural
from identitymesh.errors import ExitCode

if TYPE_CHECKING:
    from identitymesh.columns.report import Outcome, PlaceReport, PlaceStatus

_DONE = {
    "encrypt": "encrypted",
    "verify": "verified",
    "decrypt": "decrypted",
    "rotate-key": "rotated",
    "upgrade": "upgraded",
}


def show_outcome(out: Output, outcome: Outcome) -> int:
    """The report, what is to do next, and the exit code: 4 where values do not open, 5 where some were refused."""
    if out.json:
        out.document(outcome)
    else:
        _show(out, outcome)
    if any(found.broken for found in outcome.places):
        return int(ExitCode.SECRET)
    return int(ExitCode.PROBLEMS if any(found.refused for found in outcome.places) else ExitCode.DONE)


def _show(out: Output, outcome: Outcome) -> None:
    out.line(f"{outcome.database}: {_DONE[outcome.command]} with key {outcome.key_id} in {outcome.seconds:.1f} s")
    titles = ("place", "state", "format", "written", "verified", "pending", "broken", "refused")
    rows = [
        (found.place, found.state, found.format, *map(_number, (found.written, found.verified)),
         *map(_number, (found.pending, found.broken, found.refused)))
        for found in outcome.places
    ]  # fmt: skip
    out.table(titles, rows, right=(3, 4, 5, 6, 7))
    for found in outcome.places:
        _show_place(out, found)
    if outcome.hints:
        out.line()
    for hint in outcome.hints:
        out.line(hint)


def _show_place(out: Output, found: PlaceReport) -> None:
    if found.newer:
        out.line(f"  {found.place}: {plural(found.newer, 'encrypted value')} newer than the plain one; kept")
    for name in found.triggers_bypassed:
        out.line(f"  {found.place}: the trigger {name} was not fired")
    for name in found.also_dropped:
        out.line(f"  {found.place}: dropped with it: {name}")
    for finding in found.findings:
        out.line(f"  {found.place} row {finding.row}: {finding.problem}", style="red")
    rest = found.broken + found.refused - len(found.findings)
    if rest > 0:
        out.line(f"  … and {count(rest)} more")


def _number(number: int) -> str:
    return count(number) if number else "-"


def show_status(out: Output, key: str, key_id: str, problem: str, places: tuple[PlaceStatus, ...]) -> None:
    """Each place, and the key."""
    if out.json:
        out.document({"key": {"path": key, "id": key_id, "problem": problem}, "places": places})
        return
    out.line(f"{key}: key {key_id}" if key_id else f"{problem}; nothing is encrypted yet")
    titles = ("place", "state", "format", "rows", "plain", "encrypted", "sealed", "pending")
    rows = [
        (one.place, one.state, one.format,
         *map(_number, (one.rows, one.plain, one.encrypted, one.sealed, one.pending)))
        for one in places
    ]  # fmt: skip
    out.table(titles, rows, right=(3, 4, 5, 6, 7))
    for one in places:
        if one.last:
            out.line(f"  {one.place}: {one.last['command']} at {one.last['at']} by {one.last['by']}", style="dim")
