"""Writing the Python lines of a tree.

An operand is a piece of Python: the name of a variable, or a comparison that is evaluated where it is put. Only
comparisons stay unnamed, and only until something else is written, so the order of evaluation is that of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import from_values
from identitymesh.rules.expressions import evaluation
from identitymesh.rules.expressions.checker import constant_of
from identitymesh.rules.expressions.function import TEXT_LIMIT, Function, Parameter
from identitymesh.rules.expressions.kinds import INTEGER, Kind, kind_of
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
)

_TYPES: Final[dict[Kind, str]] = {"text": "str", "integer": "int", "boolean": "bool"}
_CHAIN_LIMIT: Final = 8  # an elif is one level deeper for Python's own compiler


class Operand(NamedTuple):
    """``known``: it is certainly one value of this kind."""

    code: str
    known: Kind | None = None
    constant: bool = False


class Emission:
    """The source of one function while it is written. ``namespace`` is what the source refers to by name."""

    def __init__(self, functions: Mapping[str, Function], *, indent: int) -> None:
        self.lines: list[str] = []
        self.namespace: dict[str, object] = {
            "__builtins__": {},
            "EvaluationError": EvaluationError,
            "from_values": from_values,
            **{one.__name__: one for one in (type, str, int, bool, list, len)},
            **{
                one.__name__: one
                for one in (
                    evaluation.equal,
                    evaluation.unequal,
                    evaluation.ordered,
                    evaluation.truth,
                    evaluation.inverted,
                    evaluation.negative,
                    evaluation.too_long,
                )
            },
        }
        self._functions = functions
        self._margin = "    " * indent
        self._attributes: dict[str, str] = {}
        self._bound: dict[object, str] = {}
        self._temporaries = 0

    def loads(self) -> list[str]:
        """The lines that fetch every attribute once, in the form that the rest relies on: no list of one or none."""
        lines = ["    get = attributes.get"] if self._attributes else []
        for name, variable in self._attributes.items():
            lines.append(f"    {variable} = get({self._bind('n', name)})")
            lines.append(f"    if type({variable}) is list: {variable} = from_values({variable})")
        return lines

    def value(self, node: Node) -> str:
        """Write what is needed for a node; returns the Python expression of its value."""
        return self._operand(node).code

    def _operand(self, node: Node) -> Operand:  # noqa: PLR0911 (one for each kind of node)
        match node:
            case Constant():
                return self._constant(node.value)
            case Attribute():
                return Operand(self._attributes.setdefault(node.name, f"a{len(self._attributes)}"))
            case Comparison():
                return self._comparison(node)
            case Negative():
                return self._negative(node)
            case Not():
                operand = self._operand(node.operand)
                if operand.known == "boolean":
                    return Operand(f"not {_enclosed(operand.code)}", "boolean")
                name = self._named(operand)
                return Operand(self._stored(f"not {name} if type({name}) is bool else inverted({name})"))
            case And() | Or():
                return self._junction(node)
            case Call():
                return self._call(node)

    def _constant(self, value: ConstantValue) -> Operand:
        if value is None:
            return Operand("None", constant=True)
        return Operand(self._bind("k", value), kind_of(value), constant=True)

    def _negative(self, node: Negative) -> Operand:
        value = constant_of(node)
        if value is not None:
            return self._constant(value)
        return Operand(self._stored(f"negative({self._named(self._operand(node.operand))})"))

    def _comparison(self, node: Comparison) -> Operand:
        left = self._settled(self._operand(node.left))
        right = self._settled(self._operand(node.right))
        if node.operator in {"==", "!="}:
            return Operand(_equality(left, right, negated=node.operator == "!="), "boolean")
        fast = _ordering_guard(left, right)
        slow = f'ordered("{node.operator}", {left.code}, {right.code})'
        return Operand(f"{left.code} {node.operator} {right.code} if {fast} else {slow}" if fast else slow, "boolean")

    def _condition(self, node: Node, where: str) -> str:
        operand = self._operand(node)
        if operand.known == "boolean":
            return operand.code
        name = self._named(operand)
        return self._stored(f'{name} if type({name}) is bool else truth("{where}", {name})')

    def _junction(self, node: And | Or) -> Operand:
        word, goes_on = ("and", "") if isinstance(node, And) else ("or", "not ")
        codes = [self._condition(node.operands[0], word)]
        for one in node.operands[1:]:
            block, code = self._block(partial(self._condition, one, word))
            if not block:
                codes.append(code)
                continue
            so_far = self._stored(_joined(word, codes))
            self._write(f"if {goes_on}{so_far}:", *block, f"    {so_far} = {code}")
            codes = [so_far]
        return Operand(_joined(word, codes), "boolean")

    def _call(self, node: Call) -> Operand:
        function = self._functions[node.function]
        match function.form:
            case "iif":
                return self._iif(node)
            case "switch":
                return self._switch(node)
            case "coalesce":
                return self._coalesce(node)
            case "call":
                return self._ordinary_call(function, node)
            case "free":
                return self._operand(node.arguments[0])  # as if nothing were taken; see rules/flow.py
            case "password":
                raise AssertionError("passwords are made by exports")

    def _iif(self, node: Call) -> Operand:
        condition = self._condition(node.arguments[0], "IIF")
        then, when_true = self._block(partial(self.value, node.arguments[1]))
        otherwise, when_false = self._block(partial(self.value, node.arguments[2]))
        if not then and not otherwise:
            code = f"{_enclosed(when_true)} if {_enclosed(condition)} else {_enclosed(when_false)}"
            return Operand(self._stored(code))
        result = self._temporary()
        self._write(f"if {condition}:", *then, f"    {result} = {when_true}")
        self._write("else:", *otherwise, f"    {result} = {when_false}")
        return Operand(result)

    def _coalesce(self, node: Call) -> Operand:
        result = self._stored(self.value(node.arguments[0]))
        for argument in node.arguments[1:]:
            block, code = self._block(partial(self.value, argument))
            self._write(f"if {result} is None:", *block, f"    {result} = {code}")
        return Operand(result)

    def _switch(self, node: Call) -> Operand:
        subject, default = self._settled(self._operand(node.arguments[0])), node.arguments[1]
        keys, values = node.arguments[2::2], node.arguments[3::2]
        table = _table(keys, (default, *values))
        if table is not None:
            name, otherwise = self._new("k", table), self.value(default)
            found = f"{name}.get({subject.code}, {otherwise})"
            return Operand(self._stored(f"{found} if type({subject.code}) is str else {otherwise}"))
        tests = [self._block(partial(self._key, subject, key)) for key in keys]
        heads = self._heads(tests)
        branches = [self._block(partial(self.value, one)) for one in (*values, default)]
        result = self._temporary()
        for head, (block, code) in zip(heads, branches, strict=True):
            self._write(head, *block, f"    {result} = {code}")
        return Operand(result)

    def _key(self, subject: Operand, key: Node) -> str:
        return _equality(subject, self._settled(self._operand(key)), negated=False)

    def _heads(self, tests: Sequence[tuple[list[str], str]]) -> list[str]:
        """What stands above each branch of a choice, the default last; exactly one of them comes true."""
        if len(tests) <= _CHAIN_LIMIT and not any(block for block, _ in tests):
            return [f"{'elif' if index else 'if'} {code}:" for index, (_, code) in enumerate(tests)] + ["else:"]
        choice = self._stored("0")
        for index, (block, code) in enumerate(tests, 1):
            self._write(f"if {choice} == 0:", *block, f"    if {code}: {choice} = {index}")
        return [f"if {choice} == {index}:" for index in range(1, len(tests) + 1)] + [f"if {choice} == 0:"]

    def _ordinary_call(self, function: Function, node: Call) -> Operand:
        operands = [self._settled(self._operand(argument)) for argument in node.arguments]
        codes = [operand.code for operand in operands]
        checked = self._bind("f", (function.name, len(codes)), lambda: evaluation.called(function, len(codes)))
        slow = f"{checked}({', '.join(codes)})"
        guards = _guards(function, operands)
        fast = self._fast(function, codes) if guards is not None else None
        if fast is None or (function.grows and not guards):
            return Operand(self._stored(slow))
        if not guards:
            return Operand(self._stored(fast))
        absent = _absent_guard(function, operands)
        result = self._temporary()
        if function.grows:
            self._write(f"if {' and '.join(guards)}:", f"    {result} = {fast}")
            self._write(f'    if len({result}) > {TEXT_LIMIT}: too_long("{function.name}")')
            self._write(*([f"elif {absent}: {result} = None"] if absent else []), "else:", f"    {result} = {slow}")
        else:
            otherwise = f"None if {absent} else {slow}" if absent else slow
            self._write(f"{result} = {fast} if {' and '.join(guards)} else {otherwise}")
        return Operand(result)

    def _fast(self, function: Function, codes: Sequence[str]) -> str | None:
        if function.inline is not None:
            return function.inline(codes)
        return f"{self._bind('f', function.name, lambda: function.call)}({', '.join(codes)})"

    def _block(self, written: Callable[[], str]) -> tuple[list[str], str]:
        """What writes somewhere else, one level deeper: its lines, relative to here, and its operand."""
        outside, self.lines = self.lines, []
        margin, self._margin = self._margin, ""
        code = written()
        inside, self.lines = self.lines, outside
        self._margin = margin
        return [f"    {line}" for line in inside], code

    def _write(self, *lines: str) -> None:
        self.lines += [self._margin + line for line in lines]

    def _settled(self, operand: Operand) -> Operand:
        return operand if operand.code.isidentifier() else operand._replace(code=self._stored(operand.code))

    def _named(self, operand: Operand) -> str:
        return self._settled(operand).code

    def _stored(self, code: str) -> str:
        name = self._temporary()
        self._write(f"{name} = {code}")
        return name

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _bind(self, prefix: str, value: Hashable, made: Callable[[], object] | None = None) -> str:
        """A variable for a value, one for each; ``made`` gives what it holds where that is not the value itself."""
        key = (prefix, type(value), value)
        if key not in self._bound:
            self._bound[key] = self._new(prefix, value if made is None else made())
        return self._bound[key]

    def _new(self, prefix: str, value: object) -> str:
        name = f"{prefix}{len(self.namespace)}"
        self.namespace[name] = value
        return name


def _enclosed(code: str) -> str:
    return code if code.isidentifier() else f"({code})"


def _joined(word: str, codes: Sequence[str]) -> str:
    return f" {word} ".join(map(_enclosed, codes)) if len(codes) > 1 else codes[0]


def _equality(left: Operand, right: Operand, *, negated: bool) -> str:
    """`==` or `!=` of two variables. Lists have two values at least, so a list never equals a single value."""
    if left.constant and right.code != "None":
        left, right = right, left
    one, other = left.code, right.code
    if other == "None":
        return f"{one} is not None" if negated else f"{one} is None"
    if right.constant and right.known == "text":
        return f"{one} is not None and {one} != {other}" if negated else f"{one} == {other}"
    if right.constant and right.known == "boolean":
        return f"{one} is not None and {one} is not {other}" if negated else f"{one} is {other}"
    name = _TYPES["integer"] if right.known == "integer" else _TYPES["text"]
    if negated:
        return f"{one} != {other} and {other} is not None if type({one}) is {name} else unequal({one}, {other})"
    return f"{one} == {other} if type({one}) is {name} else equal({one}, {other})"


def _ordering_guard(left: Operand, right: Operand) -> str:
    """When Python's own operator says what ours does; "" if that is never certain."""
    known = left.known or right.known or "text"
    name = _TYPES.get(known)
    if name is None or "bool" in name:
        return ""
    return " and ".join(f"type({side.code}) is {name}" for side in (left, right) if side.known != known)


