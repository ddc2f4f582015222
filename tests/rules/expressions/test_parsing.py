import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identitymesh.errors import ExpressionError
from identitymesh.rules.expressions import check
from identitymesh.rules.expressions.parser import parse
from identitymesh.rules.expressions.tree import (
    And,
    Attribute,
    Call,
    Comparison,
    Constant,
    Negative,
    Node,
    Not,
    Or,
    Position,
    write,
    write_constant,
)
from tests.rules.expressions.strategies import trees

A, B, C = Attribute("a"), Attribute("b"), Attribute("c")


@settings(max_examples=400, deadline=None)
@given(trees())
def test_a_tree_that_is_written_is_parsed_to_the_same_tree(tree: Node) -> None:
    text = write(tree)
    assert parse(text) == tree
    assert write(parse(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_can_be_written(text: str) -> None:
    assert parse(write_constant(text)) == Constant(text)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("[a] or [b] and not [c]", Or((A, And((B, Not(C)))))),
        ("([a] or [b]) and [c]", And((Or((A, B)), C))),
        ("not [a] == 1", Not(Comparison("==", A, Constant(1)))),
        ("[a]>=-1", Comparison(">=", A, Negative(Constant(1)))),
        ("[a] AND [b] And [c]", And((A, B, C))),
        ("f([a],\n G())", Call("f", (A, Call("G", ())))),
        ("TRUE == null", Comparison("==", Constant(value=True), Constant(None))),
        ("andy([a])", Call("andy", (A,))),
        ("0.50", Constant(0.5)),
        ("007", Constant(7)),
        ('[emails[type eq "work"].value]', Attribute('emails[type eq "work"].value')),
        ("[name.givenName]", Attribute("name.givenName")),
        ("[first name; drop]", Attribute("first name; drop")),
        ("[a[b[c]d]e]", Attribute("a[b[c]d]e")),
        (r'"\"\\\n\r\t\u00e9\uD83D\uDE00"', Constant('"\\\n\r\té😀')),
        ("\t[a]\r\n", A),
    ],
)
def test_reads(text: str, tree: Node) -> None:
    assert parse(text) == tree


def test_every_node_has_its_place() -> None:
    tree = parse('IIF([a] == "x",\n  not [b],\n  -Left([c], 1))')
    assert isinstance(tree, Call)
    condition, inverse, negative = tree.arguments
    assert isinstance(condition, Comparison)
    assert isinstance(inverse, Not)
    assert isinstance(negative, Negative)
    places = [
        one.at for one in (tree, condition, condition.right, inverse, inverse.operand, negative, negative.operand)
    ]
    expected = [(1, 1), (1, 5), (1, 12), (2, 3), (2, 7), (3, 3), (3, 4)]
    assert places == [Position(*place) for place in expected]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "empty"),
        (" \n ", 1, 1, "empty"),
        ("[a] ==", 1, 7, "a value is missing"),
        ("Trim([a]", 1, 9, "closing parenthesis is missing"),
        ("\n  [a] = 1", 2, 7, "=="),
        ("[a] <> 1", 1, 6, "not expected"),
        ("[a] == [b] == [c]", 1, 12, "do not chain"),
        ("[a] + [b]", 1, 5, "Concat"),
        ("'a'", 1, 1, "double quotes"),
        ('Trim("a', 1, 6, "closing quote"),
        ('"a\nb"', 1, 1, "closing quote"),
        ("[a", 1, 1, "closing bracket"),
        ("[a[b]", 1, 1, "closing bracket"),
        ("[]", 1, 1, "no name"),
        ("name", 1, 1, "brackets"),
        ("Trim(name)", 1, 6, "brackets"),
        (r'"ab\q"', 1, 4, "means nothing"),
        (r'"\ud800"', 1, 1, "surrogate"),
        ("[a] [b]", 1, 5, "not expected"),
        ("Trim([a],)", 1, 10, "not expected"),
        ("[a]\x00", 1, 4, "U+0000"),
        ("[a]\n\x1b", 2, 1, "U+001B"),
        ("[a]\ud800", 1, 4, "U+D800"),
        ("9223372036854775808", 1, 1, "too large"),
        ("9" * 5000, 1, 1, "too large"),
        ("9" * 400 + ".5", 1, 1, "too large"),
        ("x" * 10_001, 1, 1, "10001 characters"),
    ],
)
def test_refuses_with_place_and_reason(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 5000 + ")" * 5000,
        "(" * 4998 + "[a]" + ")" * 4998,
        "Trim(" * 1999,
        "not " * 2499 + "[a]",
        "-" * 9999 + "1",
        "[" * 10_000,
        "[[[[" * 1000 + "]]]]" * 1000,
        '"' * 9999,
        "\\" * 10_000,
        "," * 10_000,
        "IIF([a]," * 1000,
        "[a]==" * 2000,
        ")" * 10_000,
        "[a] and " * 1250,
        "\u202e\ufeff",
        "\u0663",
        "\u2167()",
    ],
    ids=lambda text: f"{text[:12]!a}x{len(text)}",
)
def test_hostile_texts_are_refused_in_words(text: str) -> None:
    with pytest.raises(ExpressionError):
        check(text, names=None)


@settings(max_examples=300, deadline=None)
@given(st.text('ab[]()"\\\n #=!<>-,.0123nulornotd ', max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        checked = check(text, names=None)
    except ExpressionError as refused:
        places = (refused.line, refused.column)
    else:
        places = (1, 1)
        assert parse(write(checked.tree)) == checked.tree
    assert min(places) >= 1
