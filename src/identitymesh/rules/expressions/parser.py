"""From text to tree.

The grammar is LALR and its tree is made bottom-up without recursion, so no text, however deep, can exhaust the stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from identitymesh.errors import ExpressionError
from identitymesh.rules.expressions.kinds import INTEGER_LIMIT
from identitymesh.rules.expressions.tree import (
    And,
    Attribute,
    Call,
    Comparison,
    Constant,
    Negative,
    Node,
    Not,
    Operator,
    Or,
    Position,
)

if TYPE_CHECKING:
    from lark import Lark, Token, UnexpectedInput, UnexpectedToken

LENGTH_LIMIT: Final = 10_000
DEPTH_LIMIT: Final = 50

# Brackets in an attribute's name are balanced, two deep: [emails[type eq "work"].value].
GRAMMAR: Final = r"""
?start: expression
?expression: conjunction
           | conjunction (_OR conjunction)+       -> any_of
?conjunction: negation
            | negation (_AND negation)+           -> all_of
?negation: comparison
         | NOT negation                           -> inverse
?comparison: signed
           | signed COMPARATOR signed             -> compare
?signed: atom
       | MINUS signed                             -> negative
?atom: TEXT                                       -> text
     | INTEGER                                    -> integer
     | DECIMAL                                    -> decimal
     | TRUE                                       -> true
     | FALSE                                      -> false
     | NULL                                       -> null
     | ATTRIBUTE                                  -> attribute
     | NAME _OPEN (expression (_COMMA expression)*)? _CLOSE -> call
     | _OPEN expression _CLOSE                    -> group

