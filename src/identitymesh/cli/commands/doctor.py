"""Say what is wrong, or soon will be, and what mends it."""

from __future__ import annotations

import typer

from identitymesh.cli.session import session_of
from identitymesh.cli.text import plural
from identitymesh.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(ctx: typer.Context) -> int:
    """Look at everything that can go wrong around keys, credentials and backups. Exit code 5 when there is something.

    Each slot within reach is really opened, in a fresh process. Every finding names the command that mends it.
    """
    session = session_of(ctx)
    findings = session.custody.doctor(session.home)
    if session.out.json:
        session.out.document({"ok": not findings, "findings": findings})
    elif not findings:
        session.out.line("nothing to mend", style="green")
    for one in findings:
        session.out.line(f"{one.code}: {one.message}", style="red")
        session.out.line(f"    {one.command}")
    if findings:
        session.out.line(plural(len(findings), "finding"))
    return int(ExitCode.PROBLEMS if findings else ExitCode.DONE)
