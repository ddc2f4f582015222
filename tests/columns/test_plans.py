"""Plan files: what is refused, at which line, and never with a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from identitymesh.columns.plan import read_plan, schema
from identitymesh.errors import ColumnPlanRefused
from tests.columns.test_patch_manager import EXAMPLE

GOOD = """version: 1
database: postgresql+psycopg://app@localhost/app
key: /etc/app/app.key
places:
  - column: users.totp_secret
"""


def refused(tmp_path: Path, text: str, *, mode: int = 0o644) -> ColumnPlanRefused:
    path = tmp_path / "plan.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    with pytest.raises(ColumnPlanRefused) as raised:
        read_plan(path)
    return raised.value


@pytest.mark.parametrize(
    ("change", "line", "field", "message"),
    [
        (("version: 1", "version: 2"), 1, "version", "1"),
        (("key: ", "keys: "), 3, "keys", "unknown field"),
        (("key: /etc/app/app.key\n", ""), 1, "key", "missing"),
        (("/etc/app/app.key", "app.key"), 3, "key", "whole path"),
        (("postgresql+psycopg://app@localhost/app", "mysql://app@localhost/app"), 2, "database", "begins with"),
        (("localhost/app", "localhost/app?sslmode=disable"), 2, "database", "'sslmode' is not possible"),
        (("localhost/app", "localhost:port/app"), 2, "database", "not a URL"),
        (("users.totp_secret", "totp_secret"), 5, "places[0].column", "not spelt as table.column"),
        (("users.totp_secret", 'users.x"y'), 5, "places[0].column", "not spelt as table.column"),
        (("- column: users.totp_secret", "- row: smtp_password"), 5, "places[0].table", "missing"),
        (("- column: users.totp_secret", "- column: users.totp_secret\n    nonse: x"), 6, "places[0].nonse", "unknown"),
        (
            ("- column: users.totp_secret", "- column: u.a\n  - column: u.a_nonce"),
            5,
            "places",
            "two places use u.a_nonce",
        ),
        (("  - column: users.totp_secret", "  []"), 5, "places", "at least 1"),
        (("key: /etc", "format: plain\nkey: /etc"), 3, "format", "'compatible' or 'sealed'"),
        (("key: /etc", "triggers: drop\nkey: /etc"), 3, "triggers", "'bypass' or 'fire'"),
        (("key: /etc", "key: /etc/x\nkey: /etc"), 4, "key", "twice"),
        (("users.totp_secret", "&a users.totp_secret"), 5, "", "anchors"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, change: tuple[str, str], line: int, field: str, message: str
) -> None:
    error = refused(tmp_path, GOOD.replace(*change))
    found = [(problem.line, problem.field, problem.message) for problem in error.problems]
    assert any((at, where) == (line, field) and message in what for at, where, what in found), found


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("version: 1", "version: 9").replace("/etc/", "").replace("users.", ""))
    assert len(error.problems) == 3
    assert [problem.line for problem in error.problems] == sorted(problem.line or 0 for problem in error.problems)


@pytest.mark.parametrize("text", ["", "places: [", "\udcff", "- 1", "\0"])
def test_what_is_no_plan_at_all(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).problems
    with pytest.raises(ColumnPlanRefused, match="1 problem"):
        read_plan(tmp_path / "none.yaml")


SECRET = GOOD.replace("app@", "app:hunter2@")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_password_is_not_taken_from_a_plan_that_others_read(tmp_path: Path, mode: int) -> None:
    error = refused(tmp_path, SECRET, mode=mode)
    assert [(one.line, one.field) for one in error.problems] == [(2, "database")]
    assert "others can read" in error.problems[0].message
    assert "password_file" in error.hint
    assert "hunter2" not in f"{error.problems} {error.hint} {error.message}"


def test_a_password_in_a_plan_of_ones_own_is_a_secret_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(SECRET)
    path.chmod(0o600)
    address = read_plan(path).address
    assert "hunter2" not in repr(address)
    assert "hunter2" not in address.describe()
    both = refused(tmp_path, SECRET.replace("key:", "password_file: /etc/app/password\nkey:"), mode=0o600)
    assert "names another" in both.problems[0].message


def test_no_value_is_repeated(tmp_path: Path) -> None:
    for wrong in ("database: hunter2", "database: postgresql://a:hunter2@h:x/d", "database: mysql://a:hunter2@h/d"):
        error = refused(tmp_path, GOOD.replace("database: postgresql+psycopg://app@localhost/app", wrong))
        assert "hunter2" not in f"{error.problems} {error.hint} {error.message}"


def test_names_of_the_new_columns_may_be_chosen_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD + "    encrypted: sealed_seed\n    nonce: seed_nonce\n")
    (place,) = read_plan(path).resolved()
    assert place.columns == ("totp_secret", "sealed_seed", "seed_nonce")  # type: ignore[union-attr]
    error = refused(tmp_path, GOOD.replace("totp_secret", "x" * 60))
    assert "longer than 63" in error.problems[0].message


def _fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:  # noqa: PLR0911 - one for each kind of rule
    """The part of JSON Schema that the plan's schema uses."""
    if "$ref" in rule:
        return _fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if choices := rule.get("anyOf") or rule.get("oneOf"):
        return any(_fits(value, choice, root) for choice in choices)
    if "const" in rule:
        return bool(value == rule["const"])
    if "enum" in rule:
        return value in rule["enum"]
    if rule.get("type") == "object":
        return (
            isinstance(value, dict)
            and set(rule.get("required", ())) <= set(value) <= set(rule["properties"])
            and all(_fits(child, rule["properties"][name], root) for name, child in value.items())
        )
    if rule.get("type") == "array":
        return isinstance(value, list) and all(_fits(child, rule["items"], root) for child in value)
    return value is None if rule["type"] == "null" else isinstance(value, str)


def test_the_schema_takes_the_example_and_knows_every_field() -> None:
    import yaml

    data = yaml.safe_load((EXAMPLE / "plan.yaml").read_text())
    rules = schema()
    assert rules["$schema"].endswith("2020-12/schema")
    assert _fits(data, rules, rules)
    assert not _fits(data | {"extra": 1}, rules, rules)
    assert not _fits(data | {"format": "plain"}, rules, rules)
