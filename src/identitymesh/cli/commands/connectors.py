"""List the connectors of the definition, and test one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import Commands, add_group, as_number
from identitymesh.cli.session import session_of
from identitymesh.cli.text import count, local_time

if TYPE_CHECKING:
    from identitymesh.definition.reading import ConnectorDefinition
    from identitymesh.runs.health import ConnectorHealth, LogEntry

Name = Annotated[str, typer.Argument(metavar="NAME", help="A connector of the definition.")]


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_connectors, "show": show, "log": log, "test": test}
    add_group(app, "connectors", "List the connectors of the definition, and test one.", commands)


def list_connectors(ctx: typer.Context) -> None:
    """The connectors of the definition in force, where they lead, which secrets they use, and how they are."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.connectors()
        health = {one.name: one for one in installation.running.health.every()}
    if session.out.json:
        session.out.document({"connectors": [_document(one, health.get(one.name)) for one in found]})
        return
    if not found:
        session.out.line("no definition yet: identitymesh apply mesh.yaml")
        return
    titles = ["name", "type", "objects", "endpoints", "secrets", "all read", "next run", "last error"]
    session.out.table(titles, [_listed(one, health.get(one.name)) for one in found])


def _document(one: ConnectorDefinition, health: ConnectorHealth | None) -> dict[str, object]:
    return {
        "name": one.name,
        "type": one.kind.name,
        "objects": one.objects,
        "endpoints": one.endpoints,
        "secrets": {field: reference.text for field, reference in one.secrets.items()},
        "last_complete": health.last_complete if health else None,
        "next_run": health.next_run if health else None,
        "last_error": document(health.last_error) if health else None,
    }


def _listed(one: ConnectorDefinition, health: ConnectorHealth | None) -> list[str]:
    references = sorted(reference.text for reference in one.secrets.values())
    endpoints = ", ".join(one.endpoints) or "local"
    place = [one.name, one.kind.name, ", ".join(one.objects), endpoints, ", ".join(references) or "-"]
    if health is None:
        return [*place, "-", "-", "-"]
    error = health.last_error.error if health.last_error else "-"
    return [*place, _moment(health.last_complete), _moment(health.next_run), error]


def _moment(at: datetime | None) -> str:
    return local_time(at) if at else "-"


def show(ctx: typer.Context, *, name: Name) -> None:
    """How a connector is: when all of it was read last, what went wrong last, and when it runs next."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.running.health.show(name)
    out = session.out
    if out.json:
        out.document(found)
        return
    out.line(f"{found.name} ({found.type}), {', '.join(found.endpoints) or 'local'}", style="bold")
    for one in found.objects:
        read = f"all {count(one.objects or 0)} read {_moment(one.complete_at)}, run {one.complete_run}"
        out.line(f"  {one.object}: {read if one.complete_at else 'never read completely'}")
        if one.held_absences:
            out.line(f"    {count(one.held_absences)} absences are held: {one.held_reason}", style="yellow")
    for schedule in found.schedules:
        after = f", next {_moment(schedule.due_at)}" if schedule.due_at else ""
        last = f", last {schedule.last_state} {_moment(schedule.last_ended)}" if schedule.last_state else ""
        out.line(f"  {schedule.mode} {schedule.expression or 'when asked for'}: {schedule.state}{after}{last}")
        if schedule.last_error:
            out.line(f"    {schedule.last_error}", style="red")
    if found.last_error is None:
        out.line("  nothing went wrong since it last went well", style="green")
    else:
        error = found.last_error
        out.line(f"  {error.activity} of run {error.run_id}, {_moment(error.at)}: {error.error}", style="red")
        if error.hint:
            out.line(f"    {error.hint}")


def log(
    ctx: typer.Context,
    *,
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, callback=as_number, help="How many, newest first.")
    ] = 20,
) -> None:
    """What runs read from a connector and wrote to it, newest first. Kept as long as the runs are."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.running.health.log(name, limit)
    if session.out.json:
        session.out.document({"connector": name, "entries": document(found)})
    elif not found:
        session.out.line(f"no run has read {name} or written to it yet")
    else:
        session.out.table(["run", "when", "what", "result"], [_entry(one) for one in found], right=(0,))


def _entry(one: LogEntry) -> list[str]:
    what = " ".join(part for part in (one.activity, one.mode, one.object) if part)
    return [str(one.run_id), _moment(one.at), what, f"{one.done}; {one.error}" if one.error else one.done]


def test(ctx: typer.Context, *, name: Name) -> None:
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
