"""`identitymesh secrets` and `secretscli`: only `get` shows a value, and none is taken from where others see it."""

from __future__ import annotations

import pytest

from identitymesh.errors import ExitCode
from tests.cli.conftest import Shell

REF = "secret://hr/reader"


@pytest.mark.parametrize("program", ["identitymesh", "secretscli"])
@pytest.mark.parametrize(
    ("given", "options", "stored"),
    [
        (b"hunter2\n", [], b"hunter2"),
        (b"hunter2", [], b"hunter2"),
        (b"hunter2\r\n", [], b"hunter2"),
        (b"hunter2\n\n", [], b"hunter2\n"),
        (b"two\nlines\n", [], b"two\nlines"),
        (b"hunter2\n", ["--raw"], b"hunter2\n"),
        (b"\xff\x00\xfe", ["--raw"], b"\xff\x00\xfe"),
        (b" spaces stay \n", [], b" spaces stay "),
    ],
)
def test_standard_input_loses_one_newline_and_nothing_else(
    shell: Shell, program: str, given: bytes, options: list[str], stored: bytes
) -> None:
    call = ["secrets", "set", REF, *options] if program == "identitymesh" else ["set", REF, *options]
    answer = shell(*call, stdin=given) if program == "identitymesh" else shell.secretscli(*call, stdin=given)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{REF} is stored (version 4f2a)\n"
    assert shell.installation.secrets.stored == {REF: stored}


def test_what_is_said_of_a_secret_is_stored_with_it(shell: Shell) -> None:
    about = ["--keyring", "application", "--owner", "hr team", "--description", "reads HR", "--cadence-days", "90"]
    assert shell("secrets", "set", REF, *about, stdin=b"x").code == 0
    assert shell.installation.secrets.about == {
        "keyring": "application",
        "owner": "hr team",
        "description": "reads HR",
        "cadence_days": 90,
    }


