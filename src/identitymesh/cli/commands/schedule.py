"""Look at schedules, pause and resume them, and have a connector run now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of
from identitymesh.cli.text import local_time

if TYPE_CHECKING:
    from identitymesh.runs.timetable import ScheduleView

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[CONNECTOR]...", help="Connectors of the definition; none: all of them.")
]


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_schedules, "pause": pause, "resume": resume, "run-now": run_now}
    add_group(app, "schedule", "Look at schedules, pause and resume them, and have a connector run now.", commands)


def list_schedules(ctx: typer.Context) -> None:
    """When each connector runs next, and what came of it last time. Times are those of this machine."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.running.timetable.overview()
    out = session.out
    if out.json:
        out.document(found)
        return
    if not found.schedules:
        out.line("no schedules: give a connector of the definition a full_schedule, and apply it")
        return
    titles = ["connector", "mode", "schedule", "state", "next", "last", "ended", "run"]
    out.table(titles, [_row(one) for one in found.schedules], right=(7,))
    for one in found.schedules:
        if one.last_error:
            out.line(f"{one.connector} {one.mode}: {one.last_error}", style="red")
    if found.halted:
        out.line(f"nothing starts: {found.halted}", style="yellow")
    _who_looks(out, found.services)


def _row(one: ScheduleView) -> list[str]:
    zone = f" ({one.timezone})" if one.timezone not in {"", "UTC"} else ""
    return [
        one.connector,
        one.mode,
        f"{one.expression}{zone}" or "-",
        one.state,
        local_time(one.due_at) if one.due_at else "-",
        one.last_state or "-",
        local_time(one.last_ended) if one.last_ended else "-",
        str(one.last_run or "-"),
    ]


def _who_looks(out: Output, services: int) -> None:
    if not services:
        out.line("no service is running: nothing of this happens before one does: identitymesh serve", style="yellow")


def pause(ctx: typer.Context, *, connector: Names = None) -> None:
    """Let a connector, or all of them, start no more by itself. What it misses runs once after `schedule resume`."""
    session = session_of(ctx)
    with session.installation() as installation:
        changed = installation.running.timetable.pause(connector or [])
    _changed(session.out, changed, "paused", "it was paused already")


def resume(ctx: typer.Context, *, connector: Names = None) -> None:
    """Let a connector, or all of them, start by itself again. One that was paused by its name is resumed by it."""
    session = session_of(ctx)
    with session.installation() as installation:
        changed = installation.running.timetable.resume(connector or [])
    _changed(session.out, changed, "resumed", "it was not paused")


def _changed(out: Output, changed: Sequence[str], verb: str, otherwise: str) -> None:
    if out.json:
        out.document({verb: list(changed)})
        return
    names = ", ".join("all schedules" if name == "*" else name for name in changed)
    out.line(f"{verb}: {names}" if changed else f"nothing to do: {otherwise}", style="green" if changed else "")


def run_now(
    ctx: typer.Context,
    *,
    connector: Annotated[str, typer.Argument(metavar="CONNECTOR", help="A connector of the definition.")],
    delta: Annotated[bool, typer.Option("--delta", help="Read only what changed since the last time.")] = False,
) -> None:
    """Have the service run a connector as soon as it can: read it completely, and release to every target.

    Also one that is paused or has no schedule. `identitymesh run --connector NAME` does the same here and now.
    """
    session = session_of(ctx)
    with session.installation() as installation:
        asked = installation.running.timetable.ask(connector, delta=delta)
    if session.out.json:
        session.out.document(asked)
        return
    session.out.line(f"asked for: {asked.connector}, {asked.mode}", style="green")
    if asked.halted:
        session.out.line(f"nothing starts: {asked.halted}", style="yellow")
    _who_looks(session.out, asked.services)
