"""Calls of the command line inside this process, with an installation that is an imitation."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from identitymesh.cli.main import run, run_secretscli
from tests.cli.custody_imitation import FakeCustody
from tests.cli.imitation import FakeInstallation


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class Terminal(io.TextIOWrapper):
    """Text with bytes below it, as the real streams have; a terminal if the test says so."""

    def __init__(self, content: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def content(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()


@dataclass
class Shell:
    """One installation and the calls that are made on it."""

    monkeypatch: pytest.MonkeyPatch
    installation: FakeInstallation = field(default_factory=FakeInstallation)

    def __call__(
        self, *arguments: str, stdin: bytes = b"", terminal: bool = False, program: Callable[..., int] = run
    ) -> Answer:
        out, err = Terminal(terminal=terminal), Terminal(terminal=terminal)
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", Terminal(stdin, terminal=terminal))
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            more = {"custody": FakeCustody(self.installation)} if program is run else {}
            code = program(
                open_installation=self.installation.open,
                initialise=self.installation.initialise,
                argv=list(arguments),
                **more,
            )
        return Answer(code, out.content(), err.content())

    def secretscli(self, *arguments: str, stdin: bytes = b"", terminal: bool = False) -> Answer:
        return self(*arguments, stdin=stdin, terminal=terminal, program=run_secretscli)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in ("NO_COLOR", "FORCE_COLOR", "IDENTITYMESH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Shell(monkeypatch)
