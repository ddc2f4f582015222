"""Where the value of a secret comes from: a person who is asked twice, or standard input."""

from __future__ import annotations

import sys
import warnings
from getpass import GetPassWarning, getpass
from typing import Final

from identitymesh.errors import SecretRefused, UsageError
from identitymesh.redaction import Secret

MOST_BYTES: Final = 1024 * 1024  # the store's own limit is far lower, and says so; this only ends the reading


def read_value(reference: str, *, raw: bool) -> Secret:
    """Ask on a terminal, twice and without echo; else read standard input.

    Raises:
        UsageError: two different answers, or a terminal that cannot hide them.
    """
    if sys.stdin is not None and not sys.stdin.isatty():
        return _from_standard_input(raw=raw)
    if raw:
        raise UsageError("--raw is for standard input", hint=f"identitymesh secrets set {reference} --raw < FILE")
    first = ask_hidden(f"Value of {reference}: ")
    if not first:
        raise SecretRefused(f"{reference}: the value is empty", hint="Nothing was stored.")
    if first != ask_hidden("Once more: "):
        raise UsageError("the two values differ", hint="Nothing was stored. Run the command again.")
    return first


def _from_standard_input(*, raw: bool) -> Secret:
    value = sys.stdin.buffer.read(MOST_BYTES)
    if raw:
        return Secret(value)
    return Secret(value.removesuffix(b"\r\n") if value.endswith(b"\r\n") else value.removesuffix(b"\n"))


def read_hidden(prompt: str) -> Secret:
    """What a person types without echo, or what stands on standard input, without the newline at its end."""
    if sys.stdin is not None and not sys.stdin.isatty():
        return _from_standard_input(raw=False)
    return ask_hidden(prompt)


def ask_hidden(prompt: str) -> Secret:
    """One answer from a terminal that does not show it.

    Raises:
        UsageError: the terminal cannot hide it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)
        try:
            answer = getpass(prompt)
        except GetPassWarning:
            raise UsageError(
                "this terminal would show the value", hint="Give it on standard input, from a program that hides it."
            ) from None
        except EOFError:
            raise UsageError("no value was given", hint="Nothing was stored.") from None
    # Python hands bytes that are no text through as halves of surrogate pairs.
    return Secret(answer.encode("utf-8", "surrogateescape"))
