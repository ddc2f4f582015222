"""Move all secrets of connectors to another provider while everything runs, and back if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.session import Session, session_of
from identitymesh.cli.text import local_time, plural
from identitymesh.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from identitymesh.secrets.migration.planning import MigrationPlan
    from identitymesh.secrets.migration.work import MigrationReport

Source = Annotated[str | None, typer.Option("--from", metavar="PROVIDER", help="Where they are: database, openbao …")]
Target = Annotated[str | None, typer.Option("--to", metavar="PROVIDER", help="Where they should be.")]


def migrate(  # noqa: PLR0913 - an option for each way on, and each way out
    ctx: typer.Context,
    *,
    source: Source = None,
    target: Target = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look: what would be met, and how long.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Give up before the cut over.")] = False,
    back: Annotated[bool, typer.Option("--back", help="After the cut over: bring everything back.")] = False,
    scrub: Annotated[bool, typer.Option("--scrub", help="End it: delete the values at the old provider.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="With --scrub: also what the vault keeps of them.")] = False,
) -> int | None:
    """Move the secrets of all connectors to another provider; runs go on, and nothing is typed again.

    With --from and --to: plan, copy, read back and compare, cut over. Killed at any moment, the same command carries
    on. The old provider keeps its values, and is asked for what the new one does not find, until --scrub; up to then
    --back brings everything back, with what was set since. Without options: how far it is.
    """
    session = session_of(ctx)
    if sum((bool(source or target), abort, back, scrub)) > 1 or (purge and not scrub) or (dry_run and not source):
        raise UsageError(
            "these options do not go together",
            hint="One of: --from with --to (and --dry-run), --abort, --back, --scrub (and --purge).",
        )
    if bool(source) != bool(target):
        raise UsageError("--from and --to need each other", hint="For example: --from database --to openbao")
    with session.kept() as installation, session.out.progress() as progress:
        migrations = installation.migrations
        if source and target and dry_run:
            return _show_plan(session, migrations.plan(source, target, progress))
        if source and target:
            report: MigrationReport | None = migrations.run(source, target, progress)
        elif abort:
            report = migrations.abort(progress)
        elif back:
            report = migrations.back(progress)
        elif scrub:
            report = migrations.scrub(progress, purge=purge)
        else:
            report = migrations.status()
    _show(session, report, asked=not (source or abort or back or scrub))
    return None


def _show_plan(session: Session, plan: MigrationPlan) -> int:
    out = session.out
    code = ExitCode.SECRET if plan.problems else ExitCode.DONE
    if out.json:
        out.document(plan)
        return int(code)
    out.line(f"{plan.source} -> {plan.target}: {plural(plan.secrets, 'secret')}, {plural(plan.versions, 'version')}")
    out.line(f"  largest value {plan.largest_bytes} bytes, of {plan.limit_bytes} that every provider takes")
    if plan.present or plan.deleted:
        out.line(f"  already there: {plan.present}, deleted and brought back: {plan.deleted}; each gets a new version")
    limit = f" at {plan.writes_per_second:g} writes a second" if plan.writes_per_second else ""
    out.line(f"  about {_span(plan.seconds)}{limit}")
    for problem in plan.problems:
        out.line(f"  problem: {problem}", style="red")
    if plan.problems:
        out.line("nothing was changed; it would not begin", style="red")
    else:
        out.line("nothing was changed; it can begin:", style="green")
        out.line(f"  identitymesh secrets migrate --from {plan.source} --to {plan.target}")
    return int(code)


def _show(session: Session, report: MigrationReport | None, *, asked: bool) -> None:
    out = session.out
    if out.json:
        out.document({"migration": report})
        return
    if report is None:
        out.line("no migration is open; see what one would do:")
        out.line("  identitymesh secrets migrate --from database --to openbao --dry-run")
        return
    way = f"{report.source} -> {report.target}"
    if report.resumed:
        out.line("it had been begun, and was carried on", style="yellow")
    if report.state == "done":
        out.line(f"{way}: it is over; nothing of it is left", style="green")
        return
    took = "" if asked else f", {report.seconds:.1f} s"
    out.line(f"{way}: {report.state}, since {local_time(report.started)}")
    out.line(f"  {report.copied} of {plural(report.versions, 'version')} copied, {report.verified} verified{took}")
    if report.state == "drain":
        out.line(f"{report.target} is used now; set secrets.provider to it in identitymesh.toml", style="green")
        if report.fallbacks:
            out.line(f"  {report.source} was still asked {plural(report.fallbacks, 'time')}", style="yellow")
        out.line("When nothing is missing there:  identitymesh secrets migrate --scrub")
        out.line("To take it back:               identitymesh secrets migrate --back")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
