"""Prove that a backup and the recovery key bring everything back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from identitymesh.cli.key_input import read_key
from identitymesh.cli.session import session_of
from identitymesh.cli.text import plural
from identitymesh.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("drill")(drill)


def drill(
    ctx: typer.Context,
    *,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A backup; else the newest one that was made here.")
    ] = None,
) -> int:
    """Restore the newest backup in a blank folder with the recovery key, open every secret, and note the date.

    The key is asked for, or read from standard input. No connector runs; the folder is removed.
    """
    session = session_of(ctx)
    with session.kept() as installation:
        chosen = file if file is not None else installation.backups.newest()
        report = installation.backups.drill(chosen, read_key("recovery key"))
    if session.out.json:
        session.out.document(report)
    else:
        for problem in report.problems:
            session.out.line(problem, style="red")
        opened = f"{plural(report.secrets, 'secret')}, {plural(report.versions, 'version')} opened"
        session.out.line(f"{report.file}: {opened} in {report.seconds} s", style="green" if report.ok else "red")
    return int(ExitCode.DONE if report.ok else ExitCode.SECRET)
