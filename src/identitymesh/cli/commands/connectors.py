"""List the connectors of the definition, and test one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.session import session_of

if TYPE_CHECKING:
    from identitymesh.definition.reading import ConnectorDefinition


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_connectors, "test": test}
    add_group(app, "connectors", "List the connectors of the definition, and test one.", commands)


def list_connectors(ctx: typer.Context) -> None:
    """The connectors of the definition in force, where they lead, and which secrets they use."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.connectors()
    if session.out.json:
        session.out.document({"connectors": [_document(one) for one in found]})
        return
    if not found:
        session.out.line("no definition yet: identitymesh apply mesh.yaml")
        return
    titles = ["name", "type", "objects", "endpoints", "secrets"]
    session.out.table(titles, [_listed(one) for one in found])


def _document(one: ConnectorDefinition) -> dict[str, object]:
    return {
        "name": one.name,
        "type": one.kind.name,
        "objects": one.objects,
        "endpoints": one.endpoints,
        "secrets": {field: reference.text for field, reference in one.secrets.items()},
    }


def _listed(one: ConnectorDefinition) -> list[str]:
    references = sorted(reference.text for reference in one.secrets.values())
    endpoints = ", ".join(one.endpoints) or "local"
    return [one.name, one.kind.name, ", ".join(one.objects), endpoints, ", ".join(references) or "-"]


def test(
    ctx: typer.Context, *, name: Annotated[str, typer.Argument(metavar="NAME", help="A connector of the definition.")]
) -> None:
    """Reach a system, log in, and look at its objects; changes nothing there."""
    session = session_of(ctx)
    with session.installation() as installation:
        report = installation.engine.test_connector(name)
    if session.out.json:
        session.out.document({"connector": name, "summary": report.summary, "details": report.details})
        return
    session.out.line(f"{name}: {report.summary}", style="green")
    for title, detail in report.details.items():
        session.out.line(f"  {title}: {detail}")
