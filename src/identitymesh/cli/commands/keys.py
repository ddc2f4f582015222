"""Keyrings and their slots: look, test, add, remove, join, rotate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from identitymesh.cli.documents import document
from identitymesh.cli.key_view import show_added, show_joined, show_removed, show_rotated, show_status, show_trials
from identitymesh.cli.options import Commands, add_group
from identitymesh.cli.secret_input import ask_hidden, read_hidden
from identitymesh.cli.session import session_of
from identitymesh.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from identitymesh.redaction import Secret
    from identitymesh.secrets.custody.removing import NewRecovery

Keyring = Annotated[
    list[str] | None, typer.Option("--keyring", metavar="NAME", help="Only this keyring: connectors or application.")
]
Label = Annotated[
    str | None, typer.Option("--label", metavar="TEXT", help="How the slot is listed; default the name of this host.")
]
TYPED = ("recovery", "passphrase")
REMOVAL = (
    "this guards against somebody who can only write the database. A host that is thrown out may have kept "
    "what it read: revoke its login to the database first, and change the credentials that it used"
)


def register(app: typer.Typer) -> None:
    commands: Commands = {"status": status, "open-test": open_test, "join": join, "rotate": rotate}
    group = add_group(app, "keys", "Keyrings and their slots: look, test, add, remove, join, rotate.", commands)
    slots: Commands = {
        "add": add,
        "remove": remove,
        "replace-recovery": replace_recovery,
        "credential": credential,
    }
    add_group(group, "slots", "The ways into the keyrings: add, remove, replace the recovery key.", slots)


def status(ctx: typer.Context) -> None:
    """Keyrings, their slots, the weakest link, this host's anchors, open rotations. Needs no key."""
    session = session_of(ctx)
    with session.installation() as installation:
        found = installation.keys.status()
    if session.out.json:
        session.out.document(found)
    else:
        show_status(session.out, found)
    if any(one.problem or one.anchor_problem for one in found.keyrings):
        raise typer.Exit(int(ExitCode.SECRET))


def open_test(
    ctx: typer.Context,
    *,
    through: Annotated[
        str | None,
        typer.Option("--with", metavar="TYPE", help="Type a recovery key or a passphrase and test those slots."),
    ] = None,
) -> None:
    """Open the keyrings through every slot within reach, each in a fresh process."""
    session = session_of(ctx)
    if through not in (None, *TYPED):
        raise UsageError("--with takes recovery or passphrase", hint="Other slots are tested without it.")
    with session.installation() as installation:
        typed = None if through is None else read_hidden(_prompt(through))
        results = installation.keys.open_test(through, typed)
    if session.out.json:
        session.out.document({"slots": results})
    else:
        show_trials(session.out, results)
    if not results or any(one.problem for one in results):
        raise typer.Exit(int(ExitCode.SECRET))


def join(
    ctx: typer.Context,
    *,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", metavar="F", help="The fingerprint on the recovery sheet.")
    ] = None,
    through: Annotated[
        str, typer.Option("--through", metavar="TYPE", help="The slot to come in through: recovery, passphrase, …")
    ] = "recovery",
    label: Label = None,
) -> None:
    """Make this host one that opens the keyrings: its own keys and anchors, tested.

    The settings name the existing database. The recovery key (or passphrase) is asked for without echo, or read
    from standard input. Without --fingerprint the trust in this database is recorded as unverified.
    """
    session = session_of(ctx)
    session.when_stopped = "stopped; the same command goes on"
    with session.installation() as installation:
        typed = read_hidden(_prompt(through)) if through in TYPED else None
        report = installation.keys.join(through, typed, label=label, fingerprint=fingerprint)
    if not report.verified:
        session.out.warning(
            f"nobody compared the recovery sheet; its fingerprint should be {report.fingerprint}. "
            "Compare it and run: identitymesh keys join --fingerprint F"
        )
    if session.out.json:
        session.out.document(report)
    else:
        show_joined(session.out, report)


def rotate(
    ctx: typer.Context,
    *,
    keyring: Annotated[
        str | None, typer.Argument(metavar="[KEYRING]", help="connectors or application; default both.")
    ] = None,
) -> None:
    """New data keys, and every value sealed again under them, while everything goes on.

    Stopped or killed, the same command goes on.
    """
    session = session_of(ctx)
    session.when_stopped = "stopped; the same command goes on"
    with session.installation() as installation, session.out.progress() as progress:
        reports = installation.keys.rotate([keyring] if keyring else [], progress=progress)
    if session.out.json:
        session.out.document({"rotations": reports})
    else:
        show_rotated(session.out, reports)


