"""Writing people into a table: one row at a time, and only the row that was just read.

Every write is one transaction that looks at the row, changes it, and looks at it again before it commits: what
triggers, defaults and the column's own spelling made of the values is what is answered. The change itself names the
values that were read in its ``WHERE``, so that a row which somebody else changed in between is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from identitymesh.connectors.contract import AttributeInfo, CredentialSource, Entry, Modification
from identitymesh.connectors.kinds.sql.columns import describe, is_view
from identitymesh.connectors.kinds.sql.opening import open_engine
from identitymesh.connectors.kinds.sql.settings import SqlObject, SqlSettings
from identitymesh.connectors.kinds.sql.snapshots import Snapshot, columns_of, open_writing
from identitymesh.connectors.kinds.sql.source import SqlSource, no_such_column
from identitymesh.connectors.kinds.sql.values import RowReader
from identitymesh.connectors.kinds.sql.writing import bound
from identitymesh.errors import ConnectorMisconfigured, ObjectChanged, ObjectExists, ObjectMissing, ObjectRefused
from identitymesh.model.attributes import Attributes, Value, same

_KEPT: Final = "a trigger or rule of the database may keep it as it is"


@dataclass(frozen=True, slots=True)
class _Row:
    """One row as the transaction sees it. ``guard`` has the database's own values of some columns."""

    entry: Entry
    key: Any
    guard: Mapping[str, Any]


