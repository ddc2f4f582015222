"""What every call has in common: parsing, exit codes, JSON, errors."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from identitymesh import __version__
from identitymesh.cli import measuring
from identitymesh.cli.application import parser
from identitymesh.cli.overview import command_names, overview
from identitymesh.columns import service
from identitymesh.columns.keys import create_key
from identitymesh.columns.plan import read_plan
from identitymesh.errors import Busy, DatabaseLocked, ExitCode, KeyringMissing, MeshError, SettingsError, Unreachable
from tests.cli.conftest import Shell
from tests.cli.imitation import rows, run_report

REF = "secret://hr/reader"
# A call of each command that succeeds.
CALLS = {
    "apply": ["apply", "{file}"],
    "bench": ["bench", "--people", "100"],
    "backup create": ["backup", "create", "--to", "{new}"],
    "accounts unmatched": ["accounts", "unmatched"],
    "review list": ["review", "list"],
    "review show": ["review", "show", "3"],
    "review decide": ["review", "decide", "3", "--join", "100005"],
    "review undo": ["review", "undo", "3"],
    "backup verify": ["backup", "verify", "{file}"],
    "backup restore": ["backup", "restore", "{file}"],
    "columns init-key": ["columns", "init-key", "{new}"],
    "columns encrypt": ["columns", "encrypt", "--plan", "{plan}"],
    "columns status": ["columns", "status", "--plan", "{plan}"],
    "columns verify": ["columns", "verify", "--plan", "{plan}"],
    "columns decrypt": ["columns", "decrypt", "--plan", "{encrypted}"],
    "columns rotate-key": ["columns", "rotate-key", "--plan", "{encrypted}", "--new-key", "{new key}"],
    "columns upgrade": ["columns", "upgrade", "--plan", "{encrypted}"],
    "columns schema": ["columns", "schema"],
    "connectors list": ["connectors", "list"],
    "connectors show": ["connectors", "show", "hr"],
    "connectors log": ["connectors", "log", "hr"],
    "connectors test": ["connectors", "test", "hr"],
    "database status": ["database", "status"],
    "database upgrade": ["database", "upgrade"],
    "drill": ["drill"],
    "doctor": ["doctor"],
    "support-bundle": ["support-bundle", "--to", "{new}"],
    "resume": ["resume"],
    "definition show": ["definition", "show"],
    "explain": ["explain", "100001"],
    "init": ["init"],
    "plan": ["plan"],
    "run": ["run"],
    "runs list": ["runs", "list"],
    "runs show": ["runs", "show", "7"],
    "runs prune": ["runs", "prune"],
    "runs approve": ["runs", "approve", "7"],
    "runs drop": ["runs", "drop", "7"],
    "schedule list": ["schedule", "list"],
    "schedule pause": ["schedule", "pause"],
    "schedule resume": ["schedule", "resume", "hr"],
    "schedule run-now": ["schedule", "run-now", "hr"],
    "serve": ["serve"],
    "audit list": ["audit", "list"],
    "schema": ["schema"],
    "keys status": ["keys", "status"],
    "keys open-test": ["keys", "open-test"],
    "keys join": ["keys", "join", "--fingerprint", "abcd-efgh-jkmn-pqrs-tvwx"],
    "keys rotate": ["keys", "rotate"],
    "keys slots add": ["keys", "slots", "add", "--type", "passphrase"],
    "keys slots remove": ["keys", "slots", "remove", "old host"],
    "keys slots replace-recovery": ["keys", "slots", "replace-recovery"],
    "keys slots credential": ["keys", "slots", "credential", "5b0c5a5e"],
    "secrets set": ["secrets", "set", REF],
    "secrets get": ["secrets", "get", REF, "--force"],
    "secrets exists": ["secrets", "exists", REF],
    "secrets list": ["secrets", "list"],
    "secrets delete": ["secrets", "delete", REF],
    "secrets verify": ["secrets", "verify"],
    "secrets show": ["secrets", "show", REF],
    "secrets usage": ["secrets", "usage"],
    "secrets due": ["secrets", "due"],
    "secrets orphans": ["secrets", "orphans"],
    "secrets rotate": ["secrets", "rotate", REF],
    "secrets export": ["secrets", "export", "--to", "{new}", "--recipient", "age1x"],
    "secrets import": ["secrets", "import", "{file}", "--identity", "{key}"],
    "secrets retire": ["secrets", "retire"],
    "secrets follow": ["secrets", "follow", REF, "--pinned"],
    "secrets migrate": ["secrets", "migrate", "--from", "database", "--to", "openbao"],
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path)
    for name, child in (children or {}).items():
        yield from leaves(child, (*path, name))


def filled(call: list[str], folder: Path) -> list[str]:
    """The call with the files that it names."""
    (folder / "key").write_text("AGE-SECRET-KEY-1QQQ\n")
    files = {"{file}": "mesh.yaml", "{new}": "new.age", "{key}": "key"}
    files |= {"{plan}": "plan.yaml", "{encrypted}": "plan.yaml", "{new key}": "new.key"}
    if {"{plan}", "{encrypted}"} & set(call):
        make_application(folder, encrypted="{encrypted}" in call)
    return [str(folder / files[one]) if one in files else one for one in call]


def make_application(folder: Path, *, encrypted: bool) -> None:
    """Somebody else's database, a plan for it, and two keys."""
    for name in ("columns.key", "new.key"):
        create_key(folder / name)
    with closing(sqlite3.connect(folder / "app.db")) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'JBSWY3DPEHPK3PXP'), (2, NULL)")
    (folder / "plan.yaml").write_text(
        f"version: 1\ndatabase: sqlite:///{folder}/app.db\nkey: {folder}/columns.key\n"
        "places: [{column: users.totp_secret}]\n"
    )
    if encrypted:
        service.encrypt(read_plan(folder / "plan.yaml"))


