"""What is wrong with a definition is said with its line, all at once, and without quoting a value."""

from __future__ import annotations

import json
import time

import pytest

from identitymesh.connectors.catalogue import kinds
from identitymesh.definition.positions import parse
from identitymesh.definition.reading import Definition, read, schema
from identitymesh.errors import DefinitionRefused, Problem

GOOD = """\
version: 1
connectors:
  hr:
    type: sql
    url: postgresql+psycopg://hr_reader@db.example.org/hr
    password: secret://hr/reader
    objects: {user: {table: employees, key: employee_id, watermark: updated_at}}
    full_schedule: "0 2 * * *"
  crm:
    type: scim
    url: https://crm.example.org/scim/v2
    token: "{{secret:crm/scim-token}}"
    objects: {user: {resource: User}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {name: employeeId, type: string}
      - {name: mail, type: string}
      - {name: phone, type: string, many: true}
rules:
  join:
    - {name: hr-by-id, connector: hr, object: user, source: employee_id, target: employeeId, create: true}
  flow:
    - {name: hr-id, connector: hr, object: user, target: employeeId, value: "[employee_id]", confidence: 100}
    - {name: hr-mail, connector: hr, object: user, target: mail, value: "ToLower([mail])", confidence: 60}
  project:
    - name: people-in-crm
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {active: "False"}
      attributes: {userName: "[mail]", externalId: "[employeeId]"}
limits:
  default: {delete: {count: 5}}
  crm: {delete: {percent: 1}, update: {count: 7}}
"""


def good(text: str = GOOD) -> Definition:
    return read(text, source="mesh.yaml", kinds=kinds())


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(DefinitionRefused) as raised:
        good(text)
    return raised.value.problems


def edited(old: str, new: str) -> tuple[Problem, ...]:
    assert old in GOOD
    return problems(GOOD.replace(old, new, 1))


def test_a_good_definition() -> None:
    definition = good()

    assert {name: ref.text for name, ref in definition.connectors["hr"].secrets.items()} == {
        "password": "secret://hr/reader"
    }
    assert definition.connectors["crm"].secrets["token"].text == "secret://crm/scim-token"
    assert definition.connectors["crm"].endpoints == ("crm.example.org:443",)
    assert definition.warnings == ()


@pytest.mark.parametrize(
    ("field", "line", "where", "canary"),
    [
        ("secret://hr/reader", 6, "connectors.hr.password", "hunter2-Hunter2"),
        ('"{{secret:crm/scim-token}}"', 12, "connectors.crm.token", "eyJhbGciOi"),
    ],
)
def test_plaintext_where_a_secret_belongs(field: str, line: int, where: str, canary: str) -> None:
    with pytest.raises(DefinitionRefused) as raised:
        good(GOOD.replace(field, canary, 1))

    (problem,) = raised.value.problems
    assert (problem.line, problem.field) == (line, where)
    assert "plaintext where a secret reference belongs" in problem.message
    assert "identitymesh secrets set" in raised.value.hint
    assert canary.strip('"') not in repr(raised.value.problems) + str(raised.value) + repr(raised.value.__context__)


@pytest.mark.parametrize(
    ("connector", "why"),
    [
        ("{type: csv, objects: {user: {path: people.csv, key: id}}}", "a file is a source only"),
        ("{type: sql, url: 'sqlite:///a.db', objects: {user: {query: select 1, key: id}}}", "it is read with a query"),
    ],
)
def test_a_rule_cannot_project_to_what_cannot_be_written(connector: str, why: str) -> None:
    text = GOOD.replace("  crm:\n", f"  other: {connector}\n  crm:\n", 1)
    found = problems(text.replace("connector: crm", "connector: other", 1))
    (problem,) = [one for one in found if one.field.startswith("rules")]
    assert problem.field == "rules.project[0].connector"
    assert f"nothing can be written to user of other: {why}" in problem.message


