"""Say where each value of a person comes from, and what lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from identitymesh.cli.options import as_text
from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of
from identitymesh.cli.text import show_value
from identitymesh.redaction import MASKED
from identitymesh.runs.reports import ExplainedValue, Explanation, Walk


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(
    ctx: typer.Context,
    *,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="OBJECT",
            callback=as_text,
            help="An anchor (employee number), connector/object/key, or an account's key.",
        ),
    ],
    restricted: Annotated[bool, typer.Option("--restricted", help="Show values of restricted attributes too.")] = False,
) -> None:
    """Everything about one person: which objects belong together and why, and each value's source, rule and rivals."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.engine.explain(subject)
    if not restricted:
        found = replace(found, values=[_masked(one) for one in found.values])
    if session.out.json:
        session.out.document(found)
    else:
        _show(session.out, found)


def _masked(value: ExplainedValue) -> ExplainedValue:
    if not value.restricted:
        return value
    offers = [replace(offer, value=MASKED) for offer in value.offers]
    return replace(value, value=MASKED if value.value is not None else None, offers=offers)


def masked_walk(walk: Walk) -> Walk:
    """The same without values of restricted attributes."""
    found = walk.explanation
    return replace(walk, explanation=replace(found, values=[_masked(one) for one in found.values]) if found else None)


def show_walk(out: Output, walk: Walk) -> None:
    """One person's whole walk, from objects to what the plan does with each account."""
    masked = masked_walk(walk)
    if masked.explanation is None:
        out.line(f"nobody is called {walk.subject}")
    else:
        _show(out, masked.explanation)
    for one in walk.alone:
        again = f", tried again on {one.due:%Y-%m-%d}" if one.due else ""
        out.line(f"  {one.connector}/{one.object}/{one.key}: {one.state}{again}")
    if walk.steps:
        out.heading("In this plan")
        out.table(
            ["target", "object", "does", "why"],
            [[one.connector, one.object, one.decision, one.reason] for one in walk.steps],
        )


def _show(out: Output, found: Explanation) -> None:
    presence = "present" if found.present else f"left {found.left_at or ''}".rstrip()
    frozen = ", frozen: no run writes to this person's accounts" if found.frozen else ""
    anchor = found.anchor or "without anchor"
    out.line(f"{found.type} {anchor} (identity {found.identity_id}): {presence}{frozen}", style="bold")
    out.heading("Objects")
    if not found.objects:
        out.line("  none: no connector holds this person any more")
    rows = [[one.connector, one.object, one.key, one.joined_by or "-"] for one in found.objects]
    if rows:
        out.table(["connector", "object", "key", "joined by"], rows)
    _show_values(out, found)
    out.heading("Accounts")
    if not found.accounts:
        out.line("  none" if found.not_projected else "  none: no rule projects this type of person")
    for reason in found.not_projected:
        out.line(f"  {reason}")
    for account in found.accounts:
        key = account.key or "no key yet"
        out.line(f"  {account.connector}/{account.object} {key}: {account.state} (rule {account.rule})")
        from identitymesh.cli.run_view import show_differences

        show_differences(out, account.differences, indent="      ")


def _show_values(out: Output, found: Explanation) -> None:
    out.heading("Values")
    rows: list[list[str]] = []
    for value in found.values:
        won = next((offer for offer in value.offers if offer.won), None)
        source = [f"{won.connector}/{won.key}", won.rule, str(won.confidence)] if won else ["-", "-", "-"]
        rows.append([value.name, show_value(value.value), *source, value.since or "-"])
        rows += [
            [
                "",
                f"not {show_value(offer.value)}",
                f"{offer.connector}/{offer.key}",
                offer.rule,
                str(offer.confidence),
                "",
            ]
            for offer in value.offers
            if not offer.won
        ]
    if rows:
        out.table(["attribute", "value", "from", "rule", "confidence", "since"], rows, right=(4,))
    else:
        out.line("  none")
