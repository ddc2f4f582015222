"""What is given once. It stands alone in its rule, because it is more than a value."""

from __future__ import annotations

from typing import Final

from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import INTEGER, TEXT

SHORTEST: Final = 12
LONGEST: Final = 128


def _length_complaint(length: int) -> str:
    return "" if SHORTEST <= length <= LONGEST else f"must be {SHORTEST} to {LONGEST}"


FUNCTIONS: Final = (
    Function(
        name="FirstFree",
        summary="The first of these texts that nobody else has, and nobody else had.",
        parameters=(Parameter("text", TEXT), Parameter("numbered", TEXT, gives=False)),
        result=TEXT,
        form="free",
        repeats=1,
        notes="It is the whole value of a flow rule. In the last text, and only there, `[#]` counts 2, 3, … up to "
        "9999. Free is what no person of the mesh has or ever had in this attribute, and no account of a target that "
        "the attribute is written to; upper and lower case count as the same. Nothing is given before those targets "
        "have been read completely. What a person was given stays with that person: also after a change of name, and "
        "it is given to nobody else after the person left. The table shows the value while all are free.",
        examples=(
            Example(
                'FirstFree(ToLower(Concat([first], "@x.org")), ToLower(Concat([first], [#], "@x.org")))',
                {"first": "Ann"},
                "ann@x.org",
            ),
            Example('FirstFree([first], Concat([first], "-", [#]))', {}, None),
        ),
    ),
    Function(
        name="InitialPassword",
        summary="A random password of so many characters, made when the account is created.",
        parameters=(Parameter("length", INTEGER, complaint=_length_complaint),),
        result=TEXT,
        form="password",
        notes="It is the whole value of an attribute of `on_create`. The password is in no plan and no log: it is "
        "stored as `secret://initial/TARGET/ANCHOR` before the account is created, and expires there. It has small and "
        "capital letters, digits and `-`, at least one of each.",
        examples=(),
    ),
)
