"""The command line as a process: its start-up, terminals, pipes and signals."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.house_rules.repository import ROOT

REF = "secret://hr/reader"
SLOW = ("typer", "rich", "pydantic", "sqlalchemy", "cryptography", "dataclasses", "typing", "json")


def command(*arguments: str, fault: str = "none", program: str = "identitymesh") -> list[str]:
    return [sys.executable, "-m", "tests.cli.program", fault, program, *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IDENTITYMESH", "NO_COLOR"))}
    return (
        kept
        | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "TERM": "xterm-256color", "COLUMNS": "100"}
        | more
    )


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, argv: Sequence[str], **more: str) -> None:
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execve(argv[0], list(argv), environment(**more))  # noqa: S606 - the child of a terminal
        self._pid = pid
        self.text = ""

    def expect(self, words: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} did not come: {self.text!r}"
            if not self._read(0.1):
                break
        assert words in self.text, self.text

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        while self._read(30):
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return True
        try:
            found = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.text += found.decode(errors="replace")
        return bool(found)


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a call of the real program has loaded when it ends."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sorted(sys.modules))))\n"
        "from identitymesh.cli.main import run\n"
        "sys.exit(run(open_installation=None, initialise=None, argv=sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment()
    )
    return set(done.stderr.split())


class TestStart:
    @pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
    def test_the_overview_needs_next_to_nothing(self, arguments: list[str]) -> None:
        assert loaded_by(*arguments) & set(SLOW) == set()

    @pytest.mark.parametrize(
        "arguments", [["plan", "--help"], ["secrets", "set", "--help"], ["runs", "list", "--help"]]
    )
    def test_help_of_a_command_loads_no_engine(self, arguments: list[str]) -> None:
        loaded = loaded_by(*arguments)
        assert loaded & {"rich", "sqlalchemy", "cryptography", "pyrage", "httpx2", "lark", "yaml"} == set()
        others = {"plan", "secrets", "runs", "apply"} - {arguments[0]}
        assert {f"identitymesh.cli.commands.{name}" for name in others} & loaded == set()

    def test_no_settings_are_read_for_help_and_completion(self, tmp_path: Path) -> None:
        (tmp_path / "identitymesh.toml").write_text("not toml [")
        program = [sys.executable, "-c", "from identitymesh.composition import main; main()"]
        for arguments, more in (
            (["--help"], {}),
            (["plan", "--help"], {}),
            ([], {"_IDENTITYMESH_COMPLETE": "complete_bash", "COMP_WORDS": "identitymesh ru", "COMP_CWORD": "1"}),
        ):
            done = subprocess.run(
                [*program, *arguments],
                cwd=tmp_path,
                env=environment(IDENTITYMESH_NONSENSE="1", **more),
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert "run" in done.stdout

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_every_shell_gets_a_completion_script(self, shell: str) -> None:
        code = "from identitymesh.composition import main; import sys; sys.argv[0] = 'identitymesh'; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(_IDENTITYMESH_COMPLETE=f"source_{shell}"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "identitymesh" in done.stdout

    def test_completion_knows_commands_and_options(self) -> None:
        code = "from identitymesh.composition import main; import sys; sys.argv[0] = 'identitymesh'; main()"

        def complete(words: str) -> set[str]:
            variables = {"_IDENTITYMESH_COMPLETE": "complete_bash", "COMP_WORDS": words}
            count = str(len(words.split(" ")) - 1)
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment(COMP_CWORD=count, **variables),
                capture_output=True,
                text=True,
                check=True,
            )
            return set(done.stdout.split())

        assert complete("identitymesh ru") == {"run", "runs"}
        assert {"list", "show", "approve", "drop"} <= complete("identitymesh runs ")
        assert {"--definition", "--delta", "--json"} <= complete("identitymesh plan --")


class TestTerminal:
    def test_a_secret_is_asked_for_twice_and_never_shown(self) -> None:
        screen = Screen(command("secrets", "set", REF))
        screen.expect(f"Value of {REF}:")
        screen.type("hunter2\n")
        screen.expect("Once more:")
        screen.type("hunter2\n")
        screen.expect("is stored")
        screen.expect("STORED")
        shown = screen.text[: screen.text.index("STORED")]
        assert screen.end() == 0
        assert "hunter2" not in shown
        assert "b'hunter2'" in screen.text

    def test_two_different_answers_store_nothing(self) -> None:
        screen = Screen(command("secrets", "set", REF))
        screen.expect(f"Value of {REF}:")
        screen.type("hunter2\n")
        screen.expect("Once more:")
        screen.type("hunter3\n")
        assert screen.end() == 2
        assert "the two values differ" in screen.text
        assert "STORED" not in screen.text
        assert "hunter" not in screen.text

    def test_an_empty_answer_stores_nothing(self) -> None:
        screen = Screen(command("secrets", "set", REF))
        screen.expect(f"Value of {REF}:")
        screen.type("\n")
        assert screen.end() == 4
        assert "the value is empty" in screen.text

    def test_ctrl_c_at_the_question_is_one_line(self) -> None:
        screen = Screen(command("secrets", "set", REF))
        screen.expect(f"Value of {REF}:")
        screen.type("\x03")
        assert screen.end() == 130
        assert "stopped" in screen.text
        assert "Traceback" not in screen.text

    def test_colours_and_progress_are_for_terminals(self) -> None:
        screen = Screen(command("plan", fault="none"))
        assert screen.end() == 0
        assert "\x1b[32m" in screen.text
        assert "500/1000" in screen.text
        piped = subprocess.run(command("plan"), cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
        assert "\x1b" not in piped.stdout + piped.stderr
        assert "500/1000" not in piped.stdout + piped.stderr

    def test_no_color_is_obeyed(self) -> None:
        screen = Screen(command("runs", "list"), NO_COLOR="1")
        assert screen.end() == 0
        assert "1,000 create" in screen.text
        assert "\x1b[" not in screen.text


class TestPipes:
    def test_a_reader_that_goes_away_is_no_error(self) -> None:
        for call in (["runs", "list"], ["plan", "--json"], ["--help"], ["plan", "--help"]):
            reader, writer = os.pipe()
            os.close(reader)
            try:
                done = subprocess.run(
                    command(*call), cwd=ROOT, env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False
                )
            finally:
                os.close(writer)
            assert done.stderr == b""
            assert done.returncode == 141

    def test_letters_that_the_encoding_lacks_are_shown_as_numbers(self) -> None:
        done = subprocess.run(
            command("plan"),
            cwd=ROOT,
            env=environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
            capture_output=True,
            check=True,
        )
        assert b"\\u2026 and 980 more" in done.stdout

    def test_ctrl_c_in_a_run_is_one_calm_line(self) -> None:
        done = subprocess.run(
            command("plan", fault="hang"), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 130
        assert done.stderr == "stopped; what was done until here is kept, and the next run carries on\n"

    def test_a_crash_shows_no_message_that_could_hold_a_credential(self) -> None:
        for options in ([], ["--debug"], ["--json"]):
            done = subprocess.run(
                command(*options, "plan", fault="crash"),
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert "unforeseen RuntimeError" in done.stderr
            assert "hunter2" not in done.stdout + done.stderr