@pytest.fixture
def ready(shell: Shell, tmp_path: Path) -> Shell:
    (tmp_path / "mesh.yaml").write_text("version: 1\n")
    shell.monkeypatch.setattr(measuring, "carry_out", lambda *_: {"seconds": 1.0, "resident": 90.0})
    shell.installation.secrets.stored[REF] = b"value"
    shell.installation.engine.in_force = (3, "version: 1\n")
    shell.installation.engine.history = [run_report()]
    return shell


def test_every_command_is_in_the_list_of_these_tests() -> None:
    assert sorted(leaves(parser("identitymesh", []))) == sorted(CALLS)


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_every_command_prints_one_json_document(ready: Shell, tmp_path: Path, call: list[str]) -> None:
    arguments = filled(call, tmp_path)
    answer = ready(*arguments, "--json", stdin=b"AGE-SECRET-KEY-1QQQ\n")
    assert (answer.code, answer.err) == (0, "")
    assert isinstance(answer.document, dict)


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_every_command_says_something_and_has_a_help(ready: Shell, tmp_path: Path, call: list[str]) -> None:
    arguments = filled(call, tmp_path)
    assert ready(*arguments, stdin=b"AGE-SECRET-KEY-1QQQ\n").code == ExitCode.DONE
    words = [word for word in call if word.isalpha()][
        : 2 if call[0] in {"columns", "runs", "secrets", "connectors", "definition"} else 1
    ]
    answer = ready(*words, "--help")
    assert answer.code == 0
    assert f"Usage: identitymesh {' '.join(words)}" in answer.out
    assert "--json" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_help_names_every_command_in_lines_that_fit(shell: Shell) -> None:
    answer = shell("--help")
    assert answer.code == 0
    assert answer.out == overview()
    for name in command_names():
        assert f"\n  {name} " in answer.out
    assert max(map(len, answer.out.splitlines())) <= 88
    assert shell("-h").out == answer.out
    assert shell("--home", ".", "--help").out == answer.out


def test_nothing_is_a_wrong_call_that_shows_the_help(shell: Shell) -> None:
    answer = shell()
    assert (answer.code, answer.out, answer.err) == (ExitCode.USAGE, "", overview())