def _guards(function: Function, operands: Sequence[Operand]) -> list[str] | None:
    """What makes the direct way right, [] if it always is, None if it never is certain."""
    guards = []
    for index, operand in enumerate(operands):
        parameter = function.parameter(index)
        if function.inline is not None and parameter.many == "whole" and parameter.takes_absent:
            continue
        name = _guarded_type(parameter, operand)
        if name is None:
            return None
        if not operand.constant:
            guards.append(f"type({operand.code}) is {name}")
    return guards


def _guarded_type(parameter: Parameter, operand: Operand) -> str | None:
    """The Python type for which an argument needs no further look. Constants have been looked at by the checker."""
    kind: Kind | None = "text" if "text" in parameter.kinds else "integer" if parameter.kinds == INTEGER else None
    if kind is None or parameter.many == "whole":
        return None
    if operand.constant:
        return _TYPES[kind] if operand.known == kind else None
    return None if parameter.complaint else _TYPES[kind]


def _absent_guard(function: Function, operands: Sequence[Operand]) -> str:
    """Where one argument alone varies, it is often absent, and that needs no call."""
    varying = [index for index, operand in enumerate(operands) if not operand.constant]
    if len(varying) != 1 or function.parameter(varying[0]).takes_absent:
        return ""
    return f"{operands[varying[0]].code} is None"


def _table(keys: Sequence[Node], results: Sequence[Node]) -> dict[str, object] | None:
    """A choice between constants by constant texts, as a dictionary; the first of equal keys counts."""
    table: dict[str, object] = {}
    for key, result in zip(keys, results[1:], strict=True):
        if not (isinstance(key, Constant) and isinstance(key.value, str) and isinstance(result, Constant)):
            return None
        table.setdefault(key.value, result.value)
    return table if isinstance(results[0], Constant | Attribute) else None
