"""Reading people from a file of comma separated values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from identitymesh.connectors.contract import AttributeInfo, Complete, Entry, Page, TestReport
from identitymesh.connectors.kinds.csv.files import WatchedFile, expected_sha256, open_watched
from identitymesh.connectors.kinds.csv.rows import Course, Row, Rows, column_names, row_reader
from identitymesh.connectors.kinds.csv.settings import CsvObject, CsvSettings
from identitymesh.errors import ConnectorMisconfigured
from identitymesh.model.attributes import Value, values_of

_UNPROVEN = "nothing says when the file is whole (`expect`)"


@dataclass(frozen=True, slots=True)
class _Reading:
    """One file that is being read."""

    selected: CsvObject
    watched: WatchedFile
    reader: Iterator[Row]
    names: list[str]
    course: Course
    sha256: str  # expected; empty if nothing is

    def pages(self, wanted: Sequence[str]) -> Iterator[Page]:
        rows = Rows(self.selected, self.names, wanted, lambda: self.watched.spoilt)
        return rows.pages(self.reader, self.course)

    def conclusion(self) -> Page:
        """The last page: the proof that everything was read, or why there is none."""
        path, course = self.selected.path, self.course
        whole = self.watched.change() or self._end()
        if whole:
            return Page(incomplete=whole)
        expect = self.selected.expect
        if expect is None:
            return Page(complete=Complete(course.rows, f"{course.rows:,} rows to the end of the file", _UNPROVEN))
        proofs: list[str] = []
        if expect.min_rows is not None:
            if course.rows < expect.min_rows:
                return Page(incomplete=f"{path} has {course.rows:,} rows; expected are at least {expect.min_rows:,}")
            proofs.append(f"at least {expect.min_rows:,} expected")
        if expect.trailer is not None:
            proofs.append(f"closing row {expect.trailer}")
        if expect.sha256_file is not None:
            if self.watched.sha256 != self.sha256:
                return Page(incomplete=f"{path} does not have the SHA-256 of {expect.sha256_file}")
            proofs.append("its SHA-256")
        return Page(complete=Complete(course.rows, f"{course.rows:,} rows, {', '.join(proofs)}"))

    def _end(self) -> str:
        """Why the file does not end as a whole one does."""
        path, course, expect = self.selected.path, self.course, self.selected.expect
        if course.unclosed:
            return f"{path} ends inside a quote, so its last row is cut off"
        if expect is not None and expect.trailer is not None:
            return self._closing(expect.trailer)
        if self.watched.ends_with_newline() or (expect is not None and expect.sha256_file is not None):
            return ""
        if course.last_bad:
            return f"the last row of {path} is cut off"
        if self.selected.final_newline and course.lines > 1:  # one row alone shows no habit
            return f"the last row of {path} has no line break at its end, so it may be cut off"
        return ""

    def _closing(self, trailer: str) -> str:
        path, course = self.selected.path, self.course
        if course.trailer is None:
            return f"{path} has no closing row {trailer}"
        if course.after_trailer:
            return f"{path} has rows after its closing row {trailer}"
        counted = course.trailer[1].strip() if len(course.trailer) > 1 else ""
        if counted.isdecimal() and int(counted) != course.rows:
            return f"the closing row of {path} counts {int(counted):,} rows, but there are {course.rows:,}"
        return ""


@contextmanager
def _open(selected: CsvObject) -> Iterator[_Reading]:
    sha256_file = None if selected.expect is None else selected.expect.sha256_file
    sha256 = "" if sha256_file is None else expected_sha256(sha256_file)
    with open_watched(selected) as (watched, text):
        course = Course()
        reader = row_reader(text, selected)
        yield _Reading(selected, watched, reader, column_names(reader, selected, course), course, sha256)


class CsvSource:
    """Implements TestOp, SchemaOp, SearchOp, GetOp and LookupOp. The last two read the file from its beginning."""

    def __init__(self, settings: CsvSettings) -> None:
        self._settings = settings

    def close(self) -> None:
        """Nothing is open between two calls."""

    def test(self) -> TestReport:
        details: dict[str, str] = {}
        for object_class, selected in self._settings.objects.items():
            with _open(selected) as reading:
                sample = next(reading.pages(()), Page())
                names = ", ".join(name for name in reading.names if name)
            found = Path(selected.path).stat()
            written = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds")
            rows = "has rows" if sample.entries else f"first rows: {sample.bad[0].reason}" if sample.bad else "is empty"
            proof = "" if selected.expect is not None else f"; {_UNPROVEN}"
            details[object_class] = f"{rows}; {found.st_size:,} bytes, written {written}; columns {names}{proof}"
        return TestReport(f"reads {', '.join(details)}", details)

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        selected = self._selected(object_class)
        with _open(selected) as reading:
            return [
                AttributeInfo(name, many=name in selected.several, writable=False) for name in reading.names if name
            ]

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        with _open(self._selected(object_class)) as reading:
            yield from reading.pages(names)
            yield reading.conclusion()

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        with _open(self._selected(object_class)) as reading:
            found = [entry for page in reading.pages(names) for entry in page.entries if entry.key == key]
        if len(found) > 1:
            raise ConnectorMisconfigured(f"several rows of {object_class} have the same key", hint="Correct the file.")
        return found[0] if found else None

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        wanted = {one for one in values_of(value) if isinstance(one, str)}  # everything in a file is text
        read = list(dict.fromkeys([*names, attribute])) if names else ()
        found: dict[str, Entry] = {}
        with _open(self._selected(object_class)) as reading:
            for page in reading.pages(read):
                for entry in page.entries:
                    if not wanted.isdisjoint(values_of(entry.attributes.get(attribute))):
                        kept = {name: one for name, one in entry.attributes.items() if not names or name in names}
                        found.setdefault(entry.key, Entry(entry.key, kept))
        return list(found.values())

    def _selected(self, object_class: str) -> CsvObject:
        selected = self._settings.objects.get(object_class)
        if selected is None:
            raise ConnectorMisconfigured(
                f"the connector has no object class {object_class}",
                hint=f"It has: {', '.join(self._settings.objects)}.",
            )
        return selected