_OR.2: /or(?![a-z0-9_])/i
_AND.2: /and(?![a-z0-9_])/i
NOT.2: /not(?![a-z0-9_])/i
TRUE.2: /true(?![a-z0-9_])/i
FALSE.2: /false(?![a-z0-9_])/i
NULL.2: /null(?![a-z0-9_])/i
NAME: /[a-z_][a-z0-9_]*/i
ATTRIBUTE: /\[[^\[\]\n]*(?:\[[^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)*\][^\[\]\n]*)*\]/
TEXT: /"[^"\\\n]*(?:\\.[^"\\\n]*)*"/
DECIMAL.2: /[0-9]+\.[0-9]+/
INTEGER: /[0-9]+/
COMPARATOR: /==|!=|<=|>=|<|>/
MINUS: "-"
_OPEN: "("
_CLOSE: ")"
_COMMA: ","
SPACE: /[ \t\r\n]+/
%ignore SPACE
"""


class _Part(NamedTuple):
    node: Node
    depth: int


def parse(text: str, spelling: Mapping[str, str] | None = None) -> Node:
    """The tree of an expression.

    ``spelling`` gives the canonical name of a function for its name in lower case; names it does not have stay as
    they are written, for the checker to judge.

    Raises:
        ExpressionError: the text is no expression, or is too long or too deep; says where.
    """
    from lark import UnexpectedInput

    if len(text) > LENGTH_LIMIT:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {LENGTH_LIMIT} are allowed")
    _refuse_control_characters(text)
    if not text.strip():
        raise ExpressionError("the expression is empty", hint='For a text that is empty write "".')
    try:
        part = cast("_Part", _grammar().parse(text))
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    return _spelled(part.node, spelling) if spelling else part.node


@cache
def _grammar() -> Lark:
    """Building the tables takes longer than parsing a hundred expressions, and nobody needs them before the first."""
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="contextual", transformer=_TreeBuilder())


def _spelled(node: Node, spelling: Mapping[str, str]) -> Node:
    match node:
        case Call():
            name = spelling.get(node.function.lower(), node.function)
            return Call(name, tuple(_spelled(one, spelling) for one in node.arguments), node.at)
        case Comparison():
            return Comparison(node.operator, _spelled(node.left, spelling), _spelled(node.right, spelling), node.at)
        case And() | Or():
            return type(node)(tuple(_spelled(one, spelling) for one in node.operands), node.at)
        case Not() | Negative():
            return type(node)(_spelled(node.operand, spelling), node.at)
        case _:
            return node


class _TreeBuilder:
    """One method for each alternative of the grammar that has a name. lark wants an object; it holds no state."""

    def any_of(self, parts: Sequence[_Part]) -> _Part:
        return _above(Or(tuple(part.node for part in parts), parts[0].node.at), parts)

    def all_of(self, parts: Sequence[_Part]) -> _Part:
        return _above(And(tuple(part.node for part in parts), parts[0].node.at), parts)

    def inverse(self, children: Sequence[Any]) -> _Part:
        return _above(Not(children[1].node, _at(children[0])), children[1:])

    def negative(self, children: Sequence[Any]) -> _Part:
        return _above(Negative(children[1].node, _at(children[0])), children[1:])

    def compare(self, children: Sequence[Any]) -> _Part:
        left, operator, right = children
        node = Comparison(cast("Operator", str(operator)), left.node, right.node, left.node.at)
        return _above(node, (left, right))

    def call(self, children: Sequence[Any]) -> _Part:
        arguments = children[1:]
        return _above(Call(str(children[0]), tuple(part.node for part in arguments), _at(children[0])), arguments)

    def group(self, parts: Sequence[_Part]) -> _Part:
        return _above(parts[0].node, parts)

    def attribute(self, tokens: Sequence[Token]) -> _Part:
        name, at = str(tokens[0])[1:-1], _at(tokens[0])
        if not name.strip():
            raise _error("the attribute has no name", at)
        return _Part(Attribute(name, at), 1)

    def text(self, tokens: Sequence[Token]) -> _Part:
        return _Part(Constant(_unescaped(tokens[0]), _at(tokens[0])), 1)

    def integer(self, tokens: Sequence[Token]) -> _Part:
        digits = tokens[0].lstrip("0")
        # The length comes first: Python refuses to read numbers of thousands of digits.
        if len(digits) > len(str(INTEGER_LIMIT)) or int(digits or "0") >= INTEGER_LIMIT:
            raise _error(f"the number is too large; at most {INTEGER_LIMIT - 1}", _at(tokens[0]))
        return _Part(Constant(int(digits or "0"), _at(tokens[0])), 1)

    def decimal(self, tokens: Sequence[Token]) -> _Part:
        value = float(tokens[0])
        if value == float("inf"):
            raise _error("the number is too large", _at(tokens[0]))
        return _Part(Constant(value, _at(tokens[0])), 1)

    def true(self, tokens: Sequence[Token]) -> _Part:
        return _Part(Constant(value=True, at=_at(tokens[0])), 1)

    def false(self, tokens: Sequence[Token]) -> _Part:
        return _Part(Constant(value=False, at=_at(tokens[0])), 1)

    def null(self, tokens: Sequence[Token]) -> _Part:
        return _Part(Constant(None, _at(tokens[0])), 1)


def _above(node: Node, parts: Sequence[_Part]) -> _Part:
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > DEPTH_LIMIT:
        raise _error(f"the expression is nested too deeply; at most {DEPTH_LIMIT} levels are allowed", node.at)
    return _Part(node, depth)


def _at(token: Token) -> Position:
    return Position(token.line or 1, token.column or 1)


def _error(message: str, at: Position, hint: str | None = None) -> ExpressionError:
    return ExpressionError(message, line=at.line, column=at.column, hint=hint)


def _position_of(text: str, offset: int) -> Position:
    line_start = text.rfind("\n", 0, offset) + 1
    return Position(text.count("\n", 0, offset) + 1, offset - line_start + 1)


_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _refuse_control_characters(text: str) -> None:
    """Control characters hide what an expression says; lone surrogates cannot be stored."""
    if found := _FORBIDDEN.search(text):
        at = _position_of(text, found.start())
        hint = "Write it inside a text as \\u and four hexadecimal digits."
        raise _error(f"the character U+{ord(found.group()):04X} is not allowed", at, hint)


_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPED: Final = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def _unescaped(token: Token) -> str:
    """The text that a literal stands for. Two escapes that form a surrogate pair are one character."""

    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if found[2] not in _ESCAPED:
            at = _at(token)
            raise _error(
                f"\\{found[2]} means nothing in a text",
                Position(at.line, at.column + found.start() + 1),
                'Known are \\" \\\\ \\n \\r \\t and \\u with four hexadecimal digits.',
            )
        return _ESCAPED[found[2]]

    body = str(token)[1:-1]
    if "\\" not in body:
        return body
    text = _ESCAPE.sub(replaced, body)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _error("half of a surrogate pair is no character", _at(token)) from None


_ADVICE: Final = {
    '"': "the text is not closed; its closing quote is missing",
    "[": "the attribute is not closed; its closing bracket is missing",
    "'": 'texts stand in double quotes: "…"',
    "=": "two values are compared with ==",
    "!": "write != or not",
    "&": "write and for conditions, Concat for texts",
    "|": "write or",
    "+": "there is no arithmetic; texts are put together with Concat",
    "*": "there is no arithmetic",
    "/": "there is no arithmetic",
    "{": "attributes stand in brackets: [name]",
}


def _explained(error: UnexpectedInput, text: str) -> ExpressionError:
    from lark import UnexpectedCharacters, UnexpectedToken

    if isinstance(error, UnexpectedToken):
        return _unexpected_token(error, text)
    if isinstance(error, UnexpectedCharacters):
        message = _ADVICE.get(error.char, f"the character {error.char} has no meaning here")
        return _error(message, Position(error.line, error.column))
    return ExpressionError("this is not an expression")


_BARE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?=\s*\Z)")


def _unexpected_token(error: UnexpectedToken, text: str) -> ExpressionError:
    token, expected = error.token, error.expected
    ended = token.type == "$END"
    before = text if ended else text[: token.start_pos]
    if set(expected) == {"_OPEN"} and (name := _BARE_NAME.search(before)):
        message = f"{name.group()} is neither an attribute nor a function; attributes stand in brackets: [name]"
        return _error(message, _position_of(text, name.start()), 'Texts stand in double quotes: "…".')
    if ended:
        missing = "a closing parenthesis is missing" if "_CLOSE" in expected else "a value is missing"
        return _error(f"the expression ends too early; {missing}", _position_of(text, len(text.rstrip())))
    if token.type == "COMPARATOR" and "_AND" in expected:
        return _error("comparisons do not chain; join two of them with and", _at(token))
    return _error(f"{token} is not expected here", _at(token))
