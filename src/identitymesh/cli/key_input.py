"""Where a private age key comes from: a person, standard input, or a file. Never the command line."""

from __future__ import annotations

import sys
from getpass import getpass
from pathlib import Path
from typing import Final

from identitymesh.errors import UsageError
from identitymesh.redaction import Secret

MOST_BYTES: Final = 64 * 1024
_PREFIX: Final = b"AGE-SECRET-KEY-1"


def read_key(what: str, file: Path | None = None) -> Secret:
    """One key: asked for without echo on a terminal, else from standard input; or from an identity file of age.

    Raises:
        UsageError: there is none in what was given; nothing of it is repeated.
    """
    if file is not None:
        try:
            with file.open("rb") as opened:
                content = Secret(opened.read(MOST_BYTES))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {(error.strerror or '').lower()}") from None
    elif sys.stdin is not None and sys.stdin.isatty():
        content = Secret(getpass(f"{what}: ").encode("utf-8", "surrogateescape"))
    else:
        content = Secret(sys.stdin.buffer.read(MOST_BYTES) if sys.stdin is not None else b"")
    found = _only_key(content)
    if found is None:
        raise UsageError(
            f"no {what} was given",
            hint="It is one line beginning with AGE-SECRET-KEY-1; give it on standard input, or when asked.",
        )
    return found


def _only_key(content: Secret) -> Secret | None:
    """The line that is a key; an identity file of age has comments around it."""
    lines = [line.strip() for line in content.reveal().splitlines()]
    keys = [line for line in lines if line.startswith(_PREFIX)]
    return Secret(keys[0]) if len(keys) == 1 else None
