"""Say which schema the database has, and bring it up to date."""

from __future__ import annotations

import typer

from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.session import session_of


def register(app: typer.Typer) -> None:
    commands: Commands = {"status": status, "upgrade": upgrade}
    add_group(app, "database", "Say which schema the database has, and bring it up to date.", commands)


def status(ctx: typer.Context) -> None:
    """The schema that the database has, and the one that this program works with."""
    session = session_of(ctx)
    found = session.custody.schema(session.home)
    if session.out.json:
        session.out.document(found)
        return
    session.out.line(f"{found.database} has schema {found.before}; this program works with {found.wanted}")
    if found.before != found.wanted:
        session.out.line("Back the database up, then: identitymesh database upgrade")


def upgrade(ctx: typer.Context) -> None:
    """Migrate the database to the schema of this program, in one transaction: all of it or nothing."""
    session = session_of(ctx)
    found = session.custody.upgrade(session.home)
    if session.out.json:
        session.out.document(found)
    elif found.before == found.wanted:
        session.out.line(f"{found.database} has schema {found.wanted} already")
    else:
        session.out.line(f"{found.database} went from schema {found.before} to {found.wanted}")
