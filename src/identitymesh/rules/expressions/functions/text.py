"""Texts. Characters are counted as Unicode code points, places from 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from identitymesh.model.attributes import Value, from_values
from identitymesh.rules.expressions.evaluation import too_long
from identitymesh.rules.expressions.function import TEXT_LIMIT, Example, Function, Parameter
from identitymesh.rules.expressions.functions import patterns
from identitymesh.rules.expressions.functions.diacritics import LETTERS, without_diacritics
from identitymesh.rules.expressions.functions.lists import counts_from_one
from identitymesh.rules.expressions.kinds import INTEGER, TEXT, TEXT_OR_INTEGER

_INLINE_LIMIT: Final = 20


def _join(separator: str, *groups: Sequence[str | int]) -> str | None:
    texts = [str(one) for group in groups for one in group]
    if sum(map(len, texts)) + len(separator) * (len(texts) - 1) > TEXT_LIMIT:
        too_long("Join")
    return separator.join(texts) if texts else None


def _concat(*values: str | int) -> str:
    texts = list(map(str, values))
    if sum(map(len, texts)) > TEXT_LIMIT:
        too_long("Concat")
    return "".join(texts)


def _inline_concat(operands: Sequence[str]) -> str | None:
    """Not for many: the length is looked at afterwards, and by then the text should not have filled the memory."""
    return 'f"' + "".join(f"{{{one}}}" for one in operands) + '"' if len(operands) <= _INLINE_LIMIT else None


def _split(text: str, delimiter: str) -> Value | None:
    return from_values(list(text.split(delimiter)))


def _left(text: str, count: int) -> str:
    return text[:count]


def _right(text: str, count: int) -> str:
    return text[-count:] if count else ""


def _mid(text: str, start: int, count: int | None = None) -> str:
    return text[start - 1 :] if count is None else text[start - 1 : start - 1 + count]


def _inline_mid(operands: Sequence[str]) -> str:
    text, start, *count = operands
    return f"{text}[{start} - 1:{start} - 1 + {count[0]}]" if count else f"{text}[{start} - 1:]"


def _in_str(text: str, search: str) -> int:
    return text.find(search) + 1


def _replace(text: str, old: str, new: str) -> str:
    # Looked at before it is made: the whole might not fit into memory.
    if len(new) > len(old) and len(text) + text.count(old) * (len(new) - len(old)) > TEXT_LIMIT:
        too_long("Replace")
    return text.replace(old, new)


def _not_negative(count: int) -> str:
    return "" if count >= 0 else "must not be negative"


def _not_empty(text: str) -> str:
    return "" if text else "must not be empty"


_TEXT: Final = Parameter("text", TEXT, many="each")
_NUM_CHARS: Final = Parameter("numChars", INTEGER, complaint=_not_negative)
_START: Final = Parameter("start", INTEGER, complaint=counts_from_one)
_SPECIAL_LETTERS: Final = ", ".join(f"{letter}→{plain}" for letter, plain in LETTERS.items() if letter.islower())

FUNCTIONS: Final = (
    Function(
        name="ToLower",
        summary="All letters in lower case.",
        parameters=(_TEXT,),
        result=TEXT,
        call=str.lower,
        inline="{0[0]}.lower()".format,
        grows=True,
        examples=(
            Example("ToLower([mail])", {"mail": "Ada@Example.ORG"}, "ada@example.org"),
            Example("ToLower([mail])", {"mail": ["A@x.org", "B@x.org"]}, ["a@x.org", "b@x.org"]),
            Example("ToLower([mail])", {}, None),
        ),
    ),
    Function(
        name="ToUpper",
        summary="All letters in upper case.",
        parameters=(_TEXT,),
        result=TEXT,
        call=str.upper,
        inline="{0[0]}.upper()".format,
        grows=True,
        examples=(Example("ToUpper([country])", {"country": "de"}, "DE"),),
    ),
    Function(
        name="Trim",
        summary="The text without white space at its start and end.",
        parameters=(_TEXT,),
        result=TEXT,
        call=str.strip,
        inline="{0[0]}.strip()".format,
        examples=(
            Example("Trim([name])", {"name": "  Ada  Lovelace "}, "Ada  Lovelace"),
            Example("Trim([name])", {"name": " "}, ""),
        ),
    ),
    Function(
        name="Concat",
        summary="All parts put together.",
        parameters=(Parameter("part", TEXT_OR_INTEGER),),
        result=TEXT,
        call=_concat,
        inline=_inline_concat,
        repeats=1,
        grows=True,
        notes="If one part is absent, the result is; `Join` leaves absent parts out.",
        examples=(
            Example('Concat([first], " ", [last])', {"first": "Ada", "last": "Lovelace"}, "Ada Lovelace"),
            Example('Concat([first], " ", [last])', {"first": "Ada", "last": ""}, "Ada "),
            Example('Concat([first], " ", [last])', {"first": "Ada"}, None),
            Example('Concat("E", [number])', {"number": 4711}, "E4711"),
        ),
    ),
    Function(
        name="Join",
        summary="All values of all arguments in one text, with the separator between them.",
        parameters=(
            Parameter("separator", TEXT),
            Parameter("value", TEXT_OR_INTEGER, many="whole", takes_absent=True),
        ),
        result=TEXT,
        call=_join,
        repeats=1,
        grows=True,
        notes="Absent values are left out; empty texts are not. Without any value the result is absent.",
        examples=(
            Example('Join(" ", [first], [middle], [last])', {"first": "Ada", "last": "Lovelace"}, "Ada Lovelace"),
            Example('Join(", ", [phone])', {"phone": ["1", "2"]}, "1, 2"),
            Example('Join("-", [site], [floor])', {"site": "B", "floor": 3}, "B-3"),
            Example('Join(", ", [phone])', {}, None),
        ),
    ),
    Function(
        name="Split",
        summary="The pieces of a text between the delimiters, as several values.",
        parameters=(Parameter("text", TEXT), Parameter("delimiter", TEXT, complaint=_not_empty)),
        result=TEXT,
        call=_split,
        notes="Empty pieces are kept. A text without delimiter is its only piece.",
        examples=(
            Example('Split([path], "/")', {"path": "a/b//c"}, ["a", "b", "", "c"]),
            Example('Split([path], "/")', {"path": "a"}, "a"),
            Example('Item(Split([mail], "@"), 2)', {"mail": "ada@example.org"}, "example.org"),
        ),
    ),
    Function(
        name="Left",
        summary="The first characters; the whole text if it has no more.",
        parameters=(_TEXT, _NUM_CHARS),
        result=TEXT,
        call=_left,
        inline="{0[0]}[:{0[1]}]".format,
        notes="A negative number is an error, where Entra and MIM give the whole text.",
        examples=(
            Example("Left([name], 3)", {"name": "Lovelace"}, "Lov"),
            Example("Left([name], 30)", {"name": "Lovelace"}, "Lovelace"),
            Example("Left([name], 0)", {"name": "Lovelace"}, ""),
        ),
    ),
    Function(
        name="Right",
        summary="The last characters; the whole text if it has no more.",
        parameters=(_TEXT, _NUM_CHARS),
        result=TEXT,
        call=_right,
        notes="A negative number is an error, where Entra and MIM give the whole text.",
        examples=(
            Example("Right([number], 4)", {"number": "0004711"}, "4711"),
            Example("Right([number], 0)", {"number": "0004711"}, ""),
            Example("Right([number], 30)", {"number": "0004711"}, "0004711"),
        ),
    ),
    Function(
        name="Mid",
        summary="Characters from the middle; `start` counts from 1. Without `numChars` all the rest.",
        parameters=(_TEXT, _START, Parameter("numChars", INTEGER, optional=True, complaint=_not_negative)),
        result=TEXT,
        call=_mid,
        inline=_inline_mid,
        notes="Behind the end of the text there is the empty text. A start below 1 and a negative number of characters "
        "are errors. Entra and MIM give the whole text in these cases.",
        examples=(
            Example("Mid([name], 3, 5)", {"name": "John Doe"}, "hn Do"),
            Example("Mid([name], 6, 999)", {"name": "John Doe"}, "Doe"),
            Example("Mid([name], 6)", {"name": "John Doe"}, "Doe"),
            Example("Mid([name], 9, 2)", {"name": "John Doe"}, ""),
        ),
    ),
    Function(
        name="Length",
        summary="The number of characters.",
        parameters=(_TEXT,),
        result=INTEGER,
        call=len,
        inline="len({0[0]})".format,
        notes="`Count` gives the number of values.",
        examples=(
            Example("Length([name])", {"name": "Zoë"}, 3),
            Example("Length([name])", {"name": ""}, 0),
            Example("Length([name])", {"name": ["Ada", "Al"]}, [3, 2]),
        ),
    ),
    Function(
        name="InStr",
        summary="The place at which `search` first starts in the text, counted from 1; 0 if nowhere.",
        parameters=(_TEXT, Parameter("search", TEXT, complaint=_not_empty)),
        result=INTEGER,
        call=_in_str,
        inline="{0[0]}.find({0[1]}) + 1".format,
        examples=(
            Example('InStr([title], "Manager") > 0', {"title": "Sales Manager"}, True),
            Example('InStr([mail], "@")', {"mail": "ada@example.org"}, 4),
            Example('InStr([mail], "@")', {"mail": "none"}, 0),
        ),
    ),
    Function(
        name="Replace",
        summary="Every `old` in the text replaced by `new`; upper and lower case differ.",
        parameters=(_TEXT, Parameter("old", TEXT, complaint=_not_empty), Parameter("new", TEXT)),
        result=TEXT,
        call=_replace,
        grows=True,
        examples=(
            Example('Replace([phone], " ", "")', {"phone": "+49 30 1234"}, "+49301234"),
            Example('Replace([lines], "\\n", ", ")', {"lines": "1 Main St\nBonn"}, "1 Main St, Bonn"),
        ),
    ),
    Function(
        name="RegexReplace",
        summary="Every match of a regular expression replaced.",
        parameters=(
            _TEXT,
            Parameter("pattern", TEXT, complaint=patterns.pattern_complaint),
            Parameter("replacement", TEXT),
        ),
        result=TEXT,
        call=patterns.replace,
        grows=True,
        complaint=patterns.replacement_complaint,
        notes="The syntax is that of RE2: no look-around, no back-references, and linear time. In the replacement `$1` "
        "and `${name}` are groups, `$0` is the whole match and `$$` a dollar sign. `(?i)` at the start ignores case. "
        "A backslash in a pattern is written twice, because texts have escapes.",
        examples=(
            Example('RegexReplace([phone], "[^0-9+]", "")', {"phone": "+49 (30) 12-34"}, "+49301234"),
            Example('RegexReplace([name], "^(\\\\w+), (\\\\w+)$", "$2 $1")', {"name": "Lovelace, Ada"}, "Ada Lovelace"),
            Example('RegexReplace([n], "(?P<a>x)|y", "<${a}>$$")', {"n": "xyz"}, "<x>$<>$z"),
        ),
    ),
    Function(
        name="NormalizeDiacritics",
        summary="Latin letters without accents: ä→a, é→e, ş→s.",
        parameters=(_TEXT,),
        result=TEXT,
        call=without_diacritics,
        grows=True,
        notes=f"Letters that carry no accent but are not plain either: {_SPECIAL_LETTERS}; likewise in upper case. "
        "(Entra writes ø as oe.) Letters of other scripts stay as they are.",
        examples=(
            Example("NormalizeDiacritics([name])", {"name": "Zoë Ångström-Łukasiewicz"}, "Zoe Angstrom-Lukasiewicz"),
            Example("NormalizeDiacritics([name])", {"name": "Weiß Sørensen Þór"}, "Weiss Sorensen THor"),
            Example("NormalizeDiacritics([name])", {"name": "Юрий Ğalib"}, "Юрий Galib"),
        ),
    ),
)
