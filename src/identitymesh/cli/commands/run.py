"""Read, plan and write: the whole synchronisation, once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import STOPPED, AcceptClock, Connectors, Delta, as_number
from identitymesh.cli.session import session_of
from identitymesh.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    ctx: typer.Context,
    *,
    plan: Annotated[
        int | None,
        typer.Option(
            "--plan", metavar="ID", min=1, callback=as_number, help="Write exactly this plan, and read nothing anew."
        ),
    ] = None,
    delta: Delta = False,
    connector: Connectors = None,
    accept_clock: AcceptClock = False,
) -> int:
    """Read, plan and write: the whole synchronisation, once.

    Without options it reads every connector completely. A target whose plan is above its limits is held and
    waits for approval; the others go on. Stopped or killed at any moment, the next run carries on.
    """
    from identitymesh.cli.run_view import exit_code, show_nothing_to_do, show_run

    if plan is not None and (delta or connector or accept_clock):
        raise UsageError("--plan goes with no other option", hint="A plan is carried out as it is.")
    session = session_of(ctx)
    session.when_stopped = STOPPED
    out = session.out
    with session.installation() as installation, out.progress() as progress:
        engine = installation.engine
        if plan is not None:
            report = engine.release(plan, progress=progress)
        else:
            report = engine.run(delta=delta, connectors=connector or [], progress=progress, accept_clock=accept_clock)
    if out.json:
        shown: dict[str, Any] = document(report) | {"row_count": report.row_count}
        out.document(shown)
        return int(exit_code(report))
    show_run(out, report)
    if report.state != "failed" and not report.row_count:
        show_nothing_to_do(out, report)
    return int(exit_code(report))
