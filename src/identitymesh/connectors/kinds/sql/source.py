"""Reading people from a table or a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import CursorResult, exc

from identitymesh.connectors.contract import (
    AttributeInfo,
    BadEntry,
    Complete,
    CredentialSource,
    Entry,
    Page,
    TestReport,
)
from identitymesh.connectors.kinds.sql.columns import describe
from identitymesh.connectors.kinds.sql.opening import Deadline, open_engine
from identitymesh.connectors.kinds.sql.passwords import password_changer
from identitymesh.connectors.kinds.sql.settings import SqlObject, SqlSettings
from identitymesh.connectors.kinds.sql.snapshots import FETCH, PAGE, Snapshot, columns_of, open_snapshot
from identitymesh.connectors.kinds.sql.values import RowReader
from identitymesh.connectors.kinds.sql.watermarks import read_watermark, write_watermark
from identitymesh.errors import ConnectorMisconfigured, ObjectRefused
from identitymesh.model.attributes import Scalar, Value, values_of
from identitymesh.redaction import Secret

_NO_SUCH_VALUE: Final = ("22", "42883")  # SQLSTATE: the text is no value of the column's type


class SqlSource:
    """Implements TestOp, SchemaOp, SearchOp, SyncOp, GetOp, LookupOp and, on PostgreSQL, ChangePasswordOp."""

    def __init__(self, settings: SqlSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._change_password = password_changer(settings, credentials)
        self._deadline = Deadline(settings.timeout)
        self._engine = open_engine(settings, credentials, self._deadline)

    def close(self) -> None:
        self._engine.dispose()

    def change_password(self, name: str, new: Secret) -> None:
        self._change_password(name, new)

    def test(self) -> TestReport:
        details: dict[str, str] = {}
        for object_class, selected in self._settings.objects.items():
            with self._snapshot(f"testing {object_class}") as snapshot:
                result = snapshot.rows(snapshot.select(selected, "LIMIT 1"))
                names = columns_of(result, selected)
                found = "has rows" if result.first() is not None else "is empty"
                details[object_class] = f"{found}; columns {', '.join(names)}"
        return TestReport(f"reads {', '.join(details)}", details)

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        selected = self._selected(object_class)
        with self._snapshot(f"reading the columns of {object_class}") as snapshot:
            result = snapshot.rows(snapshot.select(selected, "LIMIT 0"))
            columns_of(result, selected)
            return describe(result, snapshot, selected)

    def search(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        selected = self._selected(object_class)
        with self._snapshot(f"reading {object_class}") as snapshot:
            highest = "NULL" if selected.watermark is None else f"max({snapshot.column(selected.watermark)})"
            counted = snapshot.rows(snapshot.select(selected, what=f"count(*), {highest}")).one()
            watermark = None if counted[1] is None else write_watermark(counted[1])
            number = 0
            held: Page | None = None
            for page in self._read(snapshot, snapshot.select(selected), selected, names):
                if held is not None:  # rows come in no order: below the watermark of one there are others, unread
                    yield Page(held.entries, held.bad)
                held = page
                number += len(page.entries) + len(page.bad)
            held = held or Page()
            proof = f"one snapshot, {number:,} of {counted[0]:,} rows"
            if number == counted[0]:
                yield Page(held.entries, held.bad, watermark, Complete(number, proof))
            else:  # the database broke its own promise, or the query has a function that answers differently each time
                yield Page(held.entries, held.bad, None, None, f"the rows do not fit their count: {proof}")

    def sync(self, object_class: str, names: Sequence[str], since: str | None) -> Iterator[Page]:
        selected = self._selected(object_class)
        if selected.watermark is None:
            raise ConnectorMisconfigured(
                f"{object_class} has no watermark, so it cannot be read for changes only",
                hint="Name the column that grows with every change as `watermark`, or schedule full runs only.",
            )
        with self._snapshot(f"reading changes of {object_class}") as snapshot:
            column = snapshot.column(selected.watermark)
            where = ""
            values: dict[str, Any] = {}
            if since is not None:
                where = f"WHERE {column} >= :since OR {column} IS NULL"
                values["since"] = read_watermark(since, selected.overlap)
            statement = snapshot.select(selected, f"{where} ORDER BY {column}")
            yield from self._read(snapshot, statement, selected, names, values)

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        selected = self._selected(object_class)
        found = [entry for entry in self._where(selected, selected.key, key, names) if entry.key == key]
        if len(found) > 1:
            raise ConnectorMisconfigured(
                f"several rows of {object_class} have the same {selected.key}",
                hint="The key must identify one row; choose another column or another query.",
            )
        return found[0] if found else None

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        selected = self._selected(object_class)
        found: dict[str, Entry] = {}
        for one in values_of(value):
            for entry in self._where(selected, attribute, one, names):
                found.setdefault(entry.key, entry)
        return list(found.values())

    def _where(self, selected: SqlObject, column: str, value: Scalar, names: Sequence[str]) -> list[Entry]:
        """The rows whose column has this value; none if it cannot be a value of the column.

        Raises:
            ObjectRefused: one of them cannot be taken over.
        """
        with self._snapshot(f"looking up {column}") as snapshot:
            on_postgres = self._engine.dialect.name == "postgresql"
            bound = _as_text(value) if on_postgres and not isinstance(value, bytes) else value
            compared = snapshot.column(column)
            try:
                found = self._matching(snapshot, f"{compared} = :value", selected, names, bound)
            except exc.DBAPIError as error:
                if str(getattr(error.orig, "sqlstate", "") or "").startswith(_NO_SUCH_VALUE):
                    return []
                raise
            if not found and not on_postgres and isinstance(value, str):
                # An expression has no type in SQLite: the number 7 is not the text "7" there.
                found = self._matching(snapshot, f"CAST({compared} AS TEXT) = :value", selected, names, value)
            return found

    def _matching(
        self, snapshot: Snapshot, condition: str, selected: SqlObject, names: Sequence[str], value: Scalar
    ) -> list[Entry]:
        statement = snapshot.select(selected, f"WHERE {condition}")
        found: list[Entry] = []
        for page in self._read(snapshot, statement, selected, names, {"value": value}):
            if page.bad:  # to leave it out would say that there is none
                raise ObjectRefused(
                    f"a row of {selected.table or 'the query'} cannot be taken over: {page.bad[0].reason}"
                )
            found += page.entries
        return found

    def _read(
        self,
        snapshot: Snapshot,
        statement: str,
        selected: SqlObject,
        names: Sequence[str],
        values: dict[str, Any] | None = None,
    ) -> Iterator[Page]:
        """The rows in pages, each with the watermark of its last row that has one (useful where rows are ordered)."""
        with snapshot.stream(statement, **(values or {})) as result:
            columns = columns_of(result, selected)
            for name in names:
                if name not in columns:
                    raise no_such_column(name, columns)
            reader = RowReader(columns, selected.key, names)
            at = None if selected.watermark is None else columns.index(selected.watermark)
            number = 0
            for rows in _pages(result, snapshot):
                entries: list[Entry] = []
                bad: list[BadEntry] = []
                for row in rows:
                    number += 1
                    entry = reader.entry(row, number)
                    if isinstance(entry, Entry):
                        entries.append(entry)
                    else:
                        bad.append(entry)
                marks = [] if at is None else [row[at] for row in rows if row[at] is not None]
                yield Page(entries, bad, write_watermark(marks[-1]) if marks else None)

    def _selected(self, object_class: str) -> SqlObject:
        selected = self._settings.objects.get(object_class)
        if selected is None:
            raise ConnectorMisconfigured(
                f"the connector has no object class {object_class}",
                hint=f"It has: {', '.join(self._settings.objects)}.",
            )
        return selected

    def _snapshot(self, what: str) -> Any:
        return open_snapshot(self._engine, self._deadline, self._settings.timeout, what)


def no_such_column(name: str, columns: Sequence[str]) -> ConnectorMisconfigured:
    """A rule uses a column that is not there: taken for absent, everybody would lose its value."""
    return ConnectorMisconfigured(
        f"there is no column {name}, which a rule uses",
        hint=f"The columns are: {', '.join(columns)}. Upper and lower case matter.",
    )


def _pages(result: CursorResult[Any], snapshot: Snapshot) -> Iterator[Sequence[Sequence[Any]]]:
    for fetched in result.partitions(FETCH):
        for start in range(0, len(fetched), PAGE):
            yield fetched[start : start + PAGE]
        snapshot.tick()


def _as_text(value: Scalar) -> str:
    """PostgreSQL reads a text without a type as one of the column's type, whatever that is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
