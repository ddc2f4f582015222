"""Encrypt the secrets that another application keeps in plain columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.column_view import show_outcome, show_status
from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.session import session_of

if TYPE_CHECKING:
    from identitymesh.columns.plan import Plan

PlanFile = Annotated[
    Path, typer.Option("--plan", metavar="FILE", help="The plan: database, key file, and what is encrypted.")
]


def register(app: typer.Typer) -> None:
    commands: Commands = {
        "init-key": init_key,
        "encrypt": encrypt,
        "status": status,
        "verify": verify,
        "decrypt": decrypt,
        "rotate-key": rotate_key,
        "upgrade": upgrade,
        "schema": schema,
    }
    add_group(app, "columns", "Encrypt the secrets that another application keeps in plain columns.", commands)


def init_key(
    ctx: typer.Context,
    *,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The new key file; one that exists is not touched.")],
) -> None:
    """Make a key file: 32 random bytes, mode 0600. Nothing else ever makes one.

    Run it as the user that the application runs as, once for each purpose, and keep a copy where backups of the
    database are not.
    """
    from identitymesh.columns.keys import create_key

    out = session_of(ctx).out
    key = create_key(path)
    if out.json:
        out.document({"path": path, "key_id": key.id})
        return
    out.line(f"{path}: key {key.id}, 32 bytes, mode 0600", style="green")
    out.line("Keep a copy away from the database and its backups: without it nobody reads what it encrypts.")


def encrypt(
    ctx: typer.Context,
    *,
    plan: PlanFile,
    drop_plaintext: Annotated[
        bool, typer.Option("--drop-plaintext", help="When every row is verified, remove the plain columns and rows.")
    ] = False,
    replace_broken: Annotated[
        bool,
        typer.Option("--replace-broken", help="Encrypt anew what does not open, where the plain value is still there."),
    ] = False,
) -> None:
    """Add columns, encrypt in batches, verify every row. Killed anywhere, the same call goes on.

    Applications may go on reading and writing: a value that changes meanwhile is encrypted as it is then. The plain
    values stay, so that old and new programs work side by side, until a call with --drop-plaintext.
    """
    from identitymesh.columns import service

    session = session_of(ctx)
    wanted = _read(plan)
    with session.out.progress() as progress:
        outcome = service.encrypt(wanted, drop_plaintext=drop_plaintext, replace_broken=replace_broken, report=progress)
    raise typer.Exit(show_outcome(session.out, outcome))


def status(ctx: typer.Context, *, plan: PlanFile) -> None:
    """Show how each place stands: plain, encrypted, pending. Opens no value and changes nothing."""
    from identitymesh.columns import service

    wanted = _read(plan)
    show_status(session_of(ctx).out, wanted.key, *service.status(wanted))


def verify(ctx: typer.Context, *, plan: PlanFile) -> None:
    """Open every encrypted value, and compare it with its plain one while there is one. Changes nothing."""
    from identitymesh.columns import service

    session = session_of(ctx)
    wanted = _read(plan)
    with session.out.progress() as progress:
        outcome = service.verify(wanted, report=progress)
    raise typer.Exit(show_outcome(session.out, outcome))


def decrypt(
    ctx: typer.Context,
    *,
    plan: PlanFile,
    drop_encrypted: Annotated[
        bool, typer.Option("--drop-encrypted", help="At the end, remove the encrypted columns and rows.")
    ] = False,
) -> None:
    """The way back: write the plain values again, in columns that are made anew if they were dropped."""
    from identitymesh.columns import service

    session = session_of(ctx)
    wanted = _read(plan)
    with session.out.progress() as progress:
        outcome = service.decrypt(wanted, drop_encrypted=drop_encrypted, report=progress)
    raise typer.Exit(show_outcome(session.out, outcome))


def rotate_key(
    ctx: typer.Context,
    *,
    plan: PlanFile,
    new_key: Annotated[
        Path,
        typer.Option("--new-key", metavar="PATH", help="The new key file, made by init-key; the plan names the old."),
    ],
) -> None:
    """Encrypt everything anew under another key, while applications work.

    Until it ends, values under both keys stand side by side: give applications both files first. Killed anywhere, the
    same call goes on.
    """
    from identitymesh.columns import service

    session = session_of(ctx)
    wanted = _read(plan)
    with session.out.progress() as progress:
        outcome = service.rotate_key(wanted, new_key, report=progress)
    raise typer.Exit(show_outcome(session.out, outcome))


def upgrade(ctx: typer.Context, *, plan: PlanFile) -> None:
    """Make sealed values of compatible ones: bound to table, column and row. Online; killed anywhere, it goes on."""
    from identitymesh.columns import service

    session = session_of(ctx)
    wanted = _read(plan)
    with session.out.progress() as progress:
        outcome = service.upgrade(wanted, report=progress)
    raise typer.Exit(show_outcome(session.out, outcome))


def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of plan files, for editors and checks."""
    from identitymesh.columns.plan import schema as schema_of

    session_of(ctx).out.document(schema_of())


def _read(plan: Path) -> Plan:
    """The plan. From here on values are in this process: no core dump shows them."""
    from identitymesh.columns.plan import read_plan
    from identitymesh.secrets.process import harden_process

    harden_process()
    return read_plan(plan)
