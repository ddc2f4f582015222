"""The page ``docs/reference/cli.md``: what ``--help`` says of every command of both programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer

from identitymesh.cli.application import parser
from identitymesh.cli.main import PROGRAM, SECRETS_PROGRAM
from identitymesh.cli.overview import overview

WIDTH: Final = 100
_HEAD: Final = """\
# Commands

<!-- Written by scripts/document-cli from what --help says. Change it there: src/identitymesh/cli/commands. -->

What each exit code means: [exit-codes.md](exit-codes.md). How a first synchronisation goes:
[first-sync.md](../howto/first-sync.md).

With `--json` a command prints one JSON document on standard output, names in snake_case and moments as RFC 3339. If it
fails, standard output is empty and standard error holds one document, `{"error": {"code", "message", "hint",
"retryable", "exit_code"}}`; a refused definition adds `source` and `problems`. Warnings are a list `warnings` in the
document on standard error, beside `error` or alone. A run that ended with problems or waits for approval is no failure:
its report is on standard output, and the exit code says which it is.

Colours and progress appear on a terminal alone; `NO_COLOR` switches colours off. Values from sources are printed with
control characters as numbers (`\\x1b`), so that no value can act on a terminal.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, f"## {PROGRAM}\n\n{_block(overview())}"]
    parts += [f"## {path}\n\n{_block(text)}" for path, text in _helps(PROGRAM) if path != PROGRAM]
    parts += [f"## {path}\n\n{_block(text)}" for path, text in _helps(SECRETS_PROGRAM)]
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines}\n```\n"


def _helps(program: str) -> Iterator[tuple[str, str]]:
    command = parser(program, [])
    ctx = _context(command, program, None)
    yield ctx.command_path, command.get_help(ctx)
    for name, child in sorted(command.commands.items()):
        yield from _walk(child, name, ctx)


def _walk(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    ctx = _context(command, name, parent)
    yield ctx.command_path, command.get_help(ctx)
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, child_name, ctx)


def _context(command: Any, name: str, parent: Any) -> typer.Context:
    return typer.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