def add(
    ctx: typer.Context,
    *,
    slot_type: Annotated[
        str,
        typer.Option(
            "--type", metavar="TYPE", help="host-file, systemd-creds, tpm2, azure-key-vault, dpapi or passphrase."
        ),
    ],
    keyring: Keyring = None,
    label: Label = None,
    own: Annotated[
        bool, typer.Option("--own", help="Type a passphrase of your own instead of having one generated.")
    ] = False,
) -> None:
    """Add a slot. It is active when a fresh process has opened the keyring through it.

    A passphrase is generated and shown this once, as the first line of output.
    """
    session = session_of(ctx)
    session.when_stopped = "stopped; the same command goes on"
    if own and slot_type != "passphrase":
        raise UsageError("--own is for passphrases", hint="identitymesh keys slots add --type passphrase --own")
    with session.installation() as installation:
        chosen = _own_passphrase() if own else None
        shown: list[str] = []

        def announce(passphrase: Secret) -> None:
            if session.out.json:
                shown.append(passphrase.reveal_text())
                session.out.document({"passphrase": shown[0]})
            else:
                session.out.raw(passphrase.reveal() + b"\n")
                session.out.line(
                    "This is the passphrase. It is shown this once; it opens nothing until the slot is active."
                )
            session.out.flush()

        added = installation.keys.add(slot_type, keyring or [], label, announce, own=chosen)
    if not session.out.json:
        show_added(session.out, added)
    elif not shown:
        session.out.document({"slots": added})


def remove(
    ctx: typer.Context,
    *,
    slot: Annotated[str, typer.Argument(metavar="SLOT", help="Id (eight characters are enough) or label.")],
    keyring: Keyring = None,
) -> None:
    """Remove a slot, and renew all keys that it could open.

    Refused for the last slot that opens without a person, for the last recovery slot, and for this host's own
    last one. Stopped or killed, the same command goes on.
    """
    session = session_of(ctx)
    session.when_stopped = "stopped; the same command goes on"
    if not session.out.json:
        session.out.warning(REMOVAL)
    with session.installation() as installation, session.out.progress() as progress:
        removed = installation.keys.remove(slot, keyring or [], progress=progress)
    if session.out.json:
        session.out.document(document(removed) | {"notice": REMOVAL})
    else:
        show_removed(session.out, removed)


def replace_recovery(ctx: typer.Context) -> None:
    """A new recovery key for both keyrings, in one step; the old one opens nothing any more.

    The first line of output is the new key, shown this once. It is in force when the command says so.
    """
    session = session_of(ctx)
    session.when_stopped = "stopped; the same command goes on"
    out = session.out
    shown: list[str] = []

    def announce(new: NewRecovery) -> None:
        shown.append(new.fingerprint)
        if out.json:
            out.document({"recovery_key": new.recovery_key.reveal_text(), "fingerprint": new.fingerprint})
        else:
            out.raw(new.recovery_key.reveal() + b"\n")
            out.line("This will be the recovery key, once this command says so. It is not shown again.")
            out.line(f"Its fingerprint, for the same sheet: {new.fingerprint}")
        out.flush()

    with session.installation() as installation, out.progress() as progress:
        reports = installation.keys.replace_recovery(announce, progress=progress)
    if not out.json:
        show_rotated(out, reports)
        out.line("The new recovery key is in force." if shown else "The recovery key had been replaced before.")
    elif not shown:
        out.document({"rotations": reports})


def credential(
    ctx: typer.Context,
    *,
    slot: Annotated[str, typer.Argument(metavar="SLOT", help="Id of a slot of type systemd-creds.")],
) -> None:
    """Print what is kept for a slot, for a file in /etc/credstore.encrypted. It is encrypted."""
    session = session_of(ctx)
    with session.installation() as installation:
        kept = installation.keys.credential(slot)
    if session.out.json:
        session.out.document({"credential": kept})
    else:
        session.out.raw(kept)


def _prompt(through: str) -> str:
    return "Recovery key: " if through == "recovery" else "Passphrase: "


def _own_passphrase() -> Secret:
    first = read_hidden("Passphrase: ")
    if sys.stdin.isatty() and first != ask_hidden("Once more: "):
        raise UsageError("the two passphrases differ", hint="Nothing was changed. Run the command again.")
    return first