def test_a_password_in_a_url() -> None:
    (problem,) = edited("hr_reader@db", "hr_reader:hunter2@db")

    assert (problem.line, problem.field) == (5, "connectors.hr.url")
    assert "a password in a URL is refused" in problem.message
    assert "hunter2" not in problem.message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: sql", "type: oracle", "unknown connector type; there are: "),
        ("    password:", "    pasword:", "unknown field"),
        ("version: 1", "version: 2", "Input should be 1"),
        ("anchor: employeeId", "anchor: employeId", "no such attribute; did you mean employeeId?"),
        ("target: mail,", "target: mial,", "the mesh has no such attribute; did you mean mail?"),
        ("connector: crm", "connector: crn", "no such connector; did you mean crm?"),
        ("      correlate: externalId\n", "", "create: true needs correlate"),
        ("correlate: externalId", "correlate: employeeNumber", "correlate must be one of the attributes"),
        ('      disable: {active: "False"}\n', "", "disable is chosen, so `disable` must say"),
        ("confidence: 60", "confidence: 101", "less than or equal to 100"),
        ("name: hr-mail", "name: hr-id", "another rule of this stage has this name"),
        ("ToLower([mail])", "ToLowr([mail])", "unknown function ToLowr; did you mean ToLower?"),
        ("      on_leave: disable", "      when: '\"yes\"'\n      on_leave: disable", "condition"),
        ('userName: "[mail]"', 'userName: "[mial]"', "did you mean"),
        ("  crm: {delete", "  crn: {delete", "no projection writes to a connector of this name; did you mean crm?"),
        ("many: true", "many: perhaps", "boolean"),
        ("  crm:\n    type", "  hr:\n    type", "this key stands here twice"),
        ("  crm:\n", "  crm:\n    renamed_from: hr\n", "the connector hr still exists: leave this line out"),
        ("key: employee_id,", "key: &k employee_id,", "anchors and aliases are not allowed"),
        ("anchor: employeeId", "anchor: !!python/name:os.system", "tags are not allowed"),
    ],
)
def test_each_mistake_has_its_words_and_its_line(old: str, new: str, message: str) -> None:
    found = edited(old, new)

    assert any(message in problem.message for problem in found), found
    changed = GOOD[: GOOD.index(old)].count("\n") + 1
    assert any(problem.line is not None and abs(problem.line - changed) <= 8 for problem in found)


def test_a_connector_has_one_new_name() -> None:
    text = GOOD.replace("  hr:\n", "  hr:\n    renamed_from: old\n").replace(
        "  crm:\n", "  crm:\n    renamed_from: old\n"
    )
    assert [one.message for one in problems(text)] == [
        "the connector old has another new name already: leave this line out"
    ]


def test_all_problems_are_told_at_once_in_order() -> None:
    found = problems(GOOD.replace("ToLower(", "ToLowr(").replace("connector: crm", "connector: crn"))

    assert [problem.line for problem in found] == sorted(problem.line or 0 for problem in found)
    assert len(found) >= 2


def test_an_expression_error_has_line_and_column_of_the_expression() -> None:
    (problem,) = edited("ToLower([mail])", "ToLower([mail]")

    assert (problem.line, problem.field) == (26, "rules.flow[1].value")
    assert "line 1, column" in problem.message


@pytest.mark.parametrize("text", ["", "[1, 2", "a: b: c", "\x00", "- 1", "just text", "{" * 200])
def test_what_is_no_definition_at_all(text: str) -> None:
    assert problems(text)


def test_limits_merge_key_by_key() -> None:
    limits = good().limits_of("crm")

    assert (limits.delete.count, limits.delete.percent) == (5, 1)
    assert (limits.update.count, limits.update.percent) == (7, 30)
    assert (limits.disable.count, limits.disable.percent) == (20, 2)


def test_a_reference_with_something_around_it() -> None:
    (problem,) = edited('"{{secret:crm/scim-token}}"', '"hunter2{{secret:crm/scim-token}}"')

    assert "must be the whole field" in problem.message
    assert "hunter2" not in problem.message


def test_dates_are_text_as_in_json() -> None:
    definition = good(GOOD.replace("source: employee_id", "source: 2026-11-22"))

    assert definition.shape.rules.join[0].source == "2026-11-22"


def test_the_schema_is_json_and_knows_every_kind() -> None:
    made = json.loads(json.dumps(schema(kinds())))

    assert {f"connector-{name}" for name in kinds()} <= made["$defs"].keys()
    assert made["$schema"].startswith("https://json-schema.org/draft/2020-12")


@pytest.mark.parametrize("text", ["[" * 3_000 + "]" * 3_000, "[" * 200_000, "- " * 3_000, '{"a": ' * 500])
def test_depth_is_refused_before_it_costs_anything(text: str) -> None:
    began = time.monotonic()
    document, problems = parse("frozen: " + text if text[0] == "[" else text)

    assert document is None
    assert [problem.message for problem in problems] == ["nested too deeply"]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", [r'frozen: ["\ud800"]', r'frozen: ["\0"]', r'"\udfff": 1', r'{"a\0": 1}'])
def test_characters_that_nothing_can_keep_are_refused(text: str) -> None:
    document, problems = parse(text)

    assert document is None
    assert "no text can have" in problems[0].message
