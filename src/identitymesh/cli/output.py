"""The one place that prints.

Text from outside is neutralised here, colour and progress appear on terminals alone,
and with ``--json`` standard output holds one JSON document, standard error another one
if the command fails.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from identitymesh.cli.documents import document, error_document
from identitymesh.cli.text import clean, clean_json, columns_of
from identitymesh.errors import DefinitionRefused, MeshError, Problem

if TYPE_CHECKING:
    from identitymesh.runs.reports import Progress

Style = Literal["", "bold", "dim", "red", "green", "yellow", "cyan"]
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Output:
    """Standard output and standard error of one call."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.json = as_json
        self._stdout = stdout if stdout is not None else sys.stdout
        self._stderr = stderr if stderr is not None else sys.stderr
        self._environment = environment
        self._warnings: list[str] = []

    # For people

    def line(self, text: str = "", *, style: Style = "") -> None:
        """One line on standard output; nothing with ``--json``. Never wrapped: commands in it can be copied."""
        if not self.json:
            self._write(self._stdout, text, style)

    def heading(self, text: str) -> None:
        """An empty line and a title."""
        self.line()
        self.line(text, style="bold")

    def block(self, text: str) -> None:
        """A text of several lines: exactly as it is into a pipe or file, neutralised on a terminal."""
        if not self.on_terminal:
            self._stdout.write(text)
        else:
            lines = text.splitlines()
            self._stdout.write("".join(clean(line.replace("\t", "    ")) + "\n" for line in lines))

    def warning(self, text: str) -> None:
        """One line on standard error; with ``--json`` part of the document there."""
        if self.json:
            self._warnings.append(text)
        else:
            self._write(self._stderr, f"warning: {text}", "yellow")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Rows under their titles. ``right``: the columns of numbers."""
        if self.json:
            return
        if not self.on_terminal:
            self._stdout.write(columns_of([columns, *([clean(cell) for cell in row] for row in rows)], right))
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(
            file=self._stdout,
            force_terminal=self._coloured(self._stdout),
            no_color=not self._coloured(self._stdout),
            markup=False,
            highlight=False,
            emoji=False,
        )
        table = Table(box=box.SIMPLE_HEAD, header_style="bold")
        for number, title in enumerate(columns):
            table.add_column(title, justify="right" if number in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        with console.capture() as captured:
            console.print(table)
        self._stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines() if line.strip()))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """What long work reports to; bars on a terminal, nothing elsewhere."""
        if self.json or not self._stderr.isatty() or self._environment.get("TERM") == "dumb":
            yield _silent
            return
        from identitymesh.cli.progress import bars

        with bars(self._stderr, coloured=self._coloured(self._stderr)) as reporting:
            yield reporting

    # For programs

    def document(self, value: Any) -> None:
        """The one JSON document of a successful command."""
        text = json.dumps(document(value), ensure_ascii=False, indent=2)
        self._stdout.write(clean_json(text) + "\n")

    def raw(self, value: bytes) -> None:
        """Bytes as they are. Only for a secret that somebody asked to see."""
        self._stdout.flush()
        binary = getattr(self._stdout, "buffer", None)
        if binary is None:
            self._stdout.write(value.decode())
        else:
            binary.write(value)

    # Errors

    def error(self, error: MeshError) -> None:
        """Why the command failed, and what to do; on standard error."""
        if self.json:
            self._aside(error_document(error))
            return
        if isinstance(error, DefinitionRefused):
            for problem in error.problems:
                self._write(self._stderr, problem_line(error.source, problem), "")
        first, *more = error.message.splitlines() or [type(error).__name__]
        self._write(self._stderr, f"error: {first}", "red")
        for line in [*more, *error.hint.splitlines()]:
            self._write(self._stderr, f"  {line}", "")

    def stopped(self, text: str, code: int) -> None:
        """One calm line after Ctrl-C."""
        if self.json:
            self._aside(
                {"error": {"code": "stopped", "message": text, "hint": "", "retryable": True, "exit_code": code}}
            )
        else:
            self._write(self._stderr, text, "")

    # Streams

    @property
    def on_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return self._stdout.isatty()

    def finish(self) -> None:
        """Nothing more comes."""
        if self._warnings:
            self._aside({})
        self.flush()

    def flush(self) -> None:
        """Everything that was printed is out."""
        self._stdout.flush()
        self._stderr.flush()

    def _aside(self, content: dict[str, Any]) -> None:
        """The one JSON document on standard error."""
        whole = content | ({"warnings": list(self._warnings)} if self._warnings else {})
        self._warnings.clear()
        self._stderr.write(clean_json(json.dumps(whole, ensure_ascii=False, indent=2)) + "\n")

    def _coloured(self, stream: TextIO) -> bool:
        environment = self._environment
        return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "") != "dumb"

    def _write(self, stream: TextIO, text: str, style: Style) -> None:
        safe = clean(text)
        if style and safe and self._coloured(stream):
            safe = f"\x1b[{_CODES[style]}m{safe}\x1b[0m"
        stream.write(safe + "\n")


def problem_line(source: str, problem: Problem) -> str:
    """``mesh.yaml:12:5: connectors.hr.password: what is wrong``, as compilers and editors write it."""
    position = "".join(f":{number}" for number in (problem.line, problem.column) if number is not None)
    parts = [f"{source}{position}", problem.field, problem.message]
    return ": ".join(part for part in parts if part)


def _silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Nobody watches."""
