import os
import subprocess
import sys
from collections import Counter

import pytest

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Value
from identitymesh.rules.expressions import catalogue, check, compile_one, compile_set
from identitymesh.rules.expressions.catalogue import families
from identitymesh.rules.expressions.documentation import page
from identitymesh.rules.expressions.function import TEXT_LIMIT, Example, Function
from tests.house_rules.repository import ROOT
from tests.rules.expressions.reference import CALENDAR

EXAMPLES = [(function.name, example) for function in catalogue().values() for example in function.examples]


def evaluated(text: str, values: dict[str, Value]) -> Value | None:
    return compile_one(check(text, names=None), CALENDAR)(values)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=str)
def test_examples(name: str, example: Example) -> None:
    names = set(example.values) | check(example.expression, names=None, may_give="FirstFree").attributes
    checked = check(example.expression, names=names, may_give="FirstFree")
    assert name in checked.functions
    expected = repr(example.expected)
    assert repr(compile_one(checked, CALENDAR)(example.values)) == expected
    assert repr(compile_set([(name, checked)], CALENDAR)(example.values)) == repr(([example.expected], []))


@pytest.mark.parametrize("function", catalogue().values(), ids=lambda function: function.name)
def test_records_are_sound(function: Function) -> None:
    assert function.examples or function.form == "password", "what is random has no example"
    assert function.summary.endswith(".")
    assert (function.call is None) == (function.form != "call")
    assert Counter(parameter.many for parameter in function.parameters)["each"] <= 1
    assert all(parameter.kinds for parameter in function.parameters)
    assert function.result or any(parameter.gives for parameter in function.parameters)


def test_names_differ_in_more_than_case() -> None:
    names = [function.name for family in families().values() for function in family]
    assert len({name.lower() for name in names}) == len(names) == len(catalogue())


def test_reference_page_is_up_to_date() -> None:
    written = (ROOT / "docs/reference/expressions.md").read_text(encoding="utf-8")
    assert written == page(), "run scripts/document-expressions"


def test_the_script_writes_the_page() -> None:
    before = (ROOT / "docs/reference/expressions.md").read_bytes()
    subprocess.run(
        [ROOT / "scripts/document-expressions"], check=True, cwd="/", env={**os.environ, "PYTHON": sys.executable}
    )
    assert (ROOT / "docs/reference/expressions.md").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("Trim([x])", {"x": 5}, "Trim takes text as text, integer found"),
        ("Trim([x])", {"x": ["a", 5]}, "Trim takes text as text, integer found"),
        ("Trim([x])", {"x": b"a"}, "Trim takes text as text, bytes found"),
        ("Left([x], [y])", {"x": "a", "y": -1}, "Left: numChars must not be negative"),
        ("Left([x], [y])", {"x": "a", "y": [1, 2]}, "Left takes one value as numChars, several found"),
        ("Left([x], [y])", {"x": "a", "y": True}, "Left takes integer as numChars, boolean found"),
        ('Concat([x], "a")', {"x": ["a", "b"]}, "Concat takes one value as part, several found"),
        ('Concat([x], "a")', {"x": 0.5}, "Concat takes text or integer as part, decimal found"),
        ("IIF([x], 1, 2)", {"x": "yes"}, "IIF needs True or False, text found"),
        ("[x] and True", {"x": [True, False]}, "and needs True or False, several values found"),
        ("not [x]", {"x": 1}, "not needs True or False, integer found"),
        ("[x] < 3", {"x": "2"}, "< compares two numbers or two texts, text and integer found"),
        ("[x] >= [y]", {"x": [1, 2], "y": 1}, ">= compares one value with one, several found"),
        ("[x] < [y]", {"x": True, "y": False}, "< compares two numbers or two texts, boolean and boolean found"),
        ("-[x]", {"x": "1"}, "- needs a number, text found"),
        ("-[x]", {"x": -(2**63)}, "- gives an integer of more than 64 bits"),
        ("ToInteger([x])", {"x": "1e3"}, "ToInteger: the text is no integer of at most 19 digits"),
        ("ToInteger([x])", {"x": "٣"}, "ToInteger: the text is no integer of at most 19 digits"),
        ("ToInteger([x])", {"x": 1.5}, "ToInteger: the number has a fraction"),
        ("ToInteger([x])", {"x": 1e19}, "ToInteger: the integer has more than 64 bits"),
        ("ToBoolean([x])", {"x": "ja"}, "ToBoolean: the value is none of true, yes, 1, false, no, 0"),
        ('FormatDate([x], "yyyy")', {"x": "22.11.2026"}, "FormatDate: the text is no RFC 3339 date"),
        ('FormatDate([x], "yyyy")', {"x": "2026-02-30"}, "FormatDate: there is no such date"),
        ('FormatDate([x], "yyyy")', {"x": "0001-01-01T00:00:00+05:00"}, "FormatDate: there is no such date"),
        ('FormatDate("2026-11-22", [x])', {"x": "q"}, "FormatDate: format has letters that mean nothing"),
        ('RegexReplace([x], [y], "")', {"x": "a", "y": "("}, "RegexReplace: pattern is no regular expression"),
        ('RegexReplace([x], "a", [y])', {"x": "a", "y": "$7"}, "RegexReplace: the replacement names a group"),
        ("Item([x], [y])", {"x": "a", "y": 0}, "Item: index counts from 1"),
        ("Trim([x])", {"x": {"a": 1}}, "a value of type dict is none that expressions know"),
    ],
)
def test_evaluation_errors(text: str, values: dict[str, Value], message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluated(text, values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Concat([x], [x])", {"x": "a" * (TEXT_LIMIT // 2 + 1)}),
        (f"Concat({', '.join(['[x]'] * 50)})", {"x": "a" * (TEXT_LIMIT // 40)}),
        ('Join("", [x], [x])', {"x": "a" * (TEXT_LIMIT // 2 + 1)}),
        ("Join([x], [y])", {"x": "a" * 1000, "y": ["b"] * 2000}),
        ('Replace([x], "a", [x])', {"x": "a" * 100_000}),
        ('RegexReplace([x], "a", [x])', {"x": "a" * 2000}),
        ("ToUpper([x])", {"x": "ß" * (TEXT_LIMIT // 2 + 1)}),
        ("EscapeDN([x])", {"x": "," * (TEXT_LIMIT // 2 + 1)}),
    ],
)
def test_texts_that_grow_too_long_are_an_error(text: str, values: dict[str, Value]) -> None:
    with pytest.raises(EvaluationError, match="gives a text of more than 1048576 characters"):
        evaluated(text, values)


def test_hostile_patterns_take_linear_time() -> None:
    assert evaluated('RegexReplace([x], "(a+)+$", "")', {"x": "a" * 5000 + "b"}) == "a" * 5000 + "b"


def test_a_bad_pattern_writes_nothing_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EvaluationError):
        evaluated('RegexReplace([x], [y], "")', {"x": "a", "y": "secret("})
    assert "secret" not in capfd.readouterr().err
