"""Everything about an expression that is certain before it meets a value.

An expression that passes can still fail on a person, where a value is not of the kind that a function takes; what
would fail, or be pointless, for everybody is refused here, with its place.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NoReturn

from identitymesh.errors import ExpressionError
from identitymesh.rules.expressions.catalogue import catalogue
from identitymesh.rules.expressions.function import Function
from identitymesh.rules.expressions.kinds import (
    ANY,
    BOOLEAN,
    NOTHING,
    NUMBER,
    TEXT,
    Kinds,
    comparable,
    kind_of,
    name_of,
)
from identitymesh.rules.expressions.parser import parse
from identitymesh.rules.expressions.tree import NUMBER as NUMBER_NAME
from identitymesh.rules.expressions.tree import (
    And,
    Attribute,
    Call,
    Comparison,
    Constant,
    ConstantValue,
    Negative,
    Node,
    Not,
    Or,
    children,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression that may be compiled.

    ``kind`` says what each value of the result is: `text`, `integer`, `decimal`, `number`, `boolean`, `bytes`, several
    of these joined by `or`, `any`, or `null` when it is always absent. ``volatile``: the result can change while the
    attributes do not. ``functions`` are the records of those that the tree calls, by name.
    """

    text: str
    tree: Node
    attributes: frozenset[str]
    kind: str
    volatile: bool
    functions: Mapping[str, Function] = field(repr=False, compare=False)


def check(
    text: str,
    *,
    names: Collection[str] | None,
    functions: Mapping[str, Function] | None = None,
    condition: bool = False,
    may_give: str = "",
    counting: bool = False,
) -> Checked:
    """Parse and judge an expression.

    ``names`` are the attributes that it may read, None for any. ``condition`` asks for a result that can be True.
    ``functions`` stands in for the catalogue. ``may_give``: the function of the family "Given once" that may be the
    whole of it. ``counting``: this is a text of FirstFree, cut out, and ``[#]`` is one of its attributes.

    Raises:
        ExpressionError: with line and column inside the expression.
    """
    known = catalogue() if functions is None else functions
    tree = parse(text, {name.lower(): name for name in known})
    nodes = list(_all_nodes(tree))
    counters = () if counting else _once(tree, nodes, known, may_give)
    attributes = {
        node.name: node for node in reversed(nodes) if isinstance(node, Attribute) and node.name not in counters
    }
    if names is not None:
        for name, node in sorted(attributes.items(), key=lambda item: (item[1].at.line, item[1].at.column)):
            if name not in names:
                _refuse(node, f"unknown attribute [{name}]{_near(name, names, '[{}]')}")
    kinds = _kinds(tree, known)
    if condition:
        _want(tree, kinds, BOOLEAN, "the condition")
    called = {node.function: known[node.function] for node in nodes if isinstance(node, Call)}
    volatile = any(function.volatile for function in called.values())
    return Checked(text, tree, frozenset(attributes), name_of(kinds), volatile, called)


def _once(tree: Node, nodes: Sequence[Node], known: Mapping[str, Function], may_give: str) -> Collection[str]:
    """Whether what is given once stands where it can be given; answers the names that count in it."""
    for node in nodes:
        if isinstance(node, Call) and node.function in known and known[node.function].form in ("free", "password"):
            where = {"free": "a flow rule", "password": "an attribute of on_create"}[known[node.function].form]
            if node is not tree or node.function != may_give:
                _refuse(node, f"{node.function} must be the whole value of {where}")
    counted = isinstance(tree, Call) and tree.function == may_give == "FirstFree" and len(tree.arguments) > 1
    last = list(_all_nodes(tree.arguments[-1])) if counted and isinstance(tree, Call) else []
    counters = [node for node in last if isinstance(node, Attribute) and node.name == NUMBER_NAME]
    if counted and not counters:
        _refuse(tree, "the last text of FirstFree must count with [#]")
    for node in nodes:
        if isinstance(node, Attribute) and node.name == NUMBER_NAME and not any(node is one for one in counters):
            _refuse(node, "[#] counts in the last text of FirstFree alone")
    return {NUMBER_NAME} if counters else ()