class SqlTarget(SqlSource):
    """Implements CreateOp, UpdateOp and DeleteOp for objects that have a ``table``, beside all that SqlSource does.

    What is only read is never opened for writing: that has a connection of its own, made for the first change.
    """

    def __init__(self, settings: SqlSettings, credentials: CredentialSource) -> None:
        super().__init__(settings, credentials)
        self._writing_engine = open_engine(settings, credentials, self._deadline, writable=True)
        self._tables: dict[str, Mapping[str, AttributeInfo]] = {}

    def close(self) -> None:
        super().close()
        self._writing_engine.dispose()

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        entry = super().get(object_class, key, names)
        # Which attributes were asked for says which were seen to be absent.
        return None if entry is None else Entry(entry.key, entry.attributes, None, tuple(names))

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        selected = self._table(object_class)
        with self._writing(f"inserting into {selected.table}", adding=True) as transaction:
            values = self._values(transaction, object_class, selected, attributes)
            given = attributes.get(selected.key)
            if given is not None and self._rows(transaction, selected, given, ()):
                raise ObjectExists(f"{selected.table} has a row with this {selected.key} already")
            key = self._insert(transaction, selected, values, given)
            return self._again(transaction, selected, key, list(attributes), "inserted")

    def update(self, object_class: str, current: Entry, change: Modification) -> Entry:
        selected = self._table(object_class)
        names = list(dict.fromkeys([*self._seen(current), *current.attributes, *change.put, *change.clear]))
        with self._writing(f"updating {selected.table}") as transaction:
            wanted: dict[str, Value | None] = {**change.put, **dict.fromkeys(change.clear)}
            values = self._values(transaction, object_class, selected, wanted)
            row = self._unchanged(transaction, selected, current)
            if not values:
                return current
            assignments = ", ".join(f"{transaction.quote(name)} = :v{at}" for at, name in enumerate(values))
            self._change(transaction, selected, row, f"SET {assignments}", _numbered("v", values.values()))
            key = wanted.get(selected.key) or row.key
            return self._again(transaction, selected, key, names, "updated")

    def delete(self, object_class: str, current: Entry) -> None:
        selected = self._table(object_class)
        with self._writing(f"deleting from {selected.table}") as transaction:
            row = self._unchanged(transaction, selected, current)
            self._change(transaction, selected, row, "", {})
            if self._rows(transaction, selected, row.key, ()):
                raise ObjectRefused(f"the row is still in {selected.table} after it was deleted: {_KEPT}")

    # -- one row -----------------------------------------------------------------

    def _unchanged(self, transaction: Snapshot, selected: SqlObject, current: Entry) -> _Row:
        """The row that reads as ``current``.

        Raises:
            ObjectMissing, ObjectChanged: there is none, or it reads differently.
            ObjectRefused: several rows have this key.
        """
        seen = self._seen(current)
        row = self._one(transaction, selected, current.key, seen)
        if row is None:
            raise ObjectMissing(f"{selected.table} has no row with this {selected.key} any more")
        if not all(same(row.entry.attributes.get(name), current.attributes.get(name)) for name in seen):
            raise ObjectChanged(f"the row of {selected.table} is not what was read")
        return row

    def _insert(self, transaction: Snapshot, selected: SqlObject, values: Mapping[str, Any], key: Value | None) -> Any:
        """Insert one row; answers its key, which the database may have made."""
        columns = ", ".join(transaction.quote(name) for name in values)
        what = f"({columns}) VALUES ({', '.join(f':v{at}' for at in range(len(values)))})" if values else ""
        statement = f"INSERT INTO {transaction.table(selected)} {what or 'DEFAULT VALUES'}"
        bound_values = _numbered("v", values.values())
        if self._on_sqlite and is_view(transaction, selected):
            # RETURNING would make SQLite take the row and lose it where the view has no trigger.
            if key is None:
                raise ObjectRefused(
                    f"{selected.table} is a view, so {selected.key} must be among the attributes: its key"
                )
            transaction.rows(statement, **bound_values)
            return key
        returning = f"{statement} RETURNING {transaction.quote(selected.key)}"
        inserted = transaction.rows(returning, **bound_values).fetchall()
        if len(inserted) != 1:
            raise ObjectRefused(f"{selected.table} did not take the row: {_KEPT}")
        return inserted[0][0]

    def _change(
        self, transaction: Snapshot, selected: SqlObject, row: _Row, assignments: str, values: dict[str, Any]
    ) -> None:
        """``UPDATE`` with these assignments, or ``DELETE`` without any, of exactly this row as it was read."""
        verb = "UPDATE" if assignments else "DELETE FROM"
        is_same, bound_as = self._comparison()
        conditions = [f"{transaction.own_column(selected, selected.key)} = :key"]
        conditions += [
            f"{bound_as(transaction.own_column(selected, name))} {is_same} :g{at}" for at, name in enumerate(row.guard)
        ]
        statement = f"{verb} {transaction.table(selected)} {assignments} WHERE {' AND '.join(conditions)}"
        guards = _numbered("g", row.guard.values())
        done = transaction.rows(statement, key=self._key(row.key), **guards, **values)
        if done.rowcount == 1 or (done.rowcount < 1 and transaction.exclusive):
            return  # an INSTEAD OF trigger of SQLite counts nothing, and nobody else could be in between
        if done.rowcount > 1:
            raise ObjectRefused(f"several rows of {selected.table} have the same {selected.key}; none was touched")
        now = self._one(transaction, selected, row.entry.key, list(row.guard))
        if now is not None and now.guard == row.guard:
            raise ObjectRefused(f"{selected.table} did not take the change: {_KEPT}")
        raise ObjectChanged(f"the row of {selected.table} was changed meanwhile")

    def _again(self, transaction: Snapshot, selected: SqlObject, key: Any, names: Sequence[str], done: str) -> Entry:
        """The row after a write, as it will be committed."""
        found = self._rows(transaction, selected, key, names)
        if len(found) != 1:
            reason = f"several rows have this {selected.key}" if found else f"it cannot be read by its {selected.key}"
            raise ObjectRefused(f"the row of {selected.table} was not {done}: {reason} afterwards")
        return found[0].entry

    def _one(self, transaction: Snapshot, selected: SqlObject, key: str, names: Sequence[str]) -> _Row | None:
        found = [row for row in self._rows(transaction, selected, key, names) if row.entry.key == key]
        if len(found) > 1:
            raise ObjectRefused(
                f"{len(found)} rows of {selected.table} have the same {selected.key}; none was touched",
                hint="The key must identify one row: make it unique in the database, or choose another column.",
            )
        return found[0] if found else None

    def _rows(self, transaction: Snapshot, selected: SqlObject, key: Value, names: Sequence[str]) -> list[_Row]:
        """The rows with this key; ``guard`` has the columns ``names``."""
        _, bound_as = self._comparison()
        guards = [bound_as(transaction.column(name)) for name in names]
        compared = transaction.column(selected.key)
        found: list[_Row] = []
        for condition in self._key_conditions(compared, key):
            statement = transaction.select(selected, f"WHERE {condition} LIMIT 3", ", ".join(["q.*", *guards]))
            result = transaction.rows(statement, key=self._key(key))
            columns = columns_of(result, selected, guards=len(guards))
            reader = RowReader(columns, selected.key, names or (selected.key,))
            at = columns.index(selected.key)
            for row in result.fetchall():
                entry = reader.entry(row, 1)
                if not isinstance(entry, Entry):
                    raise ObjectRefused(f"a row of {selected.table} cannot be taken over: {entry.reason}")
                found.append(_Row(entry, row[at], dict(zip(names, row[len(columns) :], strict=True))))
            if found:
                break
        return found

    def _key_conditions(self, compared: str, key: Value) -> list[str]:
        """In SQLite the number 7 is not the text "7" where a column has no type."""
        exact = f"{compared} = :key"
        return [exact, f"CAST({compared} AS TEXT) = :key"] if self._on_sqlite and isinstance(key, str) else [exact]

    def _comparison(self) -> tuple[str, Callable[[str], str]]:
        """How a value that was read is found again: as it is in SQLite, as text in PostgreSQL, whatever its type."""
        if self._on_sqlite:
            return "IS", lambda column: column
        return "IS NOT DISTINCT FROM", lambda column: f"CAST({column} AS text)"

    # -- tables and values -------------------------------------------------------

    @property
    def _on_sqlite(self) -> bool:
        return bool(self._engine.dialect.name == "sqlite")

    def _key(self, key: Any) -> Any:
        return key if self._on_sqlite else str(key)  # PostgreSQL reads True as true

    def _seen(self, current: Entry) -> Sequence[str]:
        """The attributes that were asked for when ``current`` was read."""
        return current.native if isinstance(current.native, tuple) and current.native else tuple(current.attributes)

    def _table(self, object_class: str) -> SqlObject:
        selected = self._selected(object_class)
        if selected.table is None:
            raise ConnectorMisconfigured(
                f"{object_class} is read with a query and cannot be written",
                hint="Name the table as `table` instead of `query`.",
            )
        return selected

    def _values(
        self,
        transaction: Snapshot,
        object_class: str,
        selected: SqlObject,
        attributes: Mapping[str, Value | None],
    ) -> dict[str, Any]:
        """The values as they are bound, by column."""
        known = self._tables.get(object_class)
        if known is None:
            result = transaction.rows(transaction.select(selected, "LIMIT 0"))
            known = {info.name: info for info in describe(result, transaction, selected)}
        missing = next((name for name in attributes if name not in known), None)
        if missing is not None:
            self._tables.pop(object_class, None)
            raise no_such_column(missing, list(known))
        self._tables[object_class] = known
        return {name: bound(value, known[name], sqlite=self._on_sqlite) for name, value in attributes.items()}

    def _writing(self, what: str, *, adding: bool = False) -> AbstractContextManager[Snapshot]:
        return open_writing(self._writing_engine, self._deadline, self._settings.timeout, what, adding=adding)


def _numbered(prefix: str, values: Any) -> dict[str, Any]:
    return {f"{prefix}{at}": value for at, value in enumerate(values)}
