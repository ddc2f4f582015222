"""What `identitymesh secrets` and `secretscli` have in common."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.contract import Installation
from identitymesh.cli.secret_list import show
from identitymesh.cli.session import Session, session_of
from identitymesh.cli.text import clean, plural
from identitymesh.errors import ExitCode, UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SecretReference, parse

if TYPE_CHECKING:
    from identitymesh.secrets.properties import SecretProperties

Reference = Annotated[str, typer.Argument(metavar="REF", help="secret://hr/reader, for example.")]
Keyring = Annotated[
    str | None,
    typer.Option("--keyring", metavar="NAME", help="connectors (default), or application: the product's own."),
]
Owner = Annotated[str | None, typer.Option("--owner", metavar="WHO", help="Who answers for it.")]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is for.")]
Cadence = Annotated[
    int | None, typer.Option("--cadence-days", metavar="N", min=1, help="It should be changed this often.")
]


@dataclass(frozen=True, slots=True)
class About:
    """What may be said of a secret when it is stored; what is left out stays as it was."""

    keyring: str | None = None
    owner: str | None = None
    description: str | None = None
    cadence_days: int | None = None


def store(session: Session, installation: Installation, ref: SecretReference, value: Secret, about: About) -> None:
    """Store a value as the current version, and say so."""
    version = installation.secrets.put(
        ref,
        value,
        actor=installation.actor,
        keyring=about.keyring,
        owner=about.owner,
        description=about.description,
        cadence_days=about.cadence_days,
    )
    if session.out.json:
        session.out.document({"reference": ref.text, "version": version})
    else:
        session.out.line(f"{ref.text} is stored (version {version})", style="green")


def get(
    ctx: typer.Context,
    *,
    reference: Reference,
    force: Annotated[bool, typer.Option("--force", help="Also into a pipe or file, and byte for byte.")] = False,
) -> None:
    """Show a credential on this terminal. It is recorded that you did."""
    session = session_of(ctx)
    out = session.out
    ref = parse(reference)
    if not (force or out.on_terminal):
        raise UsageError(
            "standard output is no terminal; a credential would end up in a file or another program",
            hint=f"If that is what you want: secrets get {ref.text} --force",
        )
    with session.installation() as installation:
        value = installation.secrets.reveal(ref, actor=installation.actor)
    if out.json:
        out.document({"reference": ref.text, **_as_json(value)})
        return
    content = value.reveal()
    if not force and not _can_be_shown(content):
        raise UsageError(
            f"{ref.text} is not plain text, a terminal would not show it as it is",
            hint=f"Write it to a file that only you can read: secrets get {ref.text} --force > FILE",
        )
    out.raw(content if force else content + b"\n")


def _as_json(value: Secret) -> dict[str, str]:
    content = value.reveal()
    try:
        return {"value": content.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(content).decode("ascii")}


def _can_be_shown(content: bytes) -> bool:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    printable = text.replace("\n", "").replace("\t", "")
    return clean(printable) == printable


def exists(ctx: typer.Context, *, reference: Reference) -> int:
    """Answer by exit code whether a credential is stored: 0 yes, 1 no."""
    session = session_of(ctx)
    ref = parse(reference)
    with session.installation() as installation:
        found = installation.secrets.exists(ref)
    if session.out.json:
        session.out.document({"reference": ref.text, "exists": found})
    elif session.out.on_terminal:
        session.out.line(f"{ref.text} is stored" if found else f"{ref.text} is not stored")
    return int(ExitCode.DONE if found else ExitCode.FAILED)


def list_secrets(ctx: typer.Context) -> None:
    """What is stored, who may get it, when it was used; never a value."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.secrets.list()
    show(session.out, found)


def delete(
    ctx: typer.Context,
    *,
    reference: Reference,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="For ever, also where a vault keeps what is deleted for a while.")
    ] = False,
) -> None:
    """Delete a credential with its history. Asks first on a terminal."""
    session = session_of(ctx)
    ref = parse(reference)
    with session.installation() as installation:
        if not yes and _somebody_is_there(session):
            _make_sure(ref, installation.secrets.list())
        installation.secrets.delete(ref, actor=installation.actor, purge=purge)
    if session.out.json:
        session.out.document({"reference": ref.text, "deleted": True})
    else:
        session.out.line(f"{ref.text} is deleted", style="green")


def follow(
    ctx: typer.Context,
    *,
    reference: Reference,
    pinned: Annotated[
        bool, typer.Option("--pinned/--current", help="Use what was set here, or what the vault calls current.")
    ] = False,
) -> None:
    """Whether a version that somebody sets in the vault itself is used from then on. It is, unless pinned."""
    session = session_of(ctx)
    ref = parse(reference)
    with session.installation() as installation:
        installation.secrets.follow(ref, pinned=pinned, actor=installation.actor)
    if session.out.json:
        session.out.document({"reference": ref.text, "follow": "pinned" if pinned else "current"})
    else:
        told = "stays with the version that was set here" if pinned else "follows the vault's current version"
        session.out.line(f"{ref.text} {told}", style="green")


def _somebody_is_there(session: Session) -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and session.out.on_terminal


def _make_sure(ref: SecretReference, known: Sequence[SecretProperties]) -> None:
    users = sorted({place.connector for one in known if one.ref == ref.text for place in one.audience})
    used = f" The connector{'s' * (len(users) > 1)} {', '.join(users)} would stop working." if users else ""
    if not typer.confirm(f"Delete {ref.text} with its history?{used}"):
        raise UsageError("nothing was deleted")


def verify(ctx: typer.Context) -> int:
    """Open every version of every credential, and say which do not open."""
    session = session_of(ctx)
    with session.installation() as installation:
        results = installation.secrets.verify(actor=installation.actor)
    failed = [one for one in results if not one.ok]
    if session.out.json:
        session.out.document({"ok": not failed, "secrets": results})
    else:
        for one in failed:
            for problem in one.problems:
                session.out.line(problem if one.ref in problem else f"{one.ref}: {problem}", style="red")
        opened = sum(one.opened for one in results)
        summary = (
            f"{plural(len(results), 'secret')}, {plural(opened, 'version')} opened, {plural(len(failed), 'problem')}"
        )
        session.out.line(summary, style="red" if failed else "green")
    return int(ExitCode.SECRET if failed else ExitCode.DONE)
