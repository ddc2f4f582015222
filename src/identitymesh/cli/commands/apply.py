"""Put a definition file, connectors and rules, into force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from identitymesh.cli.definition_text import DefinitionText, read_definition
from identitymesh.cli.output import Output, problem_line
from identitymesh.cli.session import session_of
from identitymesh.runs.reports import ApplyReport


def register(app: typer.Typer) -> None:
    app.command("apply")(apply)


def apply(
    ctx: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The definition; - is standard input.")],
    replace_newer: Annotated[
        bool, typer.Option("--replace", help="Also where the definition in force is newer than the file's base.")
    ] = False,
    base: Annotated[
        int | None,
        typer.Option(
            "--base", metavar="N", min=0, help="The version the file was made from; else its first line says it."
        ),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Let the next plan go ahead, although rules or connectors changed.")
    ] = False,
    allow_audience: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-audience", metavar="REF", help="Let this secret be sent where the file says; again for more."
        ),
    ] = None,
) -> None:
    """Check a definition file and put it into force as a new version.

    Every problem is shown with its line, and nothing is applied while there is one. A credential in clear is
    refused: store it with `identitymesh secrets set` and write its reference.
    """
    session = session_of(ctx)
    given = read_definition(file)
    with session.installation() as installation, given.positions():
        report = installation.engine.apply(
            given.text,
            source=given.source,
            base=base if base is not None else given.base,
            replace=replace_newer,
            release=release,
            allow_audience=allow_audience or [],
        )
    report = replace(report, warnings=[given.placed(one) for one in report.warnings])
    if session.out.json:
        session.out.document(report)
    else:
        _show(session.out, given, report)


def _show(out: Output, given: DefinitionText, report: ApplyReport) -> None:
    for warning in report.warnings:
        out.warning(problem_line(given.name, warning))
    if report.unchanged:
        out.line(f"no change: {given.name} is what version {report.version} says")
    else:
        out.line(f"definition {report.version} is in force ({given.name})", style="green")
    for change in report.changes:
        out.line(f"  {change}")
    for one in report.audience:
        places = f"{one.connector} ({', '.join(one.endpoints) or 'local'})"
        allowed = ", allowed with --allow-audience" if one.needs_permission else ""
        out.line(f"  {one.reference} may now be sent to {places}{allowed}")
    for target, reason in report.waiting.items():
        out.line(f"  the next plan for {target} waits for approval: {reason}", style="yellow")
    for reference in report.missing_secrets:
        out.line(f"  not stored yet: identitymesh secrets set {reference}", style="yellow")
    if not report.unchanged and not report.missing_secrets:
        out.line("See what it would do: identitymesh plan")
