"""Read everything and show what would change; writes to no target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from identitymesh.cli.definition_text import read_definition
from identitymesh.cli.documents import document
from identitymesh.cli.options import STOPPED, AcceptClock, Connectors, Delta, Person, Rows
from identitymesh.cli.session import Session, session_of
from identitymesh.errors import NotFound, UsageError
from identitymesh.runs.reports import RowView, RunReport, Walk


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    ctx: typer.Context,
    *,
    definition: Annotated[
        Path | None, typer.Option("--definition", metavar="FILE", help="What this file would do; changes nothing.")
    ] = None,
    person: Person = None,
    delta: Delta = False,
    connector: Connectors = None,
    rows: Rows = 20,
    accept_clock: AcceptClock = False,
) -> int:
    """Read everything, update the mesh, and show what each target would get. Writes to no target.

    The plan is stored: `run --plan ID` carries out exactly this one. With --definition nothing is stored.
    """
    session = session_of(ctx)
    session.when_stopped = STOPPED
    if definition is not None and (delta or connector or accept_clock):
        raise UsageError("--definition goes with --person and --rows alone", hint="A preview looks at everything.")
    with session.installation() as installation, session.out.progress() as progress:
        engine = installation.engine
        walked: Walk | None = None
        if definition is not None:
            given = read_definition(definition)
            with given.positions():
                report, previewed = engine.preview(given.text, source=given.source, progress=progress)
            shown = [row for row in previewed if person is None or row.anchor == person][:rows]
        else:
            report = engine.plan(delta=delta, connectors=connector or [], progress=progress, accept_clock=accept_clock)
            shown = list(engine.rows(report.run_id, limit=rows, person=person))
            walked = engine.walk(report.run_id, person) if person is not None else None
            if walked is not None and walked.explanation is None and not walked.alone:
                raise NotFound(
                    f"nobody is called {walked.subject[:100]!r}; the plan {report.run_id} is stored",
                    hint="Give an anchor (such as an employee number), or connector/object/key.",
                )
    return _show(session, report, shown, person, walked)


def _show(session: Session, report: RunReport, rows: list[RowView], person: str | None, walked: Walk | None) -> int:
    from identitymesh.cli.commands.explain import masked_walk, show_walk
    from identitymesh.cli.run_view import exit_code, show_nothing_to_do, show_rows, show_run

    out = session.out
    if out.json:
        shown: dict[str, Any] = document(report) | {"row_count": report.row_count, "rows": document(rows)}
        if walked is not None:
            shown["walk"] = document(masked_walk(walked))
        out.document(shown)
        return int(exit_code(report))
    show_run(out, report)
    if walked is not None:
        show_walk(out, walked)
    show_rows(out, report, rows, person=person)
    if report.state == "failed":
        return int(exit_code(report))
    if not report.row_count:
        show_nothing_to_do(out, report)
        return int(exit_code(report))
    out.line()
    if report.run_id:
        held = any(target.state == "held" for target in report.targets)
        what = "Approve and write" if held else "Write"
        this = "the whole plan, everybody's rows" if person is not None else "exactly this"
        out.line(f"Nothing was written. {what} {this}: identitymesh run --plan {report.run_id}")
    else:
        out.line("Nothing was stored or written. To use this definition: identitymesh apply FILE")
    return int(exit_code(report))