def _all_nodes(tree: Node) -> Iterator[Node]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


def _kinds(node: Node, functions: Mapping[str, Function]) -> Kinds:  # noqa: PLR0911 (one for each kind of node)
    """What the values of a node can be, once its parts are known to fit."""
    match node:
        case Constant():
            return NOTHING if node.value is None else frozenset({kind_of(node.value)})
        case Attribute():
            return ANY
        case Comparison():
            return _comparison(node, functions)
        case Negative():
            kinds = _kinds(node.operand, functions)
            _want(node.operand, kinds, NUMBER, "-")
            return kinds & NUMBER
        case Not():
            _want(node.operand, _kinds(node.operand, functions), BOOLEAN, "not")
            return BOOLEAN
        case And() | Or():
            for operand in node.operands:
                _want(operand, _kinds(operand, functions), BOOLEAN, "and" if isinstance(node, And) else "or")
            return BOOLEAN
        case Call():
            return _call(node, functions)


def _comparison(node: Comparison, functions: Mapping[str, Function]) -> Kinds:
    left, right = _kinds(node.left, functions), _kinds(node.right, functions)
    if node.operator not in {"==", "!="}:
        for side, kinds in ((node.left, left), (node.right, right)):
            if not kinds:
                _refuse(side, f"null has no order; write == null or != null instead of {node.operator}")
            _want(side, kinds, TEXT | NUMBER, node.operator)
    if not comparable(left, right):
        _refuse(
            node, f"{name_of(left)} is compared with {name_of(right)}, so {node.operator} is the same for everybody"
        )
    return BOOLEAN


def _call(node: Call, functions: Mapping[str, Function]) -> Kinds:
    function = functions.get(node.function)
    if function is None:
        _refuse(node, f"unknown function {node.function}{_near(node.function, functions)}")
    if problem := function.arity_problem(len(node.arguments)):
        _refuse(node, problem)
    given = [_argument(function, index, argument, functions) for index, argument in enumerate(node.arguments)]
    if function.form == "switch":
        for key, kinds in list(zip(node.arguments, given, strict=True))[2::2]:
            if not comparable(given[0], kinds):
                _refuse(key, f"{name_of(given[0])} never equals a key that is {name_of(kinds)}")
    if function.complaint and (complaint := function.complaint(*map(constant_of, node.arguments))):
        _refuse(node, f"{function.name}: {complaint}")
    results = (kinds for index, kinds in enumerate(given) if function.parameter(index).gives)
    return reduce(frozenset.union, results, function.result)


def _argument(function: Function, index: int, node: Node, functions: Mapping[str, Function]) -> Kinds:
    parameter = function.parameter(index)
    kinds = _kinds(node, functions)
    _want(node, kinds, parameter.kinds, function.name, f" as {parameter.name}")
    value = constant_of(node)
    if value is not None and parameter.complaint and (complaint := parameter.complaint(value)):
        _refuse(node, f"{function.name}: {parameter.name} {complaint}")
    return kinds


def constant_of(node: Node) -> ConstantValue:
    """The value that a node is without any evaluation, also a negative number; None if it is none."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Negative) and isinstance(node.operand, Constant):
        value = node.operand.value
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None


def _want(node: Node, kinds: Kinds, wanted: Kinds, who: str, role: str = "") -> None:
    if kinds and not kinds & wanted:
        _refuse(node, f"{who} takes {name_of(wanted)}{role}, and this is {name_of(kinds)}")


def _near(name: str, known: Collection[str], form: str = "{}") -> str:
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(form.format(by_lower[one]) for one in close)}?" if close else ""


def _refuse(node: Node, message: str) -> NoReturn:
    raise ExpressionError(message, line=node.at.line, column=node.at.column)
