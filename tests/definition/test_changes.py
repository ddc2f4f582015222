"""What a new definition changes, in words, and which targets wait because of it."""

from __future__ import annotations

import pytest

from identitymesh.definition.changes import Changes, compare

from .test_reading import GOOD, good


def changes(*edits: tuple[str, str]) -> Changes:
    text = GOOD
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return compare(good(), good(text))


def test_the_first_definition_is_no_change() -> None:
    found = compare(None, good())

    assert found.waiting == {}
    assert "+ connector hr (sql)" in found.lines


@pytest.mark.parametrize(
    ("edit", "line", "reason", "rules"),
    [
        (("ToLower([mail])", "ToUpper([mail])"), "~ flow rule hr-mail: value", "flow rules changed", True),
        (('[mail]", ext', '[phone]", ext'), "~ project rule people-in-crm: attributes", "its projection changed", True),
        (("table: employees", "table: staff"), "~ connector hr: objects", "connector hr changed", False),
        (("crm.example.org", "crm2.example.org"), "~ connector crm: url", "connector crm changed", False),
        ((", many: true}", "}"), "~ mesh user", "the mesh changed", True),
        (("source: employee_id", "source: number"), "~ join rule hr-by-id: source", "join rules changed", True),
    ],
)  # fmt: skip
def test_changes_that_make_the_target_wait(edit: tuple[str, str], line: str, reason: str, rules: bool) -> None:
    found = changes(edit)

    assert line in found.lines
    assert reason in found.waiting["crm"]
    assert found.rules is rules


@pytest.mark.parametrize(
    "edit",
    [
        ("    password: secret://hr/reader\n", "    password: secret://hr/reader\n    timeout: 5\n"),
        ("limits:", "frozen: ['1']\nlimits:"),
        ("{count: 7}", "{count: 8}"),
    ],
)
def test_changes_that_concern_no_value(edit: tuple[str, str]) -> None:
    assert changes(edit).waiting == {}


def test_a_renamed_connector_and_rule() -> None:
    text = GOOD.replace("  hr:\n    type", "  people:\n    renamed_from: hr\n    type").replace(
        "connector: hr", "connector: people"
    )

    found = compare(good(), good(text))

    assert "~ connector hr is now called people" in found.lines
    assert not any(line.startswith(("+", "-")) for line in found.lines)
