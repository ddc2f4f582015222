"""What the reference page promises, and the expressions of a complete definition."""

import pytest

from identitymesh.errors import ExpressionError
from identitymesh.model.attributes import Value
from identitymesh.rules.expressions import check, compile_one


def evaluated(text: str, **values: Value) -> Value | None:
    return compile_one(check(text, names=None))(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[a] == "x"', False),
        ('[a] != "x"', False),
        ('"x" != [a]', False),
        ("[a] == [b]", False),
        ("[a] != [b]", False),
        ("[a] == null", True),
        ("null == [a]", True),
        ("[a] != null", False),
        ("null == null", True),
        ("[a] < 1", False),
        ("[a] >= [b]", False),
        ('not ([a] == "x")', True),
        ("not [a]", None),
        ("[a] and True", False),
        ("True and [a]", False),
        ("[a] or True", True),
        ("[a] or False", False),
        ("-[a]", None),
        ("[a]", None),
        ("null", None),
        ('Concat("x", [a])', None),
        ('Coalesce([a], "") != "x"', True),
        ("IIF([a], 1, 2)", 2),
        ("Trim(null)", None),
    ],
)
def test_absent(text: str, expected: Value | None) -> None:
    assert evaluated(text) is expected


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ('[a] == "X"', {"a": "x"}, False),
        ("[a] == 1", {"a": 1.0}, True),
        ("[a] == 1", {"a": True}, False),
        ("[a] == True", {"a": 1}, False),
        ("[a] == True", {"a": True}, True),
        ("[a] != False", {"a": True}, True),
        ("[a] == [b]", {"a": 1, "b": 1.0}, True),
        ("[a] == [b]", {"a": 1, "b": True}, False),
        ("[a] == [b]", {"a": "1", "b": 1}, False),
        ("[a] != [b]", {"a": "1", "b": 1}, True),
        ("[a] == [b]", {"a": ["x", "y"], "b": ["y", "x"]}, True),
        ("[a] == [b]", {"a": ["x", "x"], "b": ["x"]}, False),
        ('[a] == "x"', {"a": ["x", "y"]}, False),
        ('[a] != "x"', {"a": ["x", "y"]}, True),
        ('[a] == "x"', {"a": ["x"]}, True),
        ("[a] == null", {"a": ""}, False),
        ("[a] < [b]", {"a": 1, "b": 1.5}, True),
        ("[a] < [b]", {"a": "2026-01-09", "b": "2026-01-10"}, True),
        ("-[a] < 0", {"a": 2}, True),
    ],
)
def test_comparisons(text: str, values: dict[str, Value], expected: Value) -> None:
    assert evaluated(text, **values) is expected


def test_only_what_is_needed_is_evaluated() -> None:
    fails = "ToInteger([a])"
    assert evaluated(f"IIF(True, 1, {fails})", a="x") == 1
    assert evaluated(f"Coalesce([a], {fails})", a="x") == "x"
    assert evaluated(f'Switch([a], {fails}, "x", 1, {fails}, 2)', a="x") == 1
    assert evaluated(f"False and {fails} == 1", a="x") is False
    assert evaluated(f"True or {fails} == 1", a="x") is True


DEFINITION = [
    "[employee_id]",
    "Trim([first_name])",
    'Concat(Trim([first_name]), " ", Trim([last_name]))',
    '[status] == "active"',
    'Concat([forename], " ", [surname])',
    '"External"',
    'Coalesce([department], "") != "External"',
    '"disabled"',
    'Concat("uid=", EscapeDN([employeeId]), ",ou=people,dc=example,dc=org")',
    'List("inetOrgPerson")',
    "IsPresent([mail])",
    "False",
    '[status] != "terminated" and IsAbsent([end_date])',
    'ToLower(Concat([first_name], ".", [last_name], "@example.org"))',
]


@pytest.mark.parametrize("text", DEFINITION)
def test_expressions_of_a_definition_check_and_run(text: str) -> None:
    compile_one(check(text, names=None))({})


def test_a_definition_at_work() -> None:
    person: dict[str, Value] = {"first_name": " Ada", "last_name": "Lovelace ", "employeeId": "7,8", "status": "active"}
    assert evaluated(DEFINITION[2], **person) == "Ada Lovelace"
    assert evaluated(DEFINITION[3], **person) is True
    assert evaluated(DEFINITION[6], **person) is True
    assert evaluated(DEFINITION[8], **person) == "uid=7\\,8,ou=people,dc=example,dc=org"
    assert evaluated(DEFINITION[9], **person) == "inetOrgPerson"
    assert evaluated(DEFINITION[12], **person) is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("InitialPassword(20)", "InitialPassword must be the whole value of an attribute of on_create"),
        ('Concat(FirstFree([a], [#]), "x")', "FirstFree must be the whole value of a flow rule"),
        ("FirstFree([a], [b])", r"must count with \[#\]"),
        ("FirstFree([#], [#])", r"\[#\] counts in the last text of FirstFree alone"),
        ("[#]", r"\[#\] counts in the last text of FirstFree alone"),
        ("FirstFree([a])", "takes 2 or more arguments"),
    ],
)
def test_what_is_given_once_stands_alone(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        check(text, names=None, may_give="FirstFree")


def test_a_first_free_value_reads_its_attributes_and_no_counter() -> None:
    assert check("FirstFree([a], Concat([b], [#]))", names={"a", "b"}, may_give="FirstFree").attributes == {"a", "b"}
