"""Measure how fast this machine synchronises people who are made up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from identitymesh.cli.measuring import Bench, Line
from identitymesh.cli.session import Session, session_of
from identitymesh.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    ctx: typer.Context,
    *,
    people: Annotated[int, typer.Option("--people", min=100, max=5_000_000, help="How many are made up.")] = 50_000,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            metavar="URL",
            help="Also on this PostgreSQL: an empty database made for this; drop it afterwards.",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", exists=True, dir_okay=False, help="A file of mode 0400 with its password."),
    ] = None,
) -> int:
    """Measure how fast this machine synchronises, as ratios to the least that could be done in the same run.

    People come from a file, go through ten flow rules, and end as planned rows of one target; nothing of the
    installation here is read or written. Figures of fewer than 50,000 people say little. Exits 1 when a line misses
    its reach.
    """
    session = session_of(ctx)
    with (
        tempfile.TemporaryDirectory(prefix="identitymesh-bench-") as place,
        session.out.progress() as progress,
    ):
        lines = Bench(Path(place), people, progress).lines(database_url, password_file)
    _show(session, people, lines)
    return int(ExitCode.DONE if all(one.reached for one in lines) else ExitCode.FAILED)


def _show(session: Session, people: int, lines: list[Line]) -> None:
    out = session.out
    if out.json:
        out.document({"people": people, "lines": [one.document() for one in lines]})
        return
    for one in lines:
        out.line(
            f"{one.name}: {one.ratio:.2f} ({one.reach}){'' if one.reached else ' MISS'}",
            style="green" if one.reached else "red",
        )
        out.line(f"  {one.figures}")
