"""Let runs start again after a restore."""

from __future__ import annotations

import typer

from identitymesh.cli.session import session_of
from identitymesh.cli.text import local_time


def register(app: typer.Typer) -> None:
    app.command("resume")(resume)


def resume(ctx: typer.Context) -> None:
    """Let runs start again after a restore.

    Make sure first that no other host still works on the same targets. Each target is read completely before anything
    is written to it.
    """
    session = session_of(ctx)
    with session.kept() as installation:
        lifted = installation.backups.resume()
    if session.out.json:
        session.out.document({"resumed": lifted is not None, "pause": lifted})
    elif lifted is None:
        session.out.line("nothing is paused")
    else:
        session.out.line(
            f"runs may start again; paused since {local_time(lifted.since)}: {lifted.reason}", style="green"
        )
        session.out.line("See first what would change: identitymesh plan")
