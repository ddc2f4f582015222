"""A plan or run as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from identitymesh.cli.output import Output, Style
from identitymesh.cli.text import count, counts, plural, show_value
from identitymesh.errors import ExitCode, MeshError
from identitymesh.model.accounts import KINDS, Difference
from identitymesh.runs.contract import Issue
from identitymesh.runs.reports import ExportReport, ImportReport, RowView, RunReport, TargetReport

MOST_ISSUES: Final = 10
ALL_ROWS: Final = 1000
_STATES: Final[dict[str, tuple[str, Style]]] = {
    "running": ("running", "cyan"),
    "done": ("done", "green"),
    "problems": ("done, with problems", "yellow"),
    "held": ("waits for approval", "yellow"),
    "failed": ("failed", "red"),
    "abandoned": ("abandoned: its process ended", "red"),
}
_KIND_STYLES: Final[dict[str, Style]] = {"create": "green", "update": "cyan", "disable": "yellow", "delete": "red"}


def exit_code(report: RunReport) -> ExitCode:
    """What a script learns from the state a run ended in."""
    if report.state == "held":
        return ExitCode.HELD
    if report.state == "problems":
        return ExitCode.PROBLEMS
    if report.state in {"failed", "abandoned"}:
        return _code_of(report.error_code)
    return ExitCode.DONE


def _code_of(error_code: str) -> ExitCode:
    """The exit code of the exception that ended the run."""
    waiting: list[type[MeshError]] = [MeshError]
    while waiting:
        one = waiting.pop()
        if one.code == error_code:
            return one.exit_code
        waiting += one.__subclasses__()
    return ExitCode.FAILED


def show_run(out: Output, report: RunReport) -> None:
    """Everything a run says of itself, but for the rows of its plan."""
    _head(out, report)
    _imports(out, report.imports, report.run_id)
    people = counts(report.people)
    if people:
        out.heading(f"People: {people}")
    elif report.imports:
        out.heading("People: no change")
    _targets(out, report)
    _exports(out, report.exports)
    _issues(out, report.issues, report.issue_count)
    for note in report.notes:
        out.line(f"note: {note}")


def _head(out: Output, report: RunReport) -> None:
    words = [f"{report.command} {report.run_id}" if report.run_id else report.command]
    words.append(report.mode if report.mode != "none" else "")
    if report.definition_version is not None:
        words.append(f"definition {report.definition_version}")
    if report.ended_at is not None:
        words.append(f"{(report.ended_at - report.started_at).total_seconds():.1f} s")
    state, style = _STATES[report.state]
    out.line(f"{', '.join(word for word in words if word)}: {state}", style=style)
    if report.error:
        out.line(f"  {report.error_code}: {report.error}", style="red")


def _imports(out: Output, imports: Sequence[ImportReport], run_id: int) -> None:
    if not imports:
        return
    out.heading("Read")
    rows = []
    for one in imports:
        numbers = (one.read, one.added, one.changed, one.removed, one.bad)
        rows.append([one.connector, one.object, one.mode, *map(_number, numbers), _outcome(one)])
    titles = ["connector", "object", "mode", "read", "new", "changed", "gone", "bad", ""]
    out.table(titles, rows, right=range(3, 8))
    for one in imports:
        if one.error:
            out.line(f"  {one.connector}: {one.error_code}: {one.error}", style="red")
            if one.hint:
                out.line(f"    {one.hint}")
        if one.held_absences:
            absences = plural(one.held_absences, "absence")
            out.line(
                f"  {one.connector}: {absences} held: {one.held_reason}; until that is approved they stay",
                style="yellow",
            )
            if run_id:
                out.line(f"    believe it:  identitymesh runs approve {run_id}")


def _outcome(one: ImportReport) -> str:
    if one.error:
        return "failed"
    return "complete" if one.complete else ("" if one.mode == "delta" else "incomplete")


def _number(value: int) -> str:
    return count(value) if value else "-"


def _targets(out: Output, report: RunReport) -> None:
    if not report.targets:
        return
    out.heading(f"Plan {report.run_id}" if report.run_id else "Plan (a preview: nothing is stored)")
    rows = [
        [one.connector, *(_number(one.counts.get(kind, 0)) for kind in KINDS), _target_state(one)]
        for one in report.targets
    ]
    out.table(["target", *KINDS, "state"], rows, right=range(1, 5))
    for one in report.targets:
        _target_details(out, report, one)


def _target_state(one: TargetReport) -> str:
    words = {
        "empty": "nothing to do",
        "ready": "ready",
        "held": "held",
        "incomplete": "not released: an import was cut short",
        "released": "released",
        "dropped": "dropped",
    }[one.state]
    if one.decided_by:
        words += f" by {one.decided_by}"
    extras = [f"{one.frozen:,} frozen" if one.frozen else "", f"{one.parked:,} parked" if one.parked else ""]
    return ", ".join(word for word in [words, *extras] if word)


def _target_details(out: Output, report: RunReport, one: TargetReport) -> None:
    for reason in one.reasons:
        out.line(f"  {one.connector}: {reason}", style="yellow")
    if one.state == "held" and report.run_id:
        command = f"identitymesh runs {{}} {report.run_id} --connector {one.connector}"
        out.line(f"    approve it:  {command.format('approve')}")
        out.line(f"    look first:  identitymesh runs show {report.run_id} --rows {ALL_ROWS}")
        out.line(f"    drop it:     {command.format('drop')}")


def _exports(out: Output, exports: Sequence[ExportReport]) -> None:
    if not exports:
        return
    out.heading("Written")
    rows = []
    for one in exports:
        done = [_number(one.done.get(kind, 0)) for kind in KINDS]
        rows.append([one.connector, *done, _number(one.stale), _number(one.parked), _number(one.left)])
    out.table(["target", *KINDS, "stale", "parked", "left"], rows, right=range(1, 8))
    for one in exports:
        if one.error:
            out.line(f"  {one.connector}: {one.error_code}: {one.error}", style="red")
            if one.hint:
                out.line(f"    {one.hint}")


def _issues(out: Output, issues: Sequence[Issue], number: int) -> None:
    if not issues:
        return
    out.heading(f"Problems: {count(max(number, len(issues)))}")
    for issue in issues[:MOST_ISSUES]:
        subject = "/".join(part for part in (issue.connector, issue.subject) if part)
        out.line(f"  {subject}: {issue.code}: {issue.message}")
    more = max(number, len(issues)) - MOST_ISSUES
    if more > 0:
        out.line(f"  … and {count(more)} more", style="dim")


def show_nothing_to_do(out: Output, report: RunReport) -> None:
    """Why a plan without rows has none."""
    if report.exports:
        return  # an earlier plan was written, and what came of it stands above
    out.line()
    if report.state == "done":
        out.line("Nothing to do: every target holds what it should.", style="green")
    else:
        out.line("No target gets anything by this plan.")


# Rows


def show_rows(out: Output, report: RunReport, rows: Sequence[RowView], *, person: str | None = None) -> None:
    """Rows of a plan with what differs; how many there are in all, and how to see them."""
    if person is not None and not rows:
        out.line()
        out.line(f"Nothing is planned for {person}. What is known of this person: identitymesh explain {person}")
        return
    if not rows:
        return
    everything = len(rows) if person is not None else max(report.row_count, len(rows))
    out.heading(
        f"Changes: {count(everything)}" if len(rows) == everything else f"Changes, {len(rows)} of {count(everything)}"
    )
    for row in rows:
        _row(out, row)
    if len(rows) < everything and report.run_id:
        out.line(
            f"… and {count(everything - len(rows))} more: identitymesh runs show {report.run_id} --rows {ALL_ROWS}"
        )


def _row(out: Output, row: RowView) -> None:
    note = f" ({row.note})" if row.note else ""
    place = f"{row.connector}/{row.object}"
    out.line(f"{row.kind:<8}{place}  {row.anchor or f'identity {row.identity_id}'}{note}", style=_KIND_STYLES[row.kind])
    show_differences(out, row.differences, indent="    ")


def show_differences(out: Output, differences: Sequence[Difference], *, indent: str) -> None:
    """``+ name value``, ``~ name old → new``, ``- name value``."""
    for one in differences:
        if one.before is None:
            out.line(f"{indent}+ {one.name} {show_value(one.after)}")
        elif one.after is None:
            out.line(f"{indent}- {one.name} {show_value(one.before)}")
        else:
            out.line(f"{indent}~ {one.name} {show_value(one.before)} → {show_value(one.after)}")
