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
    from collections.abc import Sequence
    from typing import TextIO

    from identitymesh.cli.contract import Initialise, InstallationOpener
    from identitymesh.cli.custody import Custody

PROGRAM = "identitymesh"
SECRETS_PROGRAM = "secretscli"
BROKEN_PIPE = 141  # as every program whose reader went away


def run(
    *,
    open_installation: InstallationOpener,
    initialise: Initialise,
    custody: Custody | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Carry out ``identitymesh`` and answer its exit code. Nothing is opened before a command needs it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if (code := answer_at_once(arguments)) is not None:
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
