"""Which queries are accepted, and how they are wrapped.

The guard against writing is the database's (a read-only transaction, a file opened
read-only); this one refuses early, in words, what could end such a transaction.
"""

from __future__ import annotations

import re
from typing import Final

_BEGINNINGS: Final = frozenset({"select", "with"})
# Longest first: what is quoted or a comment must not be searched for semicolons. E'…' has backslash escapes.
_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<quoted>(?<![A-Za-z0-9_])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | (?<![A-Za-z0-9_])(?P<tag>\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$).*?(?P=tag))
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class StatementRefused(ValueError):
    """The query is not one SELECT; says why."""


def check_query(query: str) -> None:
    """Refuse what is not exactly one ``SELECT`` or ``WITH``.

    Raises:
        StatementRefused: with the reason.
    """
    first = ""
    ended = False
    for token in _TOKEN.finditer(query):
        kind = token.lastgroup
        if kind in {"space", "comment"}:
            continue
        if ended:
            raise StatementRefused("the query has more than one statement")
        if kind == "end":
            ended = True
        elif not first and token.group() != "(":
            first = token.group().lower()
    if first not in _BEGINNINGS:
        raise StatementRefused("the query is not a SELECT; this connector only reads")
    if "\0" in query:
        raise StatementRefused("the query has a NUL character")


def as_text(query: str) -> str:
    """The query without its closing semicolon, with colons that SQLAlchemy's ``text`` takes as they are.

    It may end in a comment: what follows it must begin on a new line.
    """
    kept = "".join(token.group() for token in _TOKEN.finditer(query) if token.lastgroup != "end")
    return kept.strip().replace(":", r"\:")
