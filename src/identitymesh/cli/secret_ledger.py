"""What the ledger says of secrets: one, who uses which, what is due, what nobody uses. Never a value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.secret_actions import Reference
from identitymesh.cli.session import Session, session_of
from identitymesh.cli.text import local_time, plural
from identitymesh.errors import ExitCode, SecretMissing
from identitymesh.secrets.references import parse

if TYPE_CHECKING:
    from identitymesh.runs.secret_usage import SecretUsage, SecretUse


def _usage(session: Session) -> Sequence[SecretUsage]:
    from identitymesh.runs.secret_usage import usage

    with session.installation() as installation:
        return usage(installation.secrets.list(), installation.engine.connectors())


def show(ctx: typer.Context, *, reference: Reference) -> None:
    """Everything that is known about one credential: owner, cadence, who may get it, who uses it; not its value."""
    session = session_of(ctx)
    ref = parse(reference)
    found = next((one for one in _usage(session) if one.ref == ref.text), None)
    if found is None:
        raise SecretMissing(f"{ref} is not stored, and no connector names it", hint="See: identitymesh secrets list")
    if session.out.json:
        session.out.document(found)
        return
    for title, text in _lines(found):
        session.out.line(f"{title + ':':<16}{text}")
    if found.secret is not None and found.secret.problem:
        session.out.line(f"problem: {found.secret.problem}", style="red")
    if found.state == "missing":
        session.out.line(f"Store it: identitymesh secrets set {ref}", style="yellow")


def _lines(found: SecretUsage) -> list[tuple[str, str]]:
    uses = "; ".join(map(_use, found.uses)) or "nobody, by the definition in force"
    lines = [("reference", found.ref), ("used by", uses)]
    secret = found.secret
    if secret is None:
        return [*lines, ("stored", "no")]
    pending = f", version {secret.pending_version} is pending" if secret.pending_version else ""
    used = "never"
    if secret.last_used:
        used = f"{local_time(secret.last_used)} by {secret.last_used_by} (version {secret.last_used_version})"
    return [
        *lines,
        ("may be sent to", ", ".join(map(str, secret.audience)) or "nobody yet"),
        ("keyring", secret.keyring),
        ("owner", secret.owner or "-"),
        ("description", secret.description or "-"),
        ("change every", plural(secret.cadence_days, "day") if secret.cadence_days else "-"),
        ("version", f"{secret.current_version or '-'}{pending}"),
        ("in a vault", f"follow: {secret.follow}"),
        ("created", local_time(secret.created)),
        ("changed", local_time(secret.changed)),
        ("last used", used),
    ]


def _use(one: SecretUse) -> str:
    return f"{one.connector} {one.field} ({', '.join(one.endpoints) or 'local'})"


def show_usage(ctx: typer.Context) -> None:
    """Which connector names which credential in the definition in force, and who used it last."""
    session = session_of(ctx)
    found = _usage(session)
    if session.out.json:
        session.out.document({"secrets": [_document(one) for one in found]})
        return
    if not found:
        session.out.line("no secrets yet, and no connector names one")
        return
    rows = []
    for one in found:
        used = "never"
        if one.secret is not None and one.secret.last_used:
            used = f"{local_time(one.secret.last_used)} by {one.secret.last_used_by}"
        rows.append([one.ref, one.state, "; ".join(map(_use, one.uses)) or "-", used])
    session.out.table(["reference", "state", "named by", "last used"], rows)


def _document(one: SecretUsage) -> dict[str, object]:
    secret = one.secret
    return {
        "ref": one.ref,
        "state": one.state,
        "uses": document(one.uses),
        "last_used": document(secret.last_used) if secret else None,
        "last_used_by": secret.last_used_by if secret else None,
        "last_used_version": secret.last_used_version if secret else None,
    }


def show_due(
    ctx: typer.Context,
    *,
    within: Annotated[int, typer.Option("--within", metavar="DAYS", min=0, help="Look this far ahead.")] = 14,
) -> int:
    """Credentials whose time is over, or soon will be. Exit code 5 when one is overdue."""
    from identitymesh.runs.secret_usage import due

    session = session_of(ctx)
    with session.installation() as installation:
        found = due(installation.secrets.list(), datetime.now(UTC), timedelta(days=within))
    late = [one for one in found if one.overdue]
    if session.out.json:
        session.out.document({"due": [document(one) | {"overdue": one.overdue} for one in found]})
    elif not found:
        session.out.line(f"nothing is due within {plural(within, 'day')}", style="green")
    else:
        rows = [
            [one.ref, f"{one.cadence_days} days", local_time(one.changed), _when(one.overdue_days), one.owner or "-"]
            for one in found
        ]
        session.out.table(["reference", "change every", "changed", "due", "owner"], rows)
        session.out.line("Change one: identitymesh secrets rotate REF")
    return int(ExitCode.PROBLEMS if late else ExitCode.DONE)


def _when(overdue_days: int) -> str:
    if overdue_days >= 0:
        return f"overdue by {plural(overdue_days, 'day')}"
    return f"in {plural(-overdue_days, 'day')}"


def show_orphans(ctx: typer.Context) -> int:
    """Credentials that nothing uses, and references that nobody stored. Exit code 5 when one is missing."""
    from identitymesh.runs.secret_usage import orphans

    session = session_of(ctx)
    found = orphans(_usage(session))
    absent = [one for one in found if one.state == "missing"]
    if session.out.json:
        unused = [one.ref for one in found if one.state == "unused"]
        session.out.document({"missing": [_document(one) for one in absent], "unused": unused})
    elif not found:
        session.out.line("every stored credential is used, and every named one is stored", style="green")
    for one in found:
        if one.state == "missing":
            users = "; ".join(map(_use, one.uses))
            session.out.line(f"missing  {one.ref}, named by {users}: identitymesh secrets set {one.ref}", style="red")
        else:
            session.out.line(f"unused   {one.ref}: identitymesh secrets delete {one.ref}", style="yellow")
    return int(ExitCode.PROBLEMS if absent else ExitCode.DONE)
