"""`apply`, `plan --definition`, `definition show`, `schema`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from identitymesh.errors import DefinitionRefused, ExitCode, Problem
from identitymesh.runs.reports import ApplyReport, AudienceChange
from tests.cli.conftest import Shell

TEXT = "version: 1\nconnectors: {}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mesh.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return "mesh.yaml"


def applied(shell: Shell) -> Any:
    (name, arguments), *_ = shell.installation.engine.calls
    assert name == "apply"
    return arguments


def test_apply_hands_on_what_was_asked(shell: Shell, file: str) -> None:
    answer = shell(
        "apply",
        file,
        "--replace",
        "--base",
        "4",
        "--release",
        "--allow-audience",
        "secret://a",
        "--allow-audience",
        "secret://b",
    )
    assert (answer.code, answer.err) == (0, "")
    assert applied(shell) == {
        "text": TEXT,
        "source": str(Path("mesh.yaml").resolve()),
        "base": 4,
        "replace": True,
        "release": True,
        "allow_audience": ["secret://a", "secret://b"],
    }


def test_apply_without_options(shell: Shell, file: str) -> None:
    answer = shell("apply", file)
    assert applied(shell) | {"text": ""} == {
        "text": "",
        "source": str(Path("mesh.yaml").resolve()),
        "base": None,
        "replace": False,
        "release": False,
        "allow_audience": [],
    }
    assert "definition 1 is in force (mesh.yaml)" in answer.out
    assert "identitymesh plan" in answer.out


def test_a_file_is_the_same_however_it_is_called(shell: Shell, file: str) -> None:
    Path("folder").mkdir()
    for name in (file, f"./{file}", f"folder/../{file}", str(Path(file).resolve())):
        assert f"is in force ({Path(name)})" in shell("apply", name).out
    sources = {arguments["source"] for _, arguments in shell.installation.engine.calls if isinstance(arguments, dict)}
    assert sources == {str(Path(file).resolve())}


def test_what_show_printed_can_be_applied_and_says_which_version_it_was(shell: Shell, file: str) -> None:
    shell.installation.engine.in_force = (3, TEXT)
    shown = shell("definition", "show").out
    assert shown == f"# identitymesh definition, version 3\n{TEXT}"
    Path(file).write_text(shown)
    shell("apply", file)
    assert applied(shell)["text"] == TEXT
    assert applied(shell)["base"] == 3


def test_a_base_on_the_command_line_wins_over_the_file(shell: Shell, file: str) -> None:
    Path(file).write_text(f"# identitymesh definition, version 3\n{TEXT}")
    shell("apply", file, "--base", "5")
    assert applied(shell)["base"] == 5


def test_standard_input_is_a_file_too(shell: Shell) -> None:
    assert shell("apply", "-", stdin=b"\xef\xbb\xbf" + TEXT.encode()).code == 0
    assert applied(shell) | {"base": 0} == {
        "text": TEXT,
        "source": "<standard input>",
        "base": 0,
        "replace": False,
        "release": False,
        "allow_audience": [],
    }


def test_problems_are_shown_as_compilers_do_with_the_hint(shell: Shell, file: str) -> None:
    problems = [
        Problem("plaintext where a secret reference belongs", "connectors.hr.password", 12, 5),
        Problem("unknown field", "rules.join[0].colour", 20, 3),
        Problem("not YAML at all"),
    ]
    shell.installation.engine.failure = DefinitionRefused("mesh.yaml", problems, hint="Store the value.")
    answer = shell("apply", file)
    assert (answer.code, answer.out) == (ExitCode.REFUSED, "")
    assert answer.err == (
        "mesh.yaml:12:5: connectors.hr.password: plaintext where a secret reference belongs\n"
        "mesh.yaml:20:3: rules.join[0].colour: unknown field\n"
        "mesh.yaml: not YAML at all\n"
        "error: mesh.yaml: 3 problems; nothing was applied\n"
        "  Store the value.\n"
    )
    error = shell("apply", file, "--json").error
    assert error["code"] == "definition-refused"
    assert error["problems"][0] == {
        "message": "plaintext where a secret reference belongs",
        "field": "connectors.hr.password",
        "line": 12,
        "column": 5,
        "severity": "error",
    }


@pytest.mark.parametrize("command", ["apply", "plan --definition"])
def test_lines_are_those_of_the_file_although_its_first_one_was_taken_away(
    shell: Shell, file: str, command: str
) -> None:
    Path(file).write_text(f"# identitymesh definition, version 3\n{TEXT}")
    shell.installation.engine.failure = DefinitionRefused("mesh.yaml", [Problem("wrong", "connectors", 2, 1)])
    assert shell(*command.split(), file).err.startswith("mesh.yaml:3:1: connectors: wrong\n")


def test_what_apply_did_is_told(shell: Shell, file: str) -> None:
    shell.installation.engine.apply_report = ApplyReport(
        version=4,
        unchanged=False,
        changes=["+ connector crm (scim)"],
        waiting={"crm": "its rules changed"},
        audience=[AudienceChange("secret://crm/token", "crm", ["crm.example.org:443"], needs_permission=True)],
        missing_secrets=["secret://crm/token"],
        warnings=[Problem("nobody reads this attribute", "mesh.user.attributes[3]", 9, 7, "warning")],
    )
    answer = shell("apply", file)
    assert answer.out.splitlines() == [
        "definition 4 is in force (mesh.yaml)",
        "  + connector crm (scim)",
        "  secret://crm/token may now be sent to crm (crm.example.org:443), allowed with --allow-audience",
        "  the next plan for crm waits for approval: its rules changed",
        "  not stored yet: identitymesh secrets set secret://crm/token",
    ]
    assert answer.err == "warning: mesh.yaml:9:7: mesh.user.attributes[3]: nobody reads this attribute\n"


def test_the_same_file_again_is_no_change(shell: Shell, file: str) -> None:
    shell.installation.engine.apply_report = ApplyReport(2, True, (), {}, (), (), ())
    assert shell("apply", file).out == "no change: mesh.yaml is what version 2 says\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: no such file"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"x" * (16 * 1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_file_that_cannot_be_a_definition(shell: Shell, tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mesh.yaml"
    if content is not None:
        path.write_bytes(content)
    for call in (["apply"], ["plan", "--definition"]):
        answer = shell(*call, str(path))
        assert answer.code == ExitCode.USAGE
        assert message in answer.err


def test_no_definition_yet_says_what_to_do(shell: Shell) -> None:
    answer = shell("definition", "show")
    assert answer.code == ExitCode.USAGE
    assert "identitymesh apply mesh.yaml" in answer.err


def test_a_preview_stores_nothing_and_says_so(shell: Shell, file: str) -> None:
    engine = shell.installation.engine
    engine.report = replace(engine.report, run_id=0, definition_version=None)
    answer = shell("plan", "--definition", file, "--person", "100002")
    assert answer.code == 0
    assert [name for name, _ in shell.installation.engine.calls] == ["preview"]
    assert "a preview: nothing is stored" in answer.out
    assert "100002" in answer.out
    assert "100001" not in answer.out
    assert "runs show" not in answer.out


def test_the_schema_needs_no_installation(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from identitymesh.composition import main; main()", "schema"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"$schema": "https://json-schema.org/draft/2020-12/schema"' in done.stdout
    assert list(tmp_path.iterdir()) == []
