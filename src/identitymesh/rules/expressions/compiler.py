"""From trees to one plain Python function.

A whole set of rules becomes one function whose source reads as a person would write it: each attribute is fetched
once, common cases stand in line, and everything rare is a call into `evaluation`. Nothing that a rule's author wrote
enters the source: names of attributes, texts and numbers are bound as variables beside it, so there is nothing to
escape. Measured, this is twice as fast as closures over the tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import CodeType, FunctionType
from typing import Protocol, cast

from identitymesh.model.attributes import Value
from identitymesh.rules.expressions.calendar import Calendar
from identitymesh.rules.expressions.checker import Checked
from identitymesh.rules.expressions.emission import Emission
from identitymesh.rules.expressions.function import Function

Attributes = Mapping[str, Value]
Failures = list[tuple[int, str]]


class RuleFunction(Protocol):
    """One expression over the attributes of one object; raises EvaluationError. ``source`` is its Python text."""

    source: str

    def __call__(self, attributes: Attributes, /) -> Value | None: ...


class RuleSetFunction(Protocol):
    """Several expressions: their values in order, and (index, message) of those that failed and are None."""

    source: str

    def __call__(self, attributes: Attributes, /) -> tuple[list[Value | None], Failures]: ...


def compile_one(checked: Checked, calendar: Calendar | None = None) -> RuleFunction:
    """One expression as a function. It raises EvaluationError where the expression fails.

    ``calendar`` says what time it is, whenever the function is called; an expression about dates needs it.
    """
    emission = Emission(_at(checked.functions, calendar), indent=1)
    result = emission.value(checked.tree)
    lines = ["def evaluate(attributes):", *emission.loads(), *emission.lines, f"    return {result}"]
    return cast("RuleFunction", _made(lines, emission))


def compile_set(items: Sequence[tuple[str, Checked]], calendar: Calendar | None = None) -> RuleSetFunction:
    """Expressions, given with the names of their rules, as one function, in which none hides another."""
    functions = {name: function for _, checked in items for name, function in checked.functions.items()}
    emission = Emission(_at(functions, calendar), indent=2)
    body: list[str] = []
    for index, (_, checked) in enumerate(items):
        emission.lines = []
        result = emission.value(checked.tree)
        body += _guarded(index, emission.lines, result)
    values = ", ".join(f"v{index}" for index in range(len(items)))
    lines = [
        "def evaluate(attributes):",
        *emission.loads(),
        "    failures = []",
        *body,
        f"    return [{values}], failures",
    ]
    return cast("RuleSetFunction", _made(lines, emission))


def _at(functions: Mapping[str, Function], calendar: Calendar | None) -> Mapping[str, Function]:
    """The functions, those about time bound to a calendar."""
    found = dict(functions)
    for name, function in functions.items():
        if not function.calendar:
            continue
        if calendar is None or function.call is None:
            raise ValueError(f"{name} needs a calendar")
        found[name] = replace(function, call=partial(function.call, calendar))
    return found


def _guarded(index: int, lines: Sequence[str], result: str) -> list[str]:
    """One rule of a set. What is a mere attribute or constant cannot fail."""
    if not lines and result.isidentifier():
        return [f"    v{index} = {result}"]
    return [
        "    try:",
        *lines,
        f"        v{index} = {result}",
        "    except EvaluationError as error:",
        f"        v{index} = None",
        f"        failures.append(({index}, error.message))",
    ]


def _made(lines: Sequence[str], emission: Emission) -> FunctionType:
    """The function of a source. Only its compiled body is taken, so nothing is executed here."""
    source = "\n".join(lines) + "\n"
    module = compile(source, "<rules>", "exec")
    body = next(one for one in module.co_consts if isinstance(one, CodeType))
    function = FunctionType(body, emission.namespace)
    function.__dict__["source"] = source
    return function
