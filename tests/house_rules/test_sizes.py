import ast
import re
from pathlib import Path

from tests.house_rules.repository import ROOT, modules, tracked_files

MODULE_LINES = 400
FUNCTION_LINES = 60

# What may be longer, and why: path, or path::function.
EXCEPTIONS: dict[str, str] = {
    "src/identitymesh/errors.py": "every exception of the product stands on one page",
    "src/identitymesh/storage/migrations/versions/0001_first.py::upgrade": "a schema is a list of tables",
}

VAGUE_NAMES = {"utils", "util", "utilities", "helpers", "helper", "common", "misc", "shared", "stuff"}

# Where packages come from is the business of the machine, never of this repository. Written in pieces, because this
# file is looked at too.
DOWNLOAD_ADDRESS = re.compile(
    "|".join(
        (
            r"pypi\." + r"(org|python)",
            r"python" + r"hosted\.org",
            r"registry\." + r"npmjs",
            r"deb\." + r"debian\.org",
            r"proxy\." + r"golang\.org",
            r"--(extra-)?index" + r"-url",
            r"(?m:^\s*\"?index" + r"-url\"?\s*=)",
            r"(?m:^\[\[?tool\.uv\." + r"index)",
        )
    )
)


def too_long_functions(path: str, tree: ast.Module) -> list[str]:
    return [
        f"{path}::{node.name} has {lines} lines (at most {FUNCTION_LINES})"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
        and f"{path}::{node.name}" not in EXCEPTIONS
    ]


def test_modules_are_short_enough_to_be_read_in_one_go() -> None:
    lines = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in (ROOT / "src").rglob("*.py")}
    assert lines
    too_long = [f"{path} has {n} lines (at most {MODULE_LINES})" for path, n in lines.items() if n > MODULE_LINES]
    assert [line for line in too_long if line.split()[0] not in EXCEPTIONS] == []


def test_functions_do_one_thing() -> None:
    assert [line for path, tree in modules("src") for line in too_long_functions(path, tree)] == []


def test_the_rule_for_functions_finds_a_long_one() -> None:
    tree = ast.parse("def long():\n" + "    x = 1\n" * FUNCTION_LINES)
    assert too_long_functions("a.py", tree) == [f"a.py::long has {FUNCTION_LINES + 1} lines (at most {FUNCTION_LINES})"]


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    for place, reason in EXCEPTIONS.items():
        path, _, function = place.partition("::")
        assert (ROOT / path).is_file(), place
        assert len(reason) > len("because"), place
        if not function:
            assert (ROOT / path).read_text().count("\n") > MODULE_LINES, f"{place} is short enough now"


def test_names_say_what_is_in_a_module() -> None:
    files = [path.relative_to(ROOT) for path in tracked_files() if path.suffix == ".py"]
    vague = [
        path for path in files if VAGUE_NAMES & {*(part.lower().strip("_") for part in path.with_suffix("").parts)}
    ]
    assert vague == []


def test_no_file_says_where_packages_are_downloaded() -> None:
    assert DOWNLOAD_ADDRESS.search("# pip-compile --index" + "-url https://mirror.example/simple")
    found: list[tuple[Path, str]] = []
    for path in tracked_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [(path.relative_to(ROOT), match.group()) for match in DOWNLOAD_ADDRESS.finditer(text)]
    assert found == []
