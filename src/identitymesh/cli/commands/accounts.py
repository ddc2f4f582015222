"""Accounts of targets: which of them belong to nobody."""

from __future__ import annotations

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import Connectors, Rows, add_group
from identitymesh.cli.session import session_of


def register(app: typer.Typer) -> None:
    add_group(app, "accounts", "Accounts of targets.", {"unmatched": unmatched})


def unmatched(ctx: typer.Context, *, connector: Connectors = None, rows: Rows = 20) -> None:
    """Accounts of targets that belong to nobody in the mesh. No run touches them."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.unmatched(connectors=connector or [], limit=rows)
    out = session.out
    if out.json:
        out.document(document(found))
        return
    if not found.total:
        out.line("every account of the targets belongs to somebody, as far as they were read")
        return
    table = [[one.connector, one.object, one.key, one.correlate or "-", one.why] for one in found.accounts]
    if table:
        out.table(["target", "object", "key", "correlate", "why"], table)
    more = found.total - len(table)
    if more:
        out.line(f"and {more:,} more; see them with --rows {found.total}")
    out.line("They are left alone. One is taken over when a person with its correlate value appears.")
