from collections.abc import Mapping

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from identitymesh.errors import EvaluationError, ExpressionError
from identitymesh.model.attributes import Scalar, Value
from identitymesh.rules.expressions import Checked, catalogue, check, compile_one, compile_set
from identitymesh.rules.expressions.parser import DEPTH_LIMIT, LENGTH_LIMIT
from identitymesh.rules.expressions.tree import Node, write
from tests.rules.expressions import reference
from tests.rules.expressions.strategies import people, trees


def checked_or_reject(tree: Node) -> Checked:
    try:
        return check(write(tree), names=None, may_give="FirstFree")
    except ExpressionError:
        reject()


def slowly(checked: Checked, values: Mapping[str, Value]) -> tuple[str, str]:
    try:
        return "gives", repr(reference.evaluate(checked.tree, values, catalogue()))
    except (reference.Failed, EvaluationError):
        return "fails", ""


def compiled(checked: Checked, values: Mapping[str, Value]) -> tuple[str, str]:
    try:
        return "gives", repr(compile_one(checked, reference.CALENDAR)(values))
    except EvaluationError:
        return "fails", ""


@settings(max_examples=600, deadline=None)
@given(trees(), st.lists(people, min_size=1, max_size=6))
def test_compiled_code_says_what_the_tree_says(tree: Node, several: list[dict[str, Value]]) -> None:
    checked = checked_or_reject(tree)
    for values in several:
        assert compiled(checked, values) == slowly(checked, values)


@settings(max_examples=200, deadline=None)
@given(st.lists(trees(3), max_size=6), people)
def test_a_set_says_what_its_rules_say_one_by_one(several: list[Node], values: dict[str, Value]) -> None:
    rules = [checked_or_reject(tree) for tree in several]
    evaluate = compile_set([(f"rule {index}", checked) for index, checked in enumerate(rules)], reference.CALENDAR)
    results, failures = evaluate(values)
    failed = dict(failures)
    assert len(results) == len(rules)
    for index, checked in enumerate(rules):
        outcome = ("fails", "") if index in failed else ("gives", repr(results[index]))
        assert outcome == compiled(checked, values)
        assert index not in failed or results[index] is None


def test_one_failing_rule_hides_no_other() -> None:
    texts = ["[a]", "ToInteger([a])", 'Left([b], ToInteger("2"))', "Trim([c])"]
    evaluate = compile_set([(text, check(text, names=None)) for text in texts])
    values, failures = evaluate({"a": "x", "b": "abc", "c": 5})
    assert values == ["x", None, "ab", None]
    assert failures == [
        (1, "ToInteger: the text is no integer of at most 19 digits"),
        (3, "Trim takes text as text, integer found"),
    ]
    assert compile_set([])({"a": "x"}) == ([], [])


@settings(max_examples=200, deadline=None)
@given(trees(), people)
def test_messages_hold_no_values(tree: Node, values: dict[str, Value]) -> None:
    """Every text is marked, and numbers are long, so that a value would be seen in a message."""

    def marked(value: Scalar) -> Scalar:
        if isinstance(value, str):
            return f"\ue000{value}"
        return value if isinstance(value, bool | bytes) else value + 86753090

    marks: dict[str, Value] = {
        name: [marked(one) for one in value] if isinstance(value, list) else marked(value)
        for name, value in values.items()
    }
    _, failures = compile_set([("rule", checked_or_reject(tree))], reference.CALENDAR)(marks)
    for _, message in failures:
        assert "\ue000" not in message
        assert "867530" not in message


def test_source_is_there_and_holds_nothing_that_a_person_wrote() -> None:
    text = 'IIF([in"; import os #jected] == "pasted\\"", Concat("pasted", [other]), 4711)'
    function = compile_one(check(text, names=None))
    assert function.source.startswith("def evaluate(attributes):\n")
    for word in ("pasted", "jected", "import", "other", "4711"):
        assert word not in function.source
    assert function({'in"; import os #jected': 'pasted"', "other": "!"}) == "pasted!"
    assert compile_set([("pasted", check("[a]", names=None))]).source.count("pasted") == 0


@pytest.mark.parametrize(
    "level",
    [
        "IIF([a], {}, {})",
        'Switch({}, "d", [a], {})',
        "Coalesce([b], {})",
        "Trim(Concat({}))",
        "not ({})",
        "[a] and ({})",
    ],
)
def test_the_deepest_expressions_compile(level: str) -> None:
    text = "[x]"
    while True:
        deeper = level.replace("{}", text, 1).replace("{}", '"y"')
        try:
            check(deeper, names=None)
        except ExpressionError:
            break
        text = deeper
    assert text.count("[x]") == 1
    checked = check(text, names=None)
    assert compiled(checked, {"x": "v"}) == slowly(checked, {"x": "v"})
    assert text.count("(") >= DEPTH_LIMIT // 2 - 2


def test_the_longest_expressions_compile() -> None:
    keys = ", ".join(f'"{index}", "value{index}"' for index in range(400))
    table = check(f'Switch([x], "none", {keys})', names=None)
    assert compile_one(table)({"x": "399"}) == "value399"
    assert compile_one(table)({"x": 399}) == "none"
    defaulted = check(f"Switch([x], [y], {keys})", names=None)
    assert compile_one(defaulted)({"x": "nobody", "y": ["a", "b"]}) == ["a", "b"]
    varied = check("Switch([x], 0, " + ", ".join(f"[k{index}], {index}" for index in range(300)) + ")", names=None)
    assert compile_one(varied)({"x": "a", "k299": "a"}) == 299
    for text in (" and ".join(["[a]"] * 1200), "Concat(" + ",".join(["[a]"] * 2400) + ")"):
        assert LENGTH_LIMIT - 2000 < len(text) <= LENGTH_LIMIT
        compile_one(check(text, names=None))({})
    assert compile_one(check("Concat(" + ",".join(["[a]"] * 2000) + ")", names=None))({"a": "x"}) == "x" * 2000


def test_a_list_of_one_is_its_value_and_an_empty_list_is_absent() -> None:
    evaluate = compile_set([(text, check(text, names=None)) for text in ("[a]", '[a] == "x"', "[b]", "[b] == null")])
    assert evaluate({"a": ["x"], "b": []}) == (["x", True, None, True], [])
