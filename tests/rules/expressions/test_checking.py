from dataclasses import replace

import pytest

from identitymesh.errors import ExpressionError
from identitymesh.rules.expressions import catalogue, check
from identitymesh.rules.expressions.tree import Attribute, Call

NAMES = {"givenName", "sn", "mail", "department"}


def refusal(text: str, *, condition: bool = False) -> tuple[int, int, str]:
    with pytest.raises(ExpressionError) as caught:
        check(text, names=NAMES, condition=condition)
    return caught.value.line, caught.value.column, str(caught.value)


def test_says_what_an_expression_reads_and_gives() -> None:
    checked = check('concat(TRIM([givenName]), " ", [sn])', names=NAMES)
    assert checked.attributes == {"givenName", "sn"}
    assert checked.kind == "text"
    assert checked.volatile is False
    assert isinstance(checked.tree, Call)
    assert checked.tree.function == "Concat"
    assert checked.tree.arguments[0] == Call("Trim", (Attribute("givenName"),))
    assert set(checked.functions) == {"Concat", "Trim"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[mail]", "any"),
        ('"x"', "text"),
        ("-1", "integer"),
        ("0.5", "decimal"),
        ("-[mail]", "number"),
        ("null", "null"),
        ("[mail] == null", "boolean"),
        ("not [mail]", "boolean"),
        ('IIF([mail] == null, "x", null)', "text"),
        ('IIF([mail] == null, "x", 1)', "text or integer"),
        ('Switch([mail], 1, "a", 2)', "integer"),
        ('Coalesce([mail], "x")', "any"),
        ('List("inetOrgPerson")', "text"),
        ("Item([mail], 1)", "any"),
        ("Length([mail])", "integer"),
        ('Split([mail], "@")', "text"),
    ],
)
def test_kind(text: str, kind: str) -> None:
    assert check(text, names=NAMES).kind == kind


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("ToLowr([mail])", 1, "unknown function ToLowr; did you mean ToLower?"),
        ("Frobnicate([mail])", 1, "unknown function Frobnicate"),
        ("Trim([givenNme])", 6, "unknown attribute [givenNme]; did you mean [givenName]?"),
        ("Trim([MAIL])", 6, "unknown attribute [MAIL]; did you mean [mail]?"),
        ("Left([mail])", 1, "Left takes 2 arguments, 1 given: Left(text, numChars)"),
        ("Mid([mail])", 1, "Mid takes 2 to 3 arguments, 1 given: Mid(text, start[, numChars])"),
        ("Trim()", 1, "Trim takes 1 argument, 0 given: Trim(text)"),
        ("Concat()", 1, "Concat takes 1 or more arguments, 0 given: Concat(part, …)"),
        ('Switch([mail], "a", "b", "c", "d")', 1, "the last 2 arguments of Switch come together"),
        ('Left("x", "y")', 11, "Left takes integer as numChars, and this is text"),
        ('Left("x", True)', 11, "Left takes integer as numChars, and this is boolean"),
        ("Left([mail], -1)", 14, "Left: numChars must not be negative"),
        ("Mid([mail], 0)", 13, "Mid: start counts from 1"),
        ('IIF("yes", 1, 2)', 5, "IIF takes boolean as condition, and this is text"),
        ('[mail] and "x"', 12, "and takes boolean, and this is text"),
        ("not Trim([mail])", 5, "not takes boolean, and this is text"),
        ('-"x"', 2, "- takes number, and this is text"),
        ("Trim([mail]) == 5", 1, "text is compared with integer"),
        ("[mail] < null", 10, "null has no order"),
        ("True < False", 1, "< takes text or integer or decimal, and this is boolean"),
        ("Length([mail]) >= Trim([mail])", 1, "integer is compared with text"),
        ("Switch(Trim([mail]), 0, 1, 2)", 25, "text never equals a key that is integer"),
        ('RegexReplace([mail], "(", "")', 22, "RegexReplace: pattern is no regular expression"),
        ('RegexReplace([mail], "a", "$1")', 1, "RegexReplace: the replacement names a group"),
        ('FormatDate([mail], "YYYY")', 20, "FormatDate: format has letters that mean nothing"),
        ('FormatDate([mail], "yyyy \'h")', 20, "FormatDate: format has a single quote"),
        ('Split([mail], "")', 15, "Split: delimiter must not be empty"),
    ],
)
def test_refuses_what_is_certain_to_fail(text: str, column: int, message: str) -> None:
    line, found, said = refusal(text)
    assert said.startswith(message)
    assert (line, found) == (1, column)


def test_the_first_unknown_attribute_is_named() -> None:
    assert refusal("[mail] == 1 and\n [zzz] == [aaa]") == (2, 2, "unknown attribute [zzz]")


def test_a_condition_must_be_able_to_hold() -> None:
    assert check("[mail]", names=NAMES, condition=True).kind == "any"
    assert refusal('"External"', condition=True) == (1, 1, "the condition takes boolean, and this is text")


def test_without_names_any_attribute_may_be_read() -> None:
    assert check("[whatever]", names=None).attributes == {"whatever"}


def test_a_volatile_function_makes_the_expression_volatile() -> None:
    functions = {**catalogue(), "Trim": replace(catalogue()["Trim"], volatile=True)}
    assert check("ToLower(Trim([mail]))", names=None, functions=functions).volatile
    assert not check("ToLower([mail])", names=None, functions=functions).volatile
