"""Rows of a file as entries, a page at a time.

A page whose rows are all sound takes a short way through list comprehensions; a row that is not is looked at alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from identitymesh.connectors.checking import MAX_VALUE
from identitymesh.connectors.contract import BadEntry, Entry, Page
from identitymesh.connectors.kinds.csv.settings import CsvObject
from identitymesh.errors import ConnectorMisconfigured, ImportIncomplete
from identitymesh.model.attributes import Attributes, from_values

PAGE: Final = 250  # rows handed on at once, see Page
_LONGEST_CELL: Final = MAX_VALUE + 1  # characters; a longer one is refused by the check of entries, or never ends
_SHOWN: Final = 20  # names of columns in a message
_SHOWN_LETTERS: Final = 40
_TOO_LONG: Final = "field larger than field limit"  # the reader has one class of errors for everything
_UNCLOSED: Final = "unexpected end of data"

Row = list[str]


@dataclass(slots=True)
class Course:
    """How far a read came. ``rows`` are those of people, sound and bad; ``number`` counts as a spreadsheet does."""

    number: int = 0
    rows: int = 0
    trailer: Row | None = None  # the closing row
    after_trailer: bool = False  # rows stood behind it
    last_bad: bool = False  # the last row so far could not be taken
    unclosed: bool = False  # the file ended inside a quote
    lines: int = 0  # rows of any kind, the names of the columns and empty ones too


def row_reader(text: Iterable[str], selected: CsvObject) -> Iterator[Row]:
    """The rows of a text. Strict: a quote that never ends, and text after a closing quote, raise ``csv.Error``."""
    # The limit is the process's. It must admit what is refused later, with the name of its column.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    quoting: Any = csv.QUOTE_MINIMAL if selected.quote else csv.QUOTE_NONE
    return csv.reader(
        text,
        delimiter=selected.delimiter,
        quotechar=selected.quote or None,
        escapechar=selected.escape,
        quoting=quoting,
        strict=True,
    )


def column_names(reader: Iterator[Row], selected: CsvObject, course: Course) -> list[str]:
    """The names of the columns, in order, without spaces around them; an unnamed column is called ``""``.

    Raises:
        ConnectorMisconfigured: a name comes twice, or the key is not among them.
        ImportIncomplete: the file has no row of names, or one that ends in the middle.
    """
    if selected.columns is not None:
        names = list(selected.columns)
    else:
        try:
            row = next(reader, None)
        except (csv.Error, UnicodeError) as error:
            raise ImportIncomplete(f"the names of the columns in {selected.path} cannot be read: {error}") from error
        course.number = course.lines = 1
        if row is None or not row:
            raise ImportIncomplete(
                f"{selected.path} has no row of column names" + (" in its first line" if row is not None else ""),
                hint="An empty file is not believed. Name the columns as `columns` if the file never has such a row.",
            )
        names = [name.strip() for name in row]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ConnectorMisconfigured(
            f"{selected.path} has two columns {_shown(twice[:1])}", hint="Give one of them another name."
        )
    if selected.key not in names:
        raise _missing(selected, names, selected.key, "to be the key")
    return names


def _missing(selected: CsvObject, names: Sequence[str], name: str, role: str) -> ConnectorMisconfigured:
    hint = f"The columns are: {_shown(names)}. Upper and lower case matter."
    if len(names) == 1:
        hint = f"There is one column only: check the delimiter, which is {selected.delimiter!r}."
    return ConnectorMisconfigured(f"{selected.path} has no column {name} {role}", hint=hint)


def _shown(names: Sequence[str]) -> str:
    cut = [name if len(name) <= _SHOWN_LETTERS else name[:_SHOWN_LETTERS] + "…" for name in names[:_SHOWN]]
    return ", ".join(cut) + (", …" if len(names) > _SHOWN else "")


class Rows:
    """Turns rows into entries. ``wanted`` are attributes (none: all); ``spoilt`` asks whether text may be undecodable.

    Raises:
        ConnectorMisconfigured: a wanted column is not there.
    """

    def __init__(
        self, selected: CsvObject, names: Sequence[str], wanted: Sequence[str], spoilt: Callable[[], bool]
    ) -> None:
        for name in [*wanted, *selected.several]:
            if name not in names:
                raise _missing(selected, names, name, "which a rule uses" if name in wanted else "to have several")
        asked = set(wanted)
        self._selected = selected
        self._spoilt = spoilt
        self._width = len(names)
        self._key = names.index(selected.key)
        self._columns = [(name, at) for at, name in enumerate(names) if name and (name in asked or not asked)]
        self._names = [name for name, _ in self._columns]
        self._cells = _picker([at for _, at in self._columns], self._width)
        self._several = [(name, mark) for name, mark in selected.several.items() if name in asked or not asked]

    def pages(self, reader: Iterator[Row], course: Course) -> Iterator[Page]:
        """All pages.

        Raises:
            ImportIncomplete: the rest of the file cannot be told apart into rows.
        """
        while True:
            rows: list[Row] = []
            failure = ""
            try:
                rows.extend(islice(reader, PAGE))  # keeps what came before a row that cannot be read
            except csv.Error as error:
                failure = str(error)
            except UnicodeError as error:
                raise ImportIncomplete(
                    f"{self._selected.path} is not {self._selected.encoding} after row {course.number + len(rows):,}",
                    hint="Check `encoding`, or have the file written anew.",
                ) from error
            if failure.startswith(_TOO_LONG):
                raise ImportIncomplete(
                    f"row {course.number + len(rows) + 1:,} of {self._selected.path} has a cell of more than "
                    f"{_LONGEST_CELL:,} characters; perhaps a quote is never closed"
                )
            if not rows and not failure:
                return
            yield self._page(rows, failure, course)

    def _page(self, rows: list[Row], failure: str, course: Course) -> Page:
        first = course.number + 1
        course.number += len(rows)
        course.lines += len(rows)
        numbers: Sequence[int] = range(first, first + len(rows))
        rows, numbers = self._without_trailer(rows, numbers, course)
        entries: list[Entry] = []
        bad: list[BadEntry] = []
        if rows and not self._spoilt() and self._sound(rows):
            entries = self._entries(rows)
            course.last_bad = False
        else:
            numbers, entries = self._one_by_one(rows, numbers, bad, course)
        if failure:
            course.number += 1
            course.lines += 1
            course.last_bad = True
            course.unclosed = failure.startswith(_UNCLOSED)
            course.after_trailer |= course.trailer is not None
            bad.append(BadEntry(f"the row cannot be read: {failure}", None, f"row {course.number:,}"))
        course.rows += len(entries) + len(bad)
        return Page(entries, bad, where=lambda at: f"row {numbers[at]:,}")

    def _without_trailer(
        self, rows: list[Row], numbers: Sequence[int], course: Course
    ) -> tuple[list[Row], Sequence[int]]:
        expect = self._selected.expect
        if expect is None or expect.trailer is None:
            return rows, numbers
        if course.trailer is not None:
            course.after_trailer |= any(rows)
            return rows, numbers
        beginnings = [row[0] if row else None for row in rows]
        if expect.trailer not in beginnings:
            return rows, numbers
        at = beginnings.index(expect.trailer)
        course.trailer = rows[at]
        course.after_trailer = any(rows[at + 1 :])
        return [*rows[:at], *rows[at + 1 :]], [*numbers[:at], *numbers[at + 1 :]]

    def _sound(self, rows: list[Row]) -> bool:
        if set(map(len, rows)) != {self._width}:
            return False
        key = self._key
        keys = [row[key] for row in rows]
        return self._selected.absent not in keys and "" not in keys and not any(map(str.isspace, keys))

    def _entries(self, rows: list[Row]) -> list[Entry]:
        key, absent, columns = self._key, self._selected.absent, self._columns
        names, cells = self._names, self._cells
        new = tuple.__new__  # what Entry() does, in half the time
        entries = [
            new(
                Entry,
                (
                    row[key],
                    dict(zip(names, cells(row)))  # noqa: B905  as many of both
                    if absent not in row  # most rows of most files
                    else {name: cell for name, at in columns if (cell := row[at]) != absent},
                    None,
                    None,
                ),
            )
            for row in rows
        ]
        for name, mark in self._several:
            for entry in entries:
                _split(entry.attributes, name, mark)
        return entries

    def _one_by_one(
        self, rows: list[Row], numbers: Sequence[int], bad: list[BadEntry], course: Course
    ) -> tuple[list[int], list[Entry]]:
        kept: list[int] = []
        entries: list[Entry] = []
        for row, number in zip(rows, numbers, strict=True):
            if not row:
                continue  # an empty line
            fault = self._fault(row)
            course.last_bad = fault is not None
            if fault is None:
                kept.append(number)
                entries += self._entries([row])
            else:
                bad.append(BadEntry(fault[0], fault[1], f"row {number:,}"))
        return kept, entries

    def _fault(self, row: Row) -> tuple[str, str | None] | None:
        """Why this row cannot be taken, and its key if it can be read."""
        key = row[self._key] if self._key < len(row) else ""
        readable = bool(key.strip()) and key != self._selected.absent and _decoded(key)
        if len(row) != self._width:
            # A cell too many or too few may stand before the key, and a row of several lines may have swallowed others.
            believed = readable and self._key == 0 and not any("\n" in cell or "\r" in cell for cell in row)
            return f"it has {len(row):,} cells; there are {self._width:,} columns", key if believed else None
        if not readable:
            undecodable = not _decoded(key)
            return self._undecodable(self._selected.key) if undecodable else "the key is empty", None
        for name, at in self._columns:
            if not _decoded(row[at]):
                return self._undecodable(name), key
        return None

    def _undecodable(self, name: str) -> str:
        return f"column {name} has bytes that are not {self._selected.encoding}"


def _picker(places: Sequence[int], width: int) -> Callable[[Row], Iterable[str]]:
    """Takes the cells at these places out of a row."""
    if list(places) == list(range(width)):
        return iter
    if len(places) < 2:  # itemgetter gives one thing as itself
        return lambda row: [row[at] for at in places]
    return itemgetter(*places)


def _decoded(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split(attributes: Attributes, name: str, mark: str) -> None:
    cell = attributes.get(name)
    if isinstance(cell, str) and mark in cell:
        values = from_values([part for part in cell.split(mark) if part])
        if values is None:
            del attributes[name]
        else:
            attributes[name] = values
