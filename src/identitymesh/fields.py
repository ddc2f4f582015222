"""Settings that say themselves what may stand in them: a frozen dataclass whose fields :func:`setting` makes.

A value comes from TOML with its type, or from a variable as text; both are taken. This is little, and on purpose not
pydantic: every command reads the settings, and some should answer before pydantic would be imported
(``docs/decisions/command-line-answers-first.md``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

Number = TypeVar("Number", int, float)

_YES: Final = ("true", "yes", "on", "1", "t", "y")
_NO: Final = ("false", "no", "off", "0", "f", "n")


class Refused(ValueError):
    """``problems``: name of a field, and what is wrong with its value. Never the value, it could be a password."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in problems))
        self.problems = problems


class Kind:
    """What may stand in a field: ``words`` for the reference, ``read`` gives the value or raises ``ValueError``."""

    def __init__(self, words: str, read: Callable[[object], Any]) -> None:
        self.words = words
        self.read = read


def setting(default: Any, kind: Kind, meaning: str) -> Any:
    """A field. With the default ``None`` it may be left out; ``meaning`` stands in the reference."""
    return dataclasses.field(default=default, metadata={"kind": kind, "meaning": meaning})


@dataclasses.dataclass(frozen=True)
class Part:
    """Settings that belong together. Subclasses are frozen dataclasses, too, and check what they are given.

    Raises:
        Refused: with every field that is wrong.
    """

    def __post_init__(self) -> None:
        problems: list[tuple[str, str]] = []
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if value == one.default and type(value) is type(one.default):
                continue
            try:
                object.__setattr__(self, one.name, one.metadata["kind"].read(value))
            except ValueError as error:
                problems.append((one.name, str(error)))
        if problems:
            raise Refused(problems)


def described(part: type[Part]) -> Iterator[tuple[str, Kind, Any, str]]:
    """Name, kind, default and meaning of every field."""
    for one in dataclasses.fields(part):
        yield one.name, one.metadata["kind"], one.default, one.metadata["meaning"]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def text_that(check: Callable[[str], str]) -> Kind:
    """Text that ``check`` answers as it is meant, or refuses with a ``ValueError``."""
    return Kind("text", lambda value: check(_text(value)))


def one_of(*choices: str) -> Kind:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return Kind(", ".join(f"`{choice}`" for choice in choices), read)


def whole(least: int, most: int) -> Kind:
    """A whole number between two, both included."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("must be a whole number")
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        return _between(number, least, most)

    return Kind(f"whole number, at least {least}, at most {most}", read)


def number(least: float, most: float | None = None) -> Kind:
    """A number between two, both included."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError("must be a number")
        try:
            given = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(given):
            raise ValueError("must be a number")
        return _between(given, least, most)

    return Kind(f"number, at least {least:g}" + ("" if most is None else f", at most {most:g}"), read)


def _between(given: Number, least: float, most: float | None) -> Number:
    if given < least:
        raise ValueError(f"must be at least {least:g}")
    if most is not None and given > most:
        raise ValueError(f"must be at most {most:g}")
    return given


def _yes_or_no(value: object) -> bool:
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    if word not in _YES + _NO:
        raise ValueError("must be true or false")
    return word in _YES


def _path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be a path")
    return Path(value)


TEXT: Final = Kind("text", _text)
PATH: Final = Kind("path", _path)
YES_OR_NO: Final = Kind("`true` or `false`", _yes_or_no)
