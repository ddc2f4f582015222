"""Take all credentials out as one age file, and bring such a file in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from identitymesh.cli.key_input import read_key
from identitymesh.cli.output import Output
from identitymesh.cli.secret_actions import Keyring
from identitymesh.cli.session import session_of
from identitymesh.cli.text import plural
from identitymesh.errors import UsageError
from identitymesh.redaction import Secret

if TYPE_CHECKING:
    from identitymesh.secrets.bundles import Imported, Policy


def export_bundle(
    ctx: typer.Context,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The new file; one that exists is not touched.")],
    recipient: Annotated[
        list[str], typer.Option("--recipient", metavar="AGE", help="Public age key, age1...; again for more.")
    ],
    keyring: Keyring = None,
) -> None:
    """Write every credential into one age file that only its recipients open. It is recorded that you did.

    `age --decrypt --identity KEYFILE FILE` shows what is in it, without this program.
    """
    from identitymesh.secrets.private_files import replace_private

    session = session_of(ctx)
    refuse_existing(to)
    with session.kept() as installation:
        exported = installation.bundles.export(recipient, keyring)
    try:
        replace_private(to, Secret(exported.sealed), mode=0o600)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {(error.strerror or '').lower()}") from None
    if session.out.json:
        session.out.document({"file": to, "secrets": exported.secrets, "recipients": exported.recipients})
    else:
        session.out.line(f"{plural(exported.secrets, 'secret')} written to {to}", style="green")


def refuse_existing(file: Path) -> None:
    """Raise for a file that exists: it may be the only copy of something."""
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} exists already", hint="Choose another name, or move it away first.")


def import_bundle(
    ctx: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `secrets export` wrote.")],
    identity: Annotated[
        Path | None,
        typer.Option("--identity", metavar="FILE", help="Private age key; else asked for, or standard input."),
    ] = None,
    on_conflict: Annotated[
        str, typer.Option("--on-conflict", metavar="WHAT", help="refuse, keep (what is here) or replace.")
    ] = "refuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and compare; store nothing.")] = False,
) -> None:
    """Store the credentials of a bundle: verified first, then all of them in one transaction, or none.

    What is new here is sent nowhere before the next `apply` that names it.
    """
    from identitymesh.secrets.bundle_format import MAX_BYTES
    from identitymesh.secrets.bundles import POLICIES

    if on_conflict not in POLICIES:
        raise UsageError(f"--on-conflict is one of {', '.join(POLICIES)}")
    session = session_of(ctx)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{file} has more than {MAX_BYTES:,} bytes; that is no bundle")
        sealed = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {(error.strerror or '').lower()}") from None
    key = read_key("private age key", identity)
    with session.kept() as installation:
        done = installation.bundles.bring(sealed, key, on_conflict=cast("Policy", on_conflict), dry_run=dry_run)
    if session.out.json:
        session.out.document(done)
    else:
        _show(session.out, done)


def _show(out: Output, done: Imported) -> None:
    difference = done.difference
    out.line(f"bundle of installation {difference.installation}, made {difference.created}")
    for title, refs in (
        ("new", difference.new),
        ("same", difference.same),
        ("different", difference.different),
        ("other keyring", difference.keyring_differs),
    ):
        for ref in refs:
            out.line(f"  {title:<14}{ref}")
    if done.dry_run:
        out.line("Nothing was stored.")
    else:
        out.line(f"{plural(len(done.stored), 'secret')} stored", style="green")
