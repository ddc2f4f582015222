"""Objects that rules find several people for: look, decide, undo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import Commands, add_group, as_number, as_text
from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of
from identitymesh.cli.text import local_time, show_value
from identitymesh.errors import UsageError
from identitymesh.model.attributes import Value
from identitymesh.runs.review_desk import Choice, Review

Item = Annotated[int, typer.Argument(metavar="ID", min=1, callback=as_number, help="Number, as `review list` has it.")]


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_items, "show": show, "decide": decide, "undo": undo}
    add_group(app, "review", "Objects that rules find several people for, and what was decided of them.", commands)


def list_items(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also what was decided already.")] = False,
) -> None:
    """What waits for a decision."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.reviews(decided=everything)
    out = session.out
    if out.json:
        out.document({"items": document(found)})
        return
    if not found:
        out.line("nothing waits for a decision")
        return
    rows = [
        [str(one.id), f"{one.connector}/{one.object}/{one.key}", one.rule, _people(one), _decision(one)]
        for one in found
    ]
    out.table(["item", "object", "rule", "may be", "decided"], rows)


def show(ctx: typer.Context, *, item: Item) -> None:
    """One object and the people that it may be."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.review(item)
    _answer(session.out, found)


def decide(
    ctx: typer.Context,
    *,
    item: Item,
    join: Annotated[
        str | None, typer.Option("--join", metavar="ANCHOR", callback=as_text, help="It is this person's.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="It is somebody new.")] = False,
    ignore: Annotated[bool, typer.Option("--ignore", help="It is nobody: leave it alone.")] = False,
) -> None:
    """Decide whose an object is. The next run goes by it, and so does every later one, until it is undone."""
    if sum([join is not None, create, ignore]) != 1:
        raise UsageError("give one of --join ANCHOR, --create and --ignore")
    choice: Choice = "join" if join is not None else "create" if create else "ignore"
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.decide(item, choice, person=join)
    _answer(session.out, found)


def undo(ctx: typer.Context, *, item: Item) -> None:
    """Take a decision back. The next run asks the rules again."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.undo_review(item)
    _answer(session.out, found)


def _answer(out: Output, found: Review) -> None:
    if out.json:
        out.document(document(found))
        return
    out.line(f"{found.connector}/{found.object}/{found.key}: rule {found.rule} finds {_people(found)}", style="bold")
    for name, value in found.values.items():
        out.line(f"  {name}: {show_value(value)}")
    rows = [
        [one.anchor or str(one.identity_id), "present" if one.present else "left", _values(one.values)]
        for one in found.candidates
    ]
    if rows:
        out.table(["person", "is", "values that are compared"], rows)
    out.line(f"decided: {_decision(found)}")
    if found.choice is None:
        out.line(f"Decide: identitymesh review decide {found.id} --join ANCHOR | --create | --ignore")
    else:
        out.line(f"The next run goes by it. Take it back: identitymesh review undo {found.id}")


def _values(values: Mapping[str, Value]) -> str:
    return (
        ", ".join(f"{name} {show_value(value)}" for name, value in values.items()) if isinstance(values, dict) else ""
    )


def _people(found: Review) -> str:
    return ", ".join(one.anchor or str(one.identity_id) for one in found.candidates)


def _decision(found: Review) -> str:
    if found.choice is None or found.decided_at is None:
        return "not yet"
    choice = f"join {found.person}" if found.choice == "join" else found.choice
    return f"{choice}, by {found.decided_by}, {local_time(found.decided_at)}"
