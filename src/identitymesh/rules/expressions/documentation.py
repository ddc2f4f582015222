"""The reference page of the language. `scripts/document-expressions` writes it, a test sees that it is up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from identitymesh.model.attributes import Scalar, Value
from identitymesh.rules.expressions.catalogue import families
from identitymesh.rules.expressions.function import TEXT_LIMIT, Example, Function
from identitymesh.rules.expressions.kinds import name_of
from identitymesh.rules.expressions.parser import DEPTH_LIMIT, LENGTH_LIMIT
from identitymesh.rules.expressions.tree import write_constant

_LANGUAGE: Final = f"""\
# Rule expressions

<!-- Written by scripts/document-expressions. Change the records of the functions, or the text beside them. -->

An expression says what value an attribute gets, or whether a rule applies. It reads the attributes of one object (in
`join` and `flow` rules: of the source object; in `project` rules: of the identity) and does nothing else: no loops, no
files, no network. Expressions are checked when a definition is applied.

```
Concat(Trim([first_name]), " ", Trim([last_name]))
[status] == "active" and not StartsWith([login], "test-")
IIF([type] == "E", "Employee", "External")
```

## What it is made of

| Written | Means |
|---|---|
| `[department]` | The value of an attribute. Its name may hold balanced brackets: `[emails[type eq "work"].value]`. |
| `"text"` | A text, with `\\"` `\\\\` `\\n` `\\r` `\\t` and `\\u00e9` for what cannot be written. |
| `42`, `-1`, `0.5` | An integer (64 bits) or a decimal. |
| `True`, `False`, `null` | A boolean; no value. In any case, like `and`, `or`, `not` and the names of functions. |
| `==` `!=` `<` `<=` `>` `>=` | Comparisons. They do not chain; join two with `and`. |
| `not`, `and`, `or` | In this order, `not` first. Parentheses group. |
| `-[number]` | The negative of a number. There is no other arithmetic. |
| `ToLower([mail])` | A function. |

An expression has at most {LENGTH_LIMIT:,} characters and {DEPTH_LIMIT} levels, a text that a function makes at most
{TEXT_LIMIT:,} characters.

## Absent is not empty

An attribute without a value is **absent**. The empty text `""` is a value.

- A function with an absent argument gives absent, unless it says otherwise below. The others are `IsPresent`,
  `IsAbsent`, `IsNullOrEmpty`, `IIF`, `Switch`, `Coalesce`, `List`, `Join` and `Count`.
- A comparison with something absent is **False, also with `!=`**. Only the word `null` asks for it: `[mail] == null` is
  True if there is no mail, `[mail] != null` if there is one.
- A condition holds only if it is True. `and` and `or` count absent as False and give True or False.
- `not` of absent is absent, so it does not hold either.

| With `[a]` absent | is |
|---|---|
| `[a] == "x"` | False |
| `[a] != "x"` | **False**: nothing is known about `[a]` |
| `not ([a] == "x")` | True: the comparison is False |
| `[a] == [b]`, both absent | False |
| `not [a]` | absent, which does not hold |
| `[a] or True` | True |
| `Concat("x", [a])` | absent |
| `Coalesce([a], "") != "x"` | True |

## Comparing

Texts are compared exactly: upper and lower case differ, and so do white space and accents. Integers and decimals are
numbers, so `1 == 1.0`; a boolean is not a number, so `[active] == 1` is False for True. Values of different kinds are
never equal, and what can never be equal for anybody is refused when the definition is applied.

`<`, `<=`, `>` and `>=` compare two numbers, or two texts by their characters. RFC 3339 dates of the same form compare
as texts. Anything else is an error.

## Several values

An attribute may have several values. One value in a list is the same as the value itself. Two lists are equal if they
have the same values, in any order; a list of several values never equals a single one: ask
`Contains([groups], "staff")`.

Where a parameter below is marked *each*, several values are taken one by one, and the result has as many. *All* means
that the function sees all values at once. Any other parameter takes one value.

## Errors

What fails for one person, such as `ToInteger` of a text without digits, leaves that attribute without this rule's value
for that person, and is reported with the name of the rule. The message never shows the value. Other rules and other
people are not concerned. All arguments of a function are evaluated; `and`, `or`, `IIF`, `Switch` and `Coalesce`
evaluate only what they need.
"""


def page() -> str:
    """The whole page, as Markdown."""
    sections = [_LANGUAGE, *_index(), *_families()]
    return "\n".join(sections)


def _index() -> Iterator[str]:
    yield "## Functions\n"
    for title, functions in families().items():
        links = ", ".join(f"[{function.name}](#{function.name.lower()})" for function in functions)
        yield f"- {title}: {links}"
    yield ""


def _families() -> Iterator[str]:
    for title, functions in families().items():
        yield f"## {title}\n"
        for function in functions:
            yield from _function(function)


def _function(function: Function) -> Iterator[str]:
    yield f"### {function.name}\n"
    yield f"`{function.signature()}`{_result(function)}\n"
    yield f"{function.summary}\n"
    for parameter in function.parameters:
        many = {"one": "", "each": ", each", "whole": ", all"}[parameter.many]
        optional = ", optional" if parameter.optional else ""
        yield f"- `{parameter.name}`: {name_of(parameter.kinds)}{many}{optional}"
    yield ""
    if function.notes:
        yield f"{function.notes}\n"
    if not function.examples:
        return
    yield "| Expression | Values | Result |"
    yield "|---|---|---|"
    for example in function.examples:
        yield _row(example)
    yield ""


def _result(function: Function) -> str:
    return f" → {name_of(function.result)}" if function.result else ""


def _row(example: Example) -> str:
    cells = (f"`{example.expression}`", _values(example.values), _value(example.expected))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in values.items()) or "none"


def _value(value: Value | None) -> str:
    if value is None:
        return "absent"
    return ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)


def _scalar(value: Scalar) -> str:
    return f"`{value.hex() if isinstance(value, bytes) else write_constant(value)}`"
