"""Print the JSON Schema of definition files, for editors and checks."""

from __future__ import annotations

import typer

from identitymesh.cli.session import session_of


def register(app: typer.Typer) -> None:
    app.command("schema")(schema)


def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of definition files. Needs no installation.

    `identitymesh schema > mesh.schema.json`, and an editor completes and checks while you type.
    """
    from identitymesh.connectors.catalogue import kinds
    from identitymesh.definition.reading import schema as schema_of

    session_of(ctx).out.document(schema_of(kinds()))
