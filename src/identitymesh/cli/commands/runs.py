"""Look at runs and their plans; approve or drop what is held."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Annotated, Any

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import Commands, Connectors, Person, Rows, RunId, add_group, as_number
from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of
from identitymesh.cli.text import count, counts, local_time, plural
from identitymesh.errors import UsageError
from identitymesh.runs.reports import Decision, RunReport


class State(Enum):
    """How a run ended."""

    RUNNING = "running"
    DONE = "done"
    PROBLEMS = "problems"
    HELD = "held"
    FAILED = "failed"
    ABANDONED = "abandoned"


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_runs, "show": show, "approve": approve, "drop": drop, "prune": prune}
    add_group(app, "runs", "Look at runs and their plans; approve or drop what is held.", commands)


def list_runs(
    ctx: typer.Context,
    *,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, callback=as_number, help="How many, newest first.")
    ] = 20,
    state: Annotated[State | None, typer.Option("--state", help="Only those that ended so, or are going on.")] = None,
    connector: Annotated[
        str | None, typer.Option("--connector", metavar="NAME", help="Only those that read it or wrote to it.")
    ] = None,
) -> None:
    """The last runs, newest first."""
    session = session_of(ctx)
    with session.installation() as installation:
        reports = installation.engine.runs(limit, state=state.value if state else None, connector=connector)
    if session.out.json:
        session.out.document({"runs": [document(one) | {"row_count": one.row_count} for one in reports]})
        return
    if not reports:
        filtered = state is not None or connector is not None
        session.out.line("no such runs" if filtered else "no runs yet; begin with: identitymesh plan")
        return
    titles = ["id", "command", "mode", "started", "seconds", "state", "by", "changes", "problems"]
    session.out.table(titles, [_listed(one) for one in reports], right=(0, 4, 8))


def _listed(report: RunReport) -> list[str]:
    seconds = f"{(report.ended_at - report.started_at).total_seconds():.1f}" if report.ended_at else "-"
    changes: dict[str, int] = {}
    for target in report.targets:
        for kind, number in target.counts.items():
            changes[kind] = changes.get(kind, 0) + number
    for export in report.exports if report.command == "release" else ():  # its plan bears another number
        for kind, number in export.done.items():
            changes[kind] = changes.get(kind, 0) + number
    return [
        str(report.run_id),
        report.command,
        report.mode,
        local_time(report.started_at),
        seconds,
        report.state,
        report.actor,
        counts(changes) or "-",
        count(report.issue_count) if report.issue_count else "-",
    ]


def prune(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many there are, and remove none.")] = False,
) -> None:
    """Remove runs that are older than the setting history.days, with their plans. A service does it every night.

    The latest runs, the newest plan of each target and the last complete import of each connector stay.
    """
    session = session_of(ctx)
    with session.installation() as installation:
        pruned = installation.running.history.prune(dry_run=dry_run)
    if session.out.json:
        session.out.document({"runs": pruned.runs, "before": pruned.before, "dry_run": dry_run})
        return
    verb = "would be removed" if dry_run else "removed"
    session.out.line(f"{verb}: {plural(pruned.runs, 'run')} that ended before {local_time(pruned.before)}")


def show(
    ctx: typer.Context,
    *,
    run_id: RunId,
    person: Person = None,
    rows: Rows = 20,
    connector: Annotated[
        str | None, typer.Option("--connector", metavar="NAME", help="Only what concerns this connector.")
    ] = None,
) -> None:
    """One run: what it read, planned and wrote, and the rows of its plan."""
    from identitymesh.cli.run_view import show_rows, show_run

    session = session_of(ctx)
    with session.installation() as installation:
        report = installation.engine.show(run_id)
        shown = installation.engine.rows(run_id, limit=rows, person=person)
    if connector is not None:
        report = _only(report, connector)
        shown = [one for one in shown if one.connector == connector]
    if session.out.json:
        answer: dict[str, Any] = document(report) | {"row_count": report.row_count, "rows": document(shown)}
        session.out.document(answer)
        return
    show_run(session.out, report)
    show_rows(session.out, report, shown, person=person)


def _only(report: RunReport, connector: str) -> RunReport:
    """What of a run concerns one connector."""
    imports, targets = {one.connector for one in report.imports}, {one.connector for one in report.targets}
    if connector not in imports | targets | {one.connector for one in report.exports}:
        raise UsageError(f"run {report.run_id} neither read {connector} nor planned for it")
    return replace(
        report,
        imports=[one for one in report.imports if one.connector == connector],
        targets=[one for one in report.targets if one.connector == connector],
        exports=[one for one in report.exports if one.connector == connector],
        issues=[one for one in report.issues if one.connector == connector],
    )


def approve(ctx: typer.Context, *, run_id: RunId, connector: Connectors = None) -> None:
    """Approve what is held in the plan of a run: these rows, and no others, may be written.

    Rows that changed since are judged again. The next run writes them; `run --plan ID` does it at once.
    """
    session = session_of(ctx)
    with session.installation() as installation:
        decision = installation.engine.approve(run_id, connectors=connector or [])
    if session.out.json:
        session.out.document(decision)
        return
    _show_decision(session.out, decision, "approved")
    if decision.absences:
        session.out.line("See what follows from it: identitymesh plan")
    elif decision.rows:
        session.out.line(f"Write it now: identitymesh run --plan {run_id}; or with everything else: identitymesh run")


def drop(ctx: typer.Context, *, run_id: RunId, connector: Connectors = None) -> None:
    """Drop the plan of a run: it will not be written. What still differs is planned anew by the next run."""
    session = session_of(ctx)
    with session.installation() as installation:
        decision = installation.engine.drop(run_id, connectors=connector or [])
    if session.out.json:
        session.out.document(decision)
    else:
        _show_decision(session.out, decision, "dropped")


def _show_decision(out: Output, decision: Decision, verb: str) -> None:
    if not (decision.rows or decision.absences):
        out.line(f"nothing of plan {decision.run_id} could be {verb}: it is written, or has changed since")
        return
    where = ", ".join(decision.connectors) or "no connector"
    out.line(f"{verb}: {plural(decision.rows, 'row')} of plan {decision.run_id} ({where})", style="green")
    if decision.absences:
        out.line(
            f"  {plural(decision.absences, 'absence')} are believed from now on: the next run lets these people leave"
        )
    if decision.superseded:
        out.line(f"  {plural(decision.superseded, 'row')} changed since and will be judged again", style="yellow")
