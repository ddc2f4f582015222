"""How a function of the language is declared: one record says all that checker, compiler and documentation need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from identitymesh.model.attributes import Value
from identitymesh.rules.expressions.kinds import Kinds

TEXT_LIMIT: Final = 1_048_576
"""Characters that a text function may give at most; more is an evaluation error."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    `many` says what becomes of several values: refused (`one`), taken one by one, so that the function has as many
    results (`each`, for one parameter of a function at most), or handed over as a list (`whole`: always a list, also
    of one value). `takes_absent` hands an absent argument over, as None or an empty list; without it an absent
    argument makes the result absent. `complaint` says what is wrong with a value of the right kind, "" if nothing is;
    it never repeats the value. `gives` marks parameters whose value can be the result.
    """

    name: str
    kinds: Kinds
    many: Literal["one", "each", "whole"] = "one"
    optional: bool = False
    takes_absent: bool = False
    gives: bool = False
    complaint: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """An expression, the values of its attributes and the result, None for absent: documentation and test in one."""

    expression: str
    values: Mapping[str, Value]
    expected: Value | None


@dataclass(frozen=True, slots=True)
class Function:
    """One function.

    `call` gets the arguments in order, already of the right kinds, and gives a value as `model.attributes` writes it.
    `inline` gives a Python expression of the same meaning, for operands of which each is the name of a variable that
    holds one text or integer, as its parameter wants; None if it cannot. Functions that do not evaluate all of their
    arguments have a `form` that the compiler knows, and no `call`. The last `repeats` parameters may come again and
    again. `grows`: the result can be longer than the arguments, so its length is looked at. `volatile`: it can change
    while the arguments do not. `calendar`: `call` gets the Calendar of the run before the arguments. `complaint`
    judges the constant arguments together, when an expression is checked; what is not constant is None.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    result: Kinds
    examples: tuple[Example, ...]
    call: Callable[..., Value | None] | None = None
    form: Literal["call", "iif", "switch", "coalesce", "free", "password"] = "call"
    inline: Callable[[Sequence[str]], str | None] | None = None
    repeats: int = 0
    grows: bool = False
    volatile: bool = False
    calendar: bool = False
    complaint: Callable[..., str] | None = None
    notes: str = ""

    def parameter(self, index: int) -> Parameter:
        """The parameter of the argument at this place."""
        if index < len(self.parameters):
            return self.parameters[index]
        once = len(self.parameters) - self.repeats
        return self.parameters[once + (index - once) % self.repeats]

    def signature(self) -> str:
        """For people: `Mid(text, start[, numChars])`, `Concat(value, …)`."""
        written = ""
        for parameter in self.parameters:
            name = parameter.name if not written else f", {parameter.name}"
            written += f"[{name}]" if parameter.optional else name
        return f"{self.name}({written}{', …' if self.repeats else ''})"

    def arity_problem(self, count: int) -> str:
        """What is wrong with this number of arguments, "" if nothing is."""
        least = sum(not parameter.optional for parameter in self.parameters)
        most = len(self.parameters)
        if count < least or (count > most and not self.repeats):
            wanted = f"{least} or more" if self.repeats else str(least) if least == most else f"{least} to {most}"
            return (
                f"{self.name} takes {wanted} argument{'s' if wanted != '1' else ''}, {count} given: {self.signature()}"
            )
        if count > most and (count - most) % self.repeats:
            return f"the last {self.repeats} arguments of {self.name} come together: {self.signature()}"
        return ""
