import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house_rules.repository import ROOT, modules

PROGRAM = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason="no such machine here")
def test_marked():
    pass

def test_at_run_time():
    pytest.skip("no such program here")

@pytest.mark.xfail(reason="known")
def test_known_to_fail():
    assert False
"""
WHOLE_MODULE = 'import pytest\npytest.skip("nothing here today", allow_module_level=True)\n'


def skips_without_reason(tree: ast.AST) -> list[int]:
    """The lines of `skip`, `skipif` and `xfail` that do not say why."""
    reasoned: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            keywords = {keyword.arg for keyword in node.keywords}
            if "reason" in keywords or (node.func.attr == "skip" and node.args):
                reasoned.add(id(node.func))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"skip", "skipif", "xfail"}
        and ast.unparse(node.value) in {"pytest", "pytest.mark", "mark"}
        and id(node) not in reasoned
    ]


def test_every_skip_says_why() -> None:
    assert [f"{path}:{line}" for path, tree in modules("tests") for line in skips_without_reason(tree)] == []


@pytest.mark.parametrize(
    "source",
    ["@pytest.mark.skip\ndef f(): ...", "pytest.skip()", "@pytest.mark.skipif(x)\ndef f(): ...", "pytest.mark.xfail()"],
)
def test_the_rule_finds_a_skip_without_reason(source: str) -> None:
    assert skips_without_reason(ast.parse(source)) == [1]


def run_pytest(folder: Path, *options: str, require_all: bool) -> subprocess.CompletedProcess[str]:
    """Pytest with this repository's hooks, on the tests in the folder."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "IDENTITYMESH", "TESTS_"))
    }
    environment |= {"PYTHONPATH": str(ROOT)} | ({"TESTS_REQUIRE_ALL": "1"} if require_all else {})
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("--numprocesses", "2")], ids=["one process", "workers"])
def test_where_everything_is_required_a_skip_fails_with_its_reason(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "test_some.py").write_text(PROGRAM)
    (tmp_path / "test_whole.py").write_text(WHOLE_MODULE)

    lenient = run_pytest(tmp_path, *options, require_all=False)
    assert lenient.returncode == pytest.ExitCode.OK, lenient.stdout
    assert "1 passed, 3 skipped, 1 xfailed" in lenient.stdout

    strict = run_pytest(tmp_path, *options, "--continue-on-collection-errors", require_all=True)
    assert strict.returncode != pytest.ExitCode.OK
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in strict.stdout  # a mark and a module fail before their test
    for reason in ("no such machine here", "no such program here", "nothing here today"):
        assert reason in strict.stdout


def test_no_tests_at_all_is_not_a_success(tmp_path: Path) -> None:
    for options in ((), ("--numprocesses", "2")):
        assert run_pytest(tmp_path, *options, require_all=True).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
