"""Show the definition that is in force."""

from __future__ import annotations

import typer

from identitymesh.cli.definition_text import mark
from identitymesh.cli.options import add_group
from identitymesh.cli.session import session_of
from identitymesh.errors import NotFound


def register(app: typer.Typer) -> None:
    add_group(app, "definition", "Show the definition that is in force.", {"show": show})


def show(ctx: typer.Context) -> None:
    """Print the definition in force, with its version in the first line.

    Edit a copy and `apply` it: the first line lets `apply` notice that somebody else was faster.
    """
    session = session_of(ctx)
    with session.installation() as installation:
        current = installation.engine.definition()
    if current is None:
        raise NotFound("no definition yet", hint="Write one and put it into force: identitymesh apply mesh.yaml")
    version, text = current
    if session.out.json:
        session.out.document({"version": version, "text": text})
    else:
        session.out.block(mark(version, text))
