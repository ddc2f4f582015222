"""The secret commands alone, as older scripts call them. `identitymesh secrets` is the same, and more careful."""

from __future__ import annotations

from typing import Annotated

import typer

from identitymesh.cli.options import TAKES_ANYTHING, Commands
from identitymesh.cli.secret_actions import About, Reference, delete, exists, get, list_secrets, store
from identitymesh.cli.secret_input import read_value
from identitymesh.cli.session import session_of
from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse


def register(app: typer.Typer) -> None:
    app.command("set", context_settings=TAKES_ANYTHING)(set_secret)
    commands: Commands = {"get": get, "exists": exists, "list": list_secrets, "delete": delete}
    for name, function in commands.items():
        app.command(name)(function)


def set_secret(
    ctx: typer.Context,
    *,
    reference: Reference,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="Better left out: then it is asked for, or standard input.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep all bytes of standard input, the last newline too.")] = False,
) -> None:
    """Store a credential. Without VALUE it is asked for without echo, or read from standard input."""
    if ctx.args:
        raise UsageError(
            "set takes a reference and at most one value, and there is more; it is not repeated here",
            hint="Quote a value with spaces, or better: give it on standard input.",
        )
    session = session_of(ctx)
    ref = parse(reference)
    with session.installation() as installation:
        if value is None:
            store(session, installation, ref, read_value(ref.text, raw=raw), About())
            return
        if not installation.allow_value_argument:
            raise UsageError(
                "a value on the command line is forbidden here (secrets.allow_value_argument = false)",
                hint="Give it on standard input. It stands in the shell's history now: remove it there, or change it.",
            )
        session.out.warning(
            "a value on the command line is seen by everybody in the process list, and kept in the shell's history; "
            "standard input is safer"
        )
        store(session, installation, ref, Secret(value.encode("utf-8", "surrogateescape")), About())
