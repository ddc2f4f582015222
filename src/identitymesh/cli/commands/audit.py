"""Look at the audit trail: who did what, and what happened to people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.options import Commands, add_group, as_number, as_text
from identitymesh.cli.session import session_of
from identitymesh.cli.text import local_time

if TYPE_CHECKING:
    from identitymesh.storage.audit_log import AuditEntry


def register(app: typer.Typer) -> None:
    commands: Commands = {"list": list_audit}
    add_group(app, "audit", "Look at the audit trail: who did what, and what happened to people.", commands)


def list_audit(
    ctx: typer.Context,
    *,
    person: Annotated[
        str | None,
        typer.Option(
            "--person", metavar="ANCHOR", callback=as_text, help="What happened to this person and their accounts."
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", metavar="NAME", help="Such as run.start; secret.* means all about secrets."),
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Only what this one did.")] = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="ID", min=1, callback=as_number, help="Only what this run did.")
    ] = None,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="N", min=1, callback=as_number, help="Only records older than number N."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, callback=as_number, help="How many, newest first.")
    ] = 50,
) -> None:
    """Who did what and when, newest first. Of people it names what changed; `explain` shows the values."""
    from identitymesh.storage.audit_log import AuditWish

    wish = AuditWish(person, action, actor, str(run) if run is not None else None, before, limit)
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.running.audit.list(wish)
    if session.out.json:
        session.out.document({"records": document(found)})
        return
    if not found:
        session.out.line("no such records")
        return
    titles = ["number", "when", "who", "what", "of", "outcome", "run", "details"]
    session.out.table(titles, [_row(one) for one in found], right=(0, 6))


def _row(one: AuditEntry) -> list[str]:
    details = [f"{name}={_short(value)}" for name, value in one.details.items() if value not in (None, "", [], {})]
    changed = [f"changed: {', '.join(one.changed)}"] if one.changed else []
    return [
        str(one.sequence),
        local_time(one.at) if one.at else "-",
        one.actor,
        one.action,
        one.person or one.subject,
        one.outcome,
        one.run or "-",
        "; ".join([*changed, *details]),
    ]


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
