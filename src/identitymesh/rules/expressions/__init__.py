"""The rule expression language: check a text once, compile it once, evaluate it for every person.

`check` parses and judges an expression, `compile_one` and `compile_set` make plain Python functions of what was
checked, `catalogue` lists the functions that expressions may call. The language itself is described in
`docs/reference/expressions.md`, which is generated from the catalogue. A further function is one more record in one
of the modules of `functions/`.
"""

from identitymesh.rules.expressions.calendar import Calendar, zone_named
from identitymesh.rules.expressions.catalogue import catalogue
from identitymesh.rules.expressions.changing import Changing, changing
from identitymesh.rules.expressions.checker import Checked, check
from identitymesh.rules.expressions.compiler import RuleFunction, RuleSetFunction, compile_one, compile_set

__all__ = [
    "Calendar",
    "Changing",
    "Checked",
    "RuleFunction",
    "RuleSetFunction",
    "catalogue",
    "changing",
    "check",
    "compile_one",
    "compile_set",
    "zone_named",
]
