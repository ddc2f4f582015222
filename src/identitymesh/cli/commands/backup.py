"""Make a backup, check it, restore it on this or another host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.key_input import read_key
from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.output import Output
from identitymesh.cli.session import session_of
from identitymesh.cli.text import count, plural

if TYPE_CHECKING:
    from identitymesh.storage.backups import BackupReport
    from identitymesh.storage.restoring import RestoreReport

File = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]


def register(app: typer.Typer) -> None:
    commands: Commands = {"create": create, "verify": verify, "restore": restore}
    add_group(app, "backup", "Make a backup, check it, restore it on this or another host.", commands)


def create(
    ctx: typer.Context,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The new file; one that exists is not touched.")],
) -> None:
    """Write everything into one file, for either kind of database, but for what opens the keyring.

    Whoever has the file alone reads no credential. With the recovery key it brings the installation back.
    """
    session = session_of(ctx)
    with session.kept() as installation:
        report = installation.backups.create(to)
    _show(session.out, report)
    if not report.authenticated:
        session.out.warning("this host could not open its keyring, so nobody vouches for this backup; see: doctor")
    session.out.line("Keep the recovery key elsewhere. Try both together: identitymesh drill")


def verify(ctx: typer.Context, *, file: File) -> None:
    """Read a backup to its end and compare it with its hashes. Needs no key and no installation."""
    session = session_of(ctx)
    _show(session.out, session.custody.verify_backup(file))


def _show(out: Output, report: BackupReport) -> None:
    if out.json:
        out.document(report)
        return
    what = f"{plural(report.rows, 'row')} in {plural(report.tables, 'table')}, {count(report.bytes)} bytes"
    out.line(f"{report.file}: complete, {what}", style="green")
    out.line(f"  installation {report.installation}, schema {report.schema}, made {report.created}")


def restore(
    ctx: typer.Context,
    *,
    file: File,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="URL", help="Where to; in a new folder. A password in it is refused."),
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="F", help="From the recovery sheet; another one is refused.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of a living installation; what came later is lost.")
    ] = False,
    unauthenticated: Annotated[
        bool, typer.Option("--unauthenticated", help="Also a backup that no keyring vouches for.")
    ] = False,
) -> None:
    """Bring an installation back with its recovery key, here or on a new host; nothing is typed again.

    The key is asked for, or read from standard input. Nothing runs afterwards before `identitymesh resume`, and each
    target is read again before anything is written to it. Killed at any moment, the same command carries on.
    """
    session = session_of(ctx)
    key = read_key("recovery key")
    report = session.custody.restore(
        session.home,
        file,
        key,
        database_url=database,
        fingerprint=fingerprint,
        replace=replace,
        unauthenticated=unauthenticated,
    )
    if session.out.json:
        session.out.document(report)
    else:
        _show_restored(session.out, report)


def _show_restored(out: Output, report: RestoreReport) -> None:
    what = "was restored already" if report.resumed else f"is restored, {plural(report.rows, 'row')}"
    out.line(f"installation {report.installation} {what}; this host opens it", style="green")
    out.line(f"  the backup was made {report.created}; what came later is not in it")
    if not report.verified:
        out.line(
            f"  compare with the recovery sheet: {report.fingerprint} (or give it as --fingerprint)", style="yellow"
        )
    for slot in report.lost_slots:
        out.line(f"  another way in, perhaps lost with its host: {slot}", style="yellow")
    out.line("Nothing runs yet. When the lost host is off and its database login is revoked:")
    out.line("  identitymesh doctor")
    out.line("  identitymesh resume")
    out.line("  identitymesh plan")
