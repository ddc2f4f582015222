"""What an expression says, as a tree, and how a tree is written.

Trees are equal when they say the same: positions do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Position:
    """Where a node starts, both from 1, inside the expression."""

    line: int
    column: int


START: Final = Position(1, 1)
NUMBER: Final = "#"  # the attribute that counts in FirstFree

ConstantValue = str | int | float | bool | None
Operator = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Constant:
    """A text, a number that is not negative, True, False or null (``None``)."""

    value: ConstantValue
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """``function`` has its canonical spelling where the function is known."""

    function: str
    arguments: tuple[Node, ...]
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    operator: Operator
    left: Node
    right: Node
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Negative:
    """Unary minus."""

    operand: Node
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Node, ...]
    at: Position = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Node, ...]
    at: Position = field(default=START, compare=False)


Node = Constant | Attribute | Call | Comparison | Negative | Not | And | Or


def children(node: Node) -> Sequence[Node]:
    """The nodes directly below one."""
    match node:
        case Call():
            return node.arguments
        case And() | Or():
            return node.operands
        case Comparison():
            return (node.left, node.right)
        case Not() | Negative():
            return (node.operand,)
        case _:
            return ()


_STRENGTH: Final[dict[type, int]] = {Or: 1, And: 2, Not: 3, Comparison: 4, Negative: 5}
_ATOM: Final = 6
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write(node: Node) -> str:  # noqa: PLR0911 (one for each kind of node)
    """The text of a tree, with no more parentheses than needed; parsing it gives an equal tree."""
    match node:
        case Constant():
            return write_constant(node.value)
        case Attribute():
            return f"[{node.name}]"
        case Call():
            return f"{node.function}({', '.join(map(write, node.arguments))})"
        case Comparison():
            return f"{_inside(node.left, 5)} {node.operator} {_inside(node.right, 5)}"
        case Negative():
            return f"-{_inside(node.operand, 5)}"
        case Not():
            return f"not {_inside(node.operand, 3)}"
        case And():
            return " and ".join(_inside(operand, 3) for operand in node.operands)
        case Or():
            return " or ".join(_inside(operand, 2) for operand in node.operands)


def _inside(node: Node, weakest: int) -> str:
    text = write(node)
    return text if _STRENGTH.get(type(node), _ATOM) >= weakest else f"({text})"


def write_constant(value: ConstantValue) -> str:
    """A constant as an expression has it: texts in quotes, decimals without exponent."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return '"' + "".join(map(_escape, value)) + '"'
    if isinstance(value, float):
        digits = format(Decimal(repr(value)), "f")
        return digits if "." in digits else f"{digits}.0"
    return str(value)


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
