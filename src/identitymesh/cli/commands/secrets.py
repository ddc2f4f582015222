"""Store, list, rotate, verify and delete credentials."""

from __future__ import annotations

from typing import Annotated

import typer

from identitymesh.cli.options import TAKES_ANYTHING, Commands, add_group
from identitymesh.cli.secret_actions import (
    About,
    Cadence,
    Description,
    Keyring,
    Owner,
    Reference,
    delete,
    exists,
    follow,
    get,
    list_secrets,
    store,
    verify,
)
from identitymesh.cli.secret_bundles import export_bundle, import_bundle
from identitymesh.cli.secret_input import read_value
from identitymesh.cli.secret_ledger import show, show_due, show_orphans, show_usage
from identitymesh.cli.secret_migration import migrate
from identitymesh.cli.secret_rotation import retire, rotate
from identitymesh.cli.session import session_of
from identitymesh.errors import UsageError
from identitymesh.secrets.references import parse


def register(app: typer.Typer) -> None:
    group = add_group(app, "secrets", "Store, list, rotate, verify and delete credentials.", {})
    group.command("set", context_settings=TAKES_ANYTHING)(set_secret)
    group.command("rotate", context_settings=TAKES_ANYTHING)(rotate)
    commands: Commands = {"get": get, "exists": exists, "list": list_secrets, "delete": delete, "verify": verify}
    commands |= {"show": show, "usage": show_usage, "due": show_due, "orphans": show_orphans}
    commands |= {"retire": retire, "follow": follow, "export": export_bundle, "import": import_bundle}
    commands |= {"migrate": migrate}
    for name, function in commands.items():
        group.command(name)(function)


def set_secret(
    ctx: typer.Context,
    *,
    reference: Reference,
    raw: Annotated[bool, typer.Option("--raw", help="Keep all bytes of standard input, the last newline too.")] = False,
    keyring: Keyring = None,
    owner: Owner = None,
    description: Description = None,
    cadence_days: Cadence = None,
) -> None:
    """Store a credential; it is asked for, or read from standard input.

    It is asked for without echo, twice; of standard input one trailing newline is dropped. One that is stored
    already is replaced. A value is never taken from the command line, where the
    process list and the shell's history would show it.
    """
    if ctx.args:
        raise UsageError(
            "secrets set takes a reference and its options, and there is more; it is not repeated here",
            hint="Give the value when asked, or on standard input. If it stood on the command line, the shell's "
            "history may hold it now: remove it there, or change the credential.",
        )
    session = session_of(ctx)
    ref = parse(reference)
    about = About(keyring, owner, description, cadence_days)
    with session.installation() as installation:
        store(session, installation, ref, read_value(ref.text, raw=raw), about)