@pytest.mark.parametrize(
    "extra",
    [
        ["hunter2"],
        ["-hunter2"],
        ["--hunter2"],
        ["--value=hunter2"],
        ["--value", "hunter2"],
        ["--", "hunter2"],
        ["a", "hunter2"],
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(
    shell: Shell, extra: list[str], form: list[str]
) -> None:
    answer = shell("secrets", "set", REF, *form, *extra, stdin=b"x")
    assert answer.code == ExitCode.USAGE
    assert "hunter2" not in answer.out + answer.err
    assert "standard input" in answer.err
    assert shell.installation.secrets.stored == {}
    assert shell.installation.opened == []


@pytest.mark.parametrize("call", ["secrets set hunter2", "secrets set hunter2 hunter2", "secrets get hunter2 --force"])
def test_a_value_in_the_place_of_the_reference_is_not_repeated(shell: Shell, call: str) -> None:
    for form in ([], ["--json"]):
        answer = shell(*call.split(), *form, stdin=b"x")
        assert answer.code in {ExitCode.SECRET, ExitCode.USAGE}
        assert "hunter2" not in answer.out + answer.err


def test_secretscli_takes_a_value_with_a_warning(shell: Shell) -> None:
    answer = shell.secretscli("set", REF, "hunter2")
    assert answer.code == 0
    assert "process list" in answer.err
    assert "history" in answer.err
    assert "hunter2" not in answer.out + answer.err
    assert shell.installation.secrets.stored == {REF: b"hunter2"}


def test_a_setting_forbids_the_value_on_the_command_line(shell: Shell) -> None:
    shell.installation.allow_value_argument = False
    answer = shell.secretscli("set", REF, "hunter2")
    assert answer.code == ExitCode.USAGE
    assert "hunter2" not in answer.out + answer.err
    assert "allow_value_argument" in answer.err
    assert shell.installation.secrets.stored == {}
    assert shell.secretscli("set", REF, stdin=b"from-input\n").code == 0


def test_secretscli_refuses_a_second_value_without_repeating_it(shell: Shell) -> None:
    for extra in (["one", "hunter2"], ["one", "--hunter2"]):
        answer = shell.secretscli("set", REF, *extra)
        assert answer.code == ExitCode.USAGE
        assert "hunter2" not in answer.out + answer.err
    assert shell.installation.secrets.stored == {}


class TestGet:
    def test_not_into_a_pipe(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = b"hunter2"
        for call in (["secrets", "get", REF], ["secrets", "get", REF, "--json"]):
            answer = shell(*call)
            assert answer.code == ExitCode.USAGE
            assert "hunter2" not in answer.out + answer.err
            assert "--force" in answer.err
        assert shell.installation.opened == []

    def test_into_a_pipe_with_force_byte_for_byte(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = b"hunter2"
        assert shell("secrets", "get", REF, "--force").out == "hunter2"
        assert shell.secretscli("get", REF, "--force").out == "hunter2"
        assert shell("secrets", "get", REF, "--force", "--json").document == {"reference": REF, "value": "hunter2"}

    def test_on_a_terminal_with_a_newline(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = "zwölf ¥\nlines".encode()
        assert shell("secrets", "get", REF, terminal=True).out == "zwölf ¥\nlines\n"

    @pytest.mark.parametrize("value", [b"\xff\xfe", b"a\x1b[2Jb", "a\u202eb".encode()])
    def test_what_a_terminal_would_not_show_as_it_is_needs_force(self, shell: Shell, value: bytes) -> None:
        shell.installation.secrets.stored[REF] = value
        answer = shell("secrets", "get", REF, terminal=True)
        assert (answer.code, answer.out) == (ExitCode.USAGE, "")
        assert "--force" in answer.err

    def test_bytes_in_json(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = b"\xff\xfe"
        assert shell("secrets", "get", REF, "--force", "--json").document["value_base64"] == "//4="

    def test_missing(self, shell: Shell) -> None:
        answer = shell("secrets", "get", REF, "--force")
        assert (answer.code, answer.out) == (ExitCode.SECRET, "")
        assert f"error: {REF} is not stored" in answer.err


def test_exists_answers_by_exit_code(shell: Shell) -> None:
    assert (shell("secrets", "exists", REF).code, shell.secretscli("exists", REF).code) == (1, 1)
    assert shell("secrets", "exists", REF, "--json").document == {"reference": REF, "exists": False}
    shell.installation.secrets.stored[REF] = b"x"
    assert (shell("secrets", "exists", REF).code, shell.secretscli("exists", REF).code) == (0, 0)
    assert shell("secrets", "exists", REF).out == ""
    assert shell("secrets", "exists", REF, terminal=True).out.strip().endswith("is stored")


def test_list_shows_everything_but_values(shell: Shell) -> None:
    empty = shell("secrets", "list")
    assert "no secrets yet; store one: identitymesh secrets set" in empty.out
    shell.installation.secrets.stored[REF] = b"hunter2"
    listed = shell("secrets", "list")
    for word in (REF, "connectors", "hr (db.example.org:5432)", "never"):
        assert word in listed.out
    document = shell("secrets", "list", "--json").document["secrets"]
    assert document[0]["ref"] == REF
    assert document[0]["created"] == "2026-03-01T08:30:00Z"
    assert "hunter2" not in listed.out + str(document)


def test_verify_says_what_does_not_open(shell: Shell) -> None:
    shell.installation.secrets.stored[REF] = b"x"
    good = shell("secrets", "verify")
    assert (good.code, good.out) == (0, "1 secret, 1 version opened, 0 problems\n")
    shell.installation.secrets.broken = "secret://crm/token"
    bad = shell("secrets", "verify")
    assert bad.code == ExitCode.SECRET
    assert "secret://crm/token: does not open" in bad.out
    assert shell("secrets", "verify", "--json").document["ok"] is False


class TestDelete:
    def test_without_a_terminal_it_deletes(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = b"x"
        assert shell("secrets", "delete", REF).out == f"{REF} is deleted\n"
        assert shell.installation.secrets.stored == {}

    @pytest.mark.parametrize(
        ("said", "code"), [(b"n\n", ExitCode.USAGE), (b"\n", ExitCode.USAGE), (b"y\n", ExitCode.DONE)]
    )
    def test_on_a_terminal_it_asks_and_names_who_uses_it(self, shell: Shell, said: bytes, code: ExitCode) -> None:
        shell.installation.secrets.stored[REF] = b"x"
        answer = shell("secrets", "delete", REF, stdin=said, terminal=True)
        assert answer.code == code
        assert "The connector hr would stop working." in answer.out + answer.err
        assert (REF in shell.installation.secrets.stored) is (code != ExitCode.DONE)

    def test_yes_is_no_question(self, shell: Shell) -> None:
        shell.installation.secrets.stored[REF] = b"x"
        assert shell("secrets", "delete", REF, "--yes", terminal=True).code == 0