def test_version(shell: Shell) -> None:
    assert shell("--version").out == f"identitymesh {__version__}\n"
    assert shell("--home", ".", "--version").out == f"identitymesh {__version__}\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["pln"], "no such command 'pln'. Did you mean 'plan'"),
        (["runs"], "identitymesh runs needs a command"),
        (["runs", "show"], "missing argument 'ID'"),
        (["runs", "show", "0"], "invalid value for 'ID'"),
        (["plan", "--nope"], "no such option: --nope"),
        (["plan", "extra"], "unexpected extra argument"),
        (["--home", "/nonexistent", "plan"], "does not exist"),
        (["plan", "--delta", "--definition", "x.yaml"], "--definition goes with --person and --rows alone"),
        (["review", "decide", "3"], "give one of --join ANCHOR, --create and --ignore"),
        (["review", "decide", "3", "--create", "--ignore"], "give one of --join ANCHOR"),
        (["run", "--plan", "3", "--delta"], "--plan goes with no other option"),
    ],
)
def test_a_wrong_call_is_one_line_and_a_hint_in_either_form(shell: Shell, call: list[str], message: str) -> None:
    answer = shell(*call)
    assert answer.code == ExitCode.USAGE
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message in answer.err
    as_json = shell(*call, "--json")
    assert as_json.code == ExitCode.USAGE
    assert as_json.out == ""
    assert message in as_json.error["message"]
    assert as_json.error["code"] == "usage"
    assert shell.installation.opened == []


def test_home_is_handed_on(shell: Shell, tmp_path: Path) -> None:
    shell("--home", str(tmp_path), "runs", "list")
    shell("runs", "list")
    assert shell.installation.opened == [tmp_path, None]


def test_a_folder_may_be_named_like_a_command(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shell("--home", "plan", "runs", "list").code == 0
    assert shell.installation.opened == [Path("plan")]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SettingsError("unknown setting x", hint="Did you mean y?"), ExitCode.REFUSED),
        (KeyringMissing("no keyring", hint="Run init."), ExitCode.SECRET),
        (Busy("run 7 is going on"), ExitCode.BUSY),
        (DatabaseLocked("locked"), ExitCode.BUSY),
        (Unreachable("no answer", connector="hr"), ExitCode.PROBLEMS),
    ],
)
def test_errors_become_one_line_a_hint_and_their_exit_code(shell: Shell, failure: MeshError, code: ExitCode) -> None:
    shell.installation.engine.failure = failure
    answer = shell("plan")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err == f"error: {failure.message}\n" + (f"  {failure.hint}\n" if failure.hint else "")
    as_json = shell("plan", "--json")
    assert as_json.error == {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "retryable": failure.retryable,
        "exit_code": code,
    }


def test_what_nobody_foresaw_is_no_traceback_and_repeats_no_value(shell: Shell) -> None:
    shell.installation.engine.failure = RuntimeError("connection to db failed: password=hunter2")
    for arguments in (["plan"], ["plan", "--json"], ["--debug", "plan"]):
        answer = shell(*arguments)
        assert answer.code == ExitCode.FAILED
        assert "unforeseen RuntimeError" in answer.err
        assert "hunter2" not in answer.out + answer.err
        assert "Traceback" not in answer.err
    assert "imitation.py" in shell("--debug", "plan").err
    assert "imitation.py" not in shell("plan").err


def test_findings_go_to_standard_error_and_into_its_json(shell: Shell) -> None:
    shell.installation.findings = ["secrets.provider differs. Set it."]
    answer = shell("runs", "list")
    assert answer.err == "warning: secrets.provider differs. Set it.\n"
    as_json = shell("runs", "list", "--json")
    assert as_json.document == {"runs": []}
    assert json.loads(as_json.err) == {"warnings": ["secrets.provider differs. Set it."]}
    shell.installation.engine.failure = Busy("run 7 is going on")
    both = json.loads(shell("runs", "list", "--json").err)
    assert both["error"]["code"] == "busy"
    assert both["warnings"] == ["secrets.provider differs. Set it."]


def test_nothing_from_a_source_acts_on_a_terminal(shell: Shell) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202eevil\nnext\x9b31m\x7f"
    row = rows(1)[0]
    shell.installation.engine.plan_rows = [replace(row, anchor=hostile, note=hostile)]
    for arguments in (["plan"], ["plan", "--json"], ["explain", hostile], ["explain", hostile, "--json"]):
        for terminal in (False, True):
            answer = shell(*arguments, terminal=terminal)
            printed = answer.out.replace("\x1b[", "") if terminal else answer.out  # colours are ours
            for character in ("\x07", "\u202e", "\x9b", "\x1b]", "\x1b[2J"):
                assert character not in printed + answer.err
            assert "evil" in answer.out
            if "--json" in arguments:
                assert hostile in (answer.document.get("anchor"), answer.document.get("rows", [{}])[0].get("anchor"))


def test_json_may_stand_anywhere(shell: Shell) -> None:
    for call in (["--json", "runs", "list"], ["runs", "--json", "list"], ["runs", "list", "--json"]):
        assert shell(*call).document == {"runs": []}
