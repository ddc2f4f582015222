"""Where the two programs enter the command line.

`identitymesh --help` is the first thing that anybody types, and completion scripts of
shells ask often. So this module and :mod:`identitymesh.cli.overview` import next to
nothing: Typer comes when a command is called, and then only that command's file.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing itself takes longer to import than everything here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from identitymesh.cli.contract import Initialise, InstallationOpener
    from identitymesh.cli.custody import Custody
    from identitymesh.secrets.properties import SecretProperties

PROGRAM = "identitymesh"
SECRETS_PROGRAM = "secretscli"
BROKEN_PIPE = 141  # as every program whose reader went away
INTERRUPTED = 130  # as every program that Ctrl-C ended


def run(
    *,
    open_installation: InstallationOpener,
    initialise: Initialise,
    custody: Custody | None = None,
    argv: Sequence[str] | None = None,
    list_secrets: Callable[[], Sequence[SecretProperties] | None] | None = None,
) -> int:
    """Carry out ``identitymesh`` and answer its exit code. Nothing is opened before a command needs it.

    ``list_secrets`` is a short way to the list of secrets, where there is one (``None``: not here, not now).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if (code := answer_at_once(arguments)) is not None:
        return code
    if list_secrets is not None and lists_secrets(arguments):
        from identitymesh.cli.secret_list import answer_with

        if (code := answer_with(list_secrets, as_json="--json" in arguments)) is not None:
            return code
    from identitymesh.cli.application import carry_out
    from identitymesh.cli.session import Openers

    return carry_out(PROGRAM, arguments, Openers(open_installation, initialise, custody))


def run_secretscli(
    *, open_installation: InstallationOpener, initialise: Initialise, argv: Sequence[str] | None = None
) -> int:
    """Carry out ``secretscli``: the secret commands alone, with the calls that older scripts make."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from identitymesh.cli.application import carry_out
    from identitymesh.cli.session import Openers

    return carry_out(SECRETS_PROGRAM, arguments, Openers(open_installation, initialise))


def completing(program: str) -> bool:
    """Whether a shell asks for completions: it calls the program without arguments, and says so in a variable."""
    return f"_{program.upper()}_COMPLETE" in os.environ


def lists_secrets(arguments: list[str]) -> bool:
    """Whether this is `secrets list` as it is mostly called; with other options it goes the ordinary way."""
    return not completing(PROGRAM) and [word for word in arguments if word != "--json"] == ["secrets", "list"]


def answer_at_once(arguments: list[str] | None = None) -> int | None:
    """Answer what needs nothing but this module: help of the whole, the version. ``None``: it was none of these."""
    if completing(PROGRAM):
        return None
    arguments = sys.argv[1:] if arguments is None else arguments
    from identitymesh.cli.overview import overview, version

    if not arguments:
        return _write(sys.stderr, overview(), 2)
    if arguments in (["--help"], ["-h"]):
        return _write(sys.stdout, overview(), 0)
    if arguments == ["--version"]:
        return _write(sys.stdout, version(), 0)
    return None


def _write(stream: TextIO, text: str, code: int) -> int:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return BROKEN_PIPE
    return code
