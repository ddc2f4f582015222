"""Rotate a credential while everything runs, and destroy what it was before."""

from __future__ import annotations

import secrets
import string
from typing import Annotated, Final

import typer

from identitymesh.cli.secret_actions import Reference
from identitymesh.cli.secret_input import read_value
from identitymesh.cli.session import session_of
from identitymesh.cli.text import local_time, plural
from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse

# Nothing that a shell, a URL, a connection string or a form would read as something else.
_ALPHABET: Final = string.ascii_letters + string.digits + "-_."


def generate(length: int) -> Secret:
    """A random password: 6 bits for each character, letters at both ends."""
    middle = "".join(secrets.choice(_ALPHABET) for _ in range(length - 2))
    return Secret(f"{secrets.choice(string.ascii_letters)}{middle}{secrets.choice(string.ascii_letters)}")


def rotate(
    ctx: typer.Context,
    *,
    reference: Reference,
    generate_length: Annotated[
        int | None,
        typer.Option("--generate", metavar="N", min=16, max=1024, help="Make a random value of N characters."),
    ] = None,
    at_server: Annotated[
        bool, typer.Option("--at-server", help="Set it at the system too, where the connector can (PostgreSQL).")
    ] = False,
    retire_after: Annotated[
        int, typer.Option("--retire-after", metavar="DAYS", min=0, help="Keep the old value this long.")
    ] = 7,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a rotation that is open; the current value stays.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Keep all bytes of standard input, the last newline too.")] = False,
) -> None:
    """Replace a credential only after its connectors have logged in with the new value.

    The new value is asked for, read from standard input, or made with --generate; it waits beside the current one
    until every connector that uses it has tried it on a fresh connection. If one is refused, the old value stays.
    Killed at any moment, the same command carries on. The old value is destroyed by `secrets retire`.
    """
    if ctx.args:
        raise UsageError(
            "secrets rotate takes a reference and its options, and there is more; it is not repeated here",
            hint="Give the value when asked, or on standard input, or use --generate.",
        )
    session = session_of(ctx)
    ref = parse(reference)
    with session.kept() as installation:
        if abandon:
            installation.rotation.abandon(ref)
            if session.out.json:
                session.out.document({"reference": ref.text, "abandoned": True})
            else:
                session.out.line(f"{ref}: the rotation is given up, the current value stays in use", style="green")
            return

        def ask() -> Secret:
            return generate(generate_length) if generate_length else read_value(ref.text, raw=raw)

        report = installation.rotation.rotate(ref, ask, at_server=at_server, retire_days=retire_after)
    if session.out.json:
        session.out.document(report)
        return
    if report.resumed:
        session.out.line("a rotation was open: it was carried on with the value that was stored then", style="yellow")
    for connector, told in report.probed.items():
        session.out.line(f"  {connector}: {told}")
    where = ", here and at the server" if report.at_server else ""
    session.out.line(f"{ref} is rotated to version {report.new_version}{where}", style="green")
    if report.retire_at is not None:
        session.out.line(f"Version {report.old_version} is kept until {local_time(report.retire_at)}; then:")
        session.out.line("  identitymesh secrets retire")


def retire(
    ctx: typer.Context,
    *,
    reference: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="All old versions of this one, now; else what is due.")
    ] = None,
) -> None:
    """Destroy old values: of one credential now, or of all whose time has come. They do not come back."""
    session = session_of(ctx)
    ref = parse(reference) if reference is not None else None
    with session.kept() as installation:
        retired = installation.rotation.retire(ref)
    if session.out.json:
        session.out.document({"retired": retired})
        return
    for one in retired:
        session.out.line(f"{one.ref}: {plural(len(one.versions), 'old version')} destroyed", style="green")
    if not retired:
        session.out.line("nothing is due to be retired")
