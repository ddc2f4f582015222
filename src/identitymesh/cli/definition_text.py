"""A definition file on its way in and out: which version it was made from stands in its first line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from identitymesh.errors import DefinitionRefused, Problem, UsageError

MOST_BYTES: Final = 16 * 1024 * 1024
_MARK: Final = "# identitymesh definition, version {}\n"
_MARKED: Final = re.compile(r"# identitymesh definition, version ([0-9]{1,18})\r?\n")


@dataclass(frozen=True, slots=True)
class DefinitionText:
    """A file as it was given.

    ``name`` is how it was called, for messages; ``source`` is the same however it was called, so that a file is known
    again. ``base`` is the version it says it was made from, and ``text`` is without that line.
    """

    name: str
    source: str
    text: str
    base: int | None

    @contextmanager
    def positions(self) -> Iterator[None]:
        """Errors call the file as the person did, and count its lines as it has them."""
        try:
            yield
        except DefinitionRefused as error:
            raise DefinitionRefused(self.name, [self.placed(one) for one in error.problems], hint=error.hint) from None

    def placed(self, problem: Problem) -> Problem:
        if self.base is None or problem.line is None:
            return problem
        return replace(problem, line=problem.line + 1)


def read_definition(path: Path) -> DefinitionText:
    """Read a file, or standard input for ``-``.

    Raises:
        UsageError: it cannot be read, or is not text.
    """
    try:
        content = _read(path)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UsageError(
            f"{path} cannot be read: {reason}", hint="Name the definition file, such as mesh.yaml."
        ) from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES:,} bytes; that is no definition")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start:,})") from None
    name, source = ("<standard input>",) * 2 if _is_standard_input(path) else (str(path), str(path.resolve()))
    marked = _MARKED.match(text)
    if marked is None:
        return DefinitionText(name, source, text, None)
    return DefinitionText(name, source, text[marked.end() :], int(marked.group(1)))


def _is_standard_input(path: Path) -> bool:
    return str(path) == "-"


def _read(path: Path) -> bytes:
    if _is_standard_input(path):
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def mark(version: int, text: str) -> str:
    """The text with the line that says which version it is; `apply` compares it and takes it away again."""
    return _MARK.format(version) + text
