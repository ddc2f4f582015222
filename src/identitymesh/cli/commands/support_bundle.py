"""Collect what helps others to help; no value of anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from identitymesh.cli.session import session_of


def register(app: typer.Typer) -> None:
    app.command("support-bundle")(support_bundle)


def support_bundle(
    ctx: typer.Context,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The new file; one that exists is not touched.")],
) -> None:
    """Write versions, names of settings, schema, history of runs and the doctor's findings into one ZIP file.

    No credential, no value of a setting, no person. Look into it before you send it: it is JSON.
    """
    session = session_of(ctx)
    names = session.custody.support_bundle(session.home, to)
    if session.out.json:
        session.out.document({"file": to, "content": names})
    else:
        session.out.line(f"{to}: {', '.join(names)}", style="green")
