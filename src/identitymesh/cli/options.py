"""Options that several commands have, and how a group of commands is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

MOST: Final = 2**31 - 1  # the largest number that either database gives to a run


def as_number(given: int | None) -> int | None:
    """A number that a database can be asked for."""
    if given is not None and given > MOST:
        raise typer.BadParameter(f"at most {MOST} is possible")
    return given


def as_text(given: str | None) -> str | None:
    """An argument that names somebody: text, whatever bytes the shell was given."""
    if given is not None and not given.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in given):
        raise typer.BadParameter("it is not UTF-8 text")
    return given


Delta = Annotated[
    bool, typer.Option("--delta", help="Read only what changed in the sources since the last run; nobody leaves by it.")
]
Connectors = Annotated[
    list[str] | None, typer.Option("--connector", metavar="NAME", help="Only this connector; may be given again.")
]
AcceptClock = Annotated[
    bool,
    typer.Option(
        "--accept-clock", help="The clock is right, although it went far since the last run: go by it for dates."
    ),
]
Rows = Annotated[
    int, typer.Option("--rows", min=0, callback=as_number, metavar="N", help="How many rows of the plan to show.")
]
Person = Annotated[
    str | None,
    typer.Option("--person", metavar="ANCHOR", callback=as_text, help="Only the rows of this person."),
]
RunId = Annotated[
    int, typer.Argument(metavar="ID", help="Number of the run, as `runs list` shows it.", min=1, callback=as_number)
]

STOPPED: Final = "stopped; what was done until here is kept, and the next run carries on"

Commands = dict[str, Callable[..., object]]

# For commands that people give a secret by mistake: everything behind the reference is taken in, so that the refusal is
# ours and repeats none of it. Not even -h is an option there, a value may begin with it.
TAKES_ANYTHING: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": ["--help"],
}


def add_group(app: typer.Typer, name: str, help_text: str, commands: Commands) -> typer.Typer:
    """Add commands below one name, and answer their group."""
    group = typer.Typer(name=name, help=help_text, no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_nothing)
    for title, function in commands.items():
        group.command(title)(function)
    app.add_typer(group, name=name, help=help_text)
    return group


def _nothing() -> None:
    """A group of one command is still a group."""
