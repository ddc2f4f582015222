"""Make a new installation here; its first line is the recovery key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of

if TYPE_CHECKING:
    from identitymesh.secrets.setup import InitResult


def register(app: typer.Typer) -> None:
    app.command("init")(init)


def init(
    ctx: typer.Context,
    *,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", metavar="URL", help="Instead of SQLite in the folder; a password in it is refused."
        ),
    ] = None,
) -> None:
    """Make settings, database and keyrings in this folder, without questions.

    The first line of output is the recovery key, shown this once: whoever has it and a backup can bring the
    installation back on another machine. Nothing is stored before it has been printed.
    """
    session = session_of(ctx)
    out = session.out

    def announce(result: InitResult) -> None:
        if out.json:
            out.document(_document(result))
        else:
            out.raw(result.recovery_key.reveal() + b"\n")
        out.flush()

    result = session.openers.initialise(session.home, database_url, announce)
    if not out.json:
        _show(out, result)


def _document(result: InitResult) -> dict[str, object]:
    return {
        "recovery_key": result.recovery_key.reveal_text(),
        "installation": result.installation,
        "fingerprint": result.fingerprint,
        "keyrings": list(result.keyrings),
        "host": str(result.host),
    }


def _show(out: Output, result: InitResult) -> None:
    out.line("This is the recovery key. It is not shown again and is stored nowhere: write it down, keep it offline.")
    out.line(f"Its fingerprint, for the same sheet: {result.fingerprint}")
    out.line()
    out.line(f"made   settings       {result.host.parent / 'identitymesh.toml'}")
    out.line("made   database       with its schema")
    out.line(f"made   keyrings       {', '.join(result.keyrings)}")
    out.line(f"made   host key       {result.host} (leave it out of backups)")
    out.line()
    out.line("Next: store a credential  identitymesh secrets set secret://hr/reader")
    out.line("      apply a definition  identitymesh apply mesh.yaml")
