"""Regular expressions of RE2, which take linear time whatever the pattern and the text."""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Any, Final

from identitymesh.errors import EvaluationError
from identitymesh.rules.expressions.evaluation import too_long
from identitymesh.rules.expressions.function import TEXT_LIMIT

PATTERN_LIMIT: Final = 1_000
NO_SUCH_GROUP: Final = "the replacement names a group that the pattern does not have"

_REFERENCE: Final = re.compile(r"\$(?:([0-9]{1,2})|\{([A-Za-z0-9_]+)\}|(\$))", re.ASCII)


def replace(text: str, pattern: str, replacement: str) -> str:
    """Every match replaced; ``$1``, ``${name}`` and ``$$`` in the replacement are two groups and a dollar sign.

    Raises:
        EvaluationError: the replacement names a group that is none, or the result is too long.
    """
    compiled = _compiled(pattern)
    parts = _parts(pattern, replacement)
    if parts is None:
        raise EvaluationError(f"RegexReplace: {NO_SUCH_GROUP}")
    length = 0

    def replaced(found: Any) -> str:
        nonlocal length
        new = "".join(part if isinstance(part, str) else found.group(part) or "" for part in parts)
        length += len(new)
        # Counted while it grows: the whole might not fit into memory.
        if length > TEXT_LIMIT:
            too_long("RegexReplace")
        return new

    result: str = compiled.sub(replaced, text)
    return result


def pattern_complaint(pattern: str) -> str:
    """What is wrong with a pattern, "" if nothing is."""
    if len(pattern) > PATTERN_LIMIT:
        return f"has more than {PATTERN_LIMIT} characters"
    try:
        _compiled(pattern)
    except _re2().error:
        return "is no regular expression that RE2 understands"
    return ""


def replacement_complaint(_text: str | None, pattern: str | None, replacement: str | None) -> str:
    """The same for a replacement, where both are constants."""
    return (
        NO_SUCH_GROUP
        if pattern is not None and replacement is not None and _parts(pattern, replacement) is None
        else ""
    )


def _re2() -> Any:
    """Imported late: most definitions have no pattern, and no command needs it for its help."""
    return importlib.import_module("re2")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = _re2().Options()
    options.log_errors = False  # RE2 would write the pattern to standard error
    return _re2().compile(pattern, options)


@lru_cache(maxsize=256)
def _parts(pattern: str, replacement: str) -> tuple[str | int, ...] | None:
    """The replacement as texts and numbers of groups; None if a group is not there."""
    compiled = _compiled(pattern)
    parts: list[str | int] = []
    end = 0
    for found in _REFERENCE.finditer(replacement):
        parts.append(replacement[end : found.start()])
        end = found.end()
        number, name, dollar = found.groups()
        group = "$" if dollar else int(number) if number or (name and name.isdigit()) else compiled.groupindex.get(name)
        if group is None or (isinstance(group, int) and group > compiled.groups):
            return None
        parts.append(group)
    parts.append(replacement[end:])
    return tuple(part for part in parts if part != "")
