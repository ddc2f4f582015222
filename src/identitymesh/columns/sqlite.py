"""An application's SQLite file: the connection, and how the rows of a column are read and written.

There is one writer at a time, so a row is written if its values are still those that were
read. Freed pages are overwritten (``secure_delete``) by everything that this connection frees.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote as url_quote

from identitymesh.columns.addresses import SqliteAddress
from identitymesh.columns.failures import translated
from identitymesh.columns.places import Change, ColumnPlace, Counts, ReadRow, Row, State, cell_of
from identitymesh.columns.session import (
    SIDE_TABLE,
    WHOLE,
    Part,
    Position,
    Structure,
    Which,
    forget_state,
    quote,
    save_state,
    side_table_ddl,
)
from identitymesh.errors import ColumnsBusy, ColumnsForbidden, ColumnsUnfit, DatabaseUnreachable
from identitymesh.redaction import Secret

_BUSY_SECONDS: Final = 30.0
_OURS: Final = ""  # the row of the side table that stands there while a change is ours


class SqliteSession:
    dialect = "sqlite"

    def __init__(self, address: SqliteAddress) -> None:
        self._path = Path(address.path)
        if not self._path.is_file():
            raise DatabaseUnreachable(f"there is no file {address.path}", hint="Correct the URL; no file is made here.")
        with translated(self.describe()):
            self.connection = sqlite3.connect(
                f"file:{url_quote(str(self._path))}?mode=rw",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # one thread reads ahead, another writes; the lock lets one in at a time
            )
            self._one = threading.RLock()
            self.connection.execute("PRAGMA secure_delete = ON")

    def describe(self) -> str:
        return str(self._path)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._one, translated(self.describe()):
            return self.connection.execute(statement.replace("%s", "?"), tuple(parameters)).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._one:
            if self._begun():  # part of a larger one
                yield
                return
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._begun():
                    self.execute("ROLLBACK")
                raise

    def _begun(self) -> bool:
        return self.connection.in_transaction

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A lock file beside the database: its own locks are for single transactions."""
        import fcntl  # there is none on Windows

        if not os.access(self._path, os.W_OK) or not os.access(self._path.parent, os.W_OK):
            raise ColumnsForbidden(
                f"{self.describe()} or its folder cannot be written", hint="Run this as the user that owns them."
            )
        handle = os.open(
            self._path.with_name(f".{self._path.name}.columns.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ColumnsBusy(
                f"{self.describe()}: another command works on encrypted columns there",
                hint="Wait for it to end. `identitymesh columns status` shows how far it is.",
            ) from None
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Nothing to do: one process does all of the work here."""
        yield

    def has_side_table(self) -> bool:
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = %s", (SIDE_TABLE,)))

    def close(self) -> None:
        self.connection.close()


class SqliteColumn:
    def __init__(self, session: SqliteSession, place: ColumnPlace, triggers: str) -> None:
        self._session = session
        self._place = place
        self._fire = triggers == "fire"
        schema, _, self._name = place.table.rpartition(".")
        if schema not in {"", "main"}:
            raise ColumnsUnfit(f"{place.table}: an SQLite file has no schema {schema}")
        self._table = quote(self._name)
        self._plain, self._encrypted, self._nonce = map(quote, place.columns)
        self._guard = quote(f"identitymesh_columns_{hashlib.sha256(place.name.encode()).hexdigest()[:12]}")
        self._keys: tuple[str, ...] = ()
        self._address: tuple[str, ...] = ()
        self._has_plain = True
        self._has_cells = False

    @property
    def place(self) -> ColumnPlace:
        return self._place

    def inspect(self, *, writing: bool) -> Structure:
        place, execute = self._place, self._session.execute
        found = execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s", (self._name,))
        if not found or not found[0][0].lstrip().upper().startswith("CREATE TABLE"):
            raise ColumnsUnfit(
                f"{self._session.describe()} has no table {place.table}", hint="Spell it as in the database."
            )
        columns = {row[1]: row for row in execute("SELECT * FROM pragma_table_info(%s)", (self._name,))}
        keys = [row[1] for row in sorted(columns.values(), key=lambda row: row[5]) if row[5]]
        if not keys:
            raise ColumnsUnfit(f"{place.table} has no primary key, so no row can be named", hint="Give it one.")
        if any("%" in key for key in keys):
            raise ColumnsUnfit(f"{place.table}: a column of its primary key has a name with %")
        plain = columns.get(place.column)
        self._has_plain = plain is not None
        self._has_cells = place.encrypted in columns and place.nonce in columns
        if plain is None and place.encrypted not in columns:
            raise ColumnsUnfit(f"{place.table} has no column {place.column}", hint="Spell it as in the database.")
        self._keys = tuple(keys)
        self._address = self._address_of(columns, tuple(keys))
        firing = self._triggers() if writing and not self._fire else []
        if firing:
            raise ColumnsUnfit(
                f"{place.table} has triggers that would fire for each encrypted row: {', '.join(firing)}",
                hint="Write `triggers: fire` into the plan if they may; SQLite has no way around them.",
            )
        guarded = bool(
            execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = %s", (self._guard[1:-1],))
        )
        described = {} if plain is None else {
            "type": plain[2], "not_null": bool(plain[3]), "default": plain[4], "binary": plain[2].upper() == "BLOB"
        }  # fmt: skip
        return Structure(self._keys, self._has_plain, self._has_cells, guarded, described)

    def _address_of(self, columns: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
        """What a row is found by: its rowid, or in a table WITHOUT ROWID its key."""
        for name in ("rowid", "_rowid_", "oid"):
            if name in {column.lower() for column in columns}:
                continue
            try:
                self._session.execute(f"SELECT {name} FROM {self._table} LIMIT 0")  # noqa: S608 - names are quoted
            except ColumnsUnfit:
                break
            return (name,)
        return tuple(map(quote, keys))

    def _triggers(self) -> list[str]:
        found = self._session.execute(
            "SELECT name, upper(sql) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s AND name <> %s",
            (self._name, self._guard[1:-1]),
        )
        names = {column.upper() for column in (self._place.encrypted, self._place.nonce)}
        return [
            name for name, text in found
            if " UPDATE " in " ".join(text.split()).partition(" BEGIN ")[0]
            and (" UPDATE OF " not in " ".join(text.split()) or any(column in text for column in names))
        ]  # fmt: skip

    def check_drop(self) -> tuple[str, ...]:
        """Tried on an empty copy of the schema: SQLite knows best what is in the way."""
        if not self._has_plain:
            return ()
        copy = sqlite3.connect(":memory:", isolation_level=None)
        try:
            for (statement,) in self._session.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name <> %s "
                "ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END",
                (self._guard[1:-1],),
            ):
                copy.execute(statement)
            copy.execute(f"ALTER TABLE {self._table} DROP COLUMN {self._plain}")
        except sqlite3.Error as error:
            raise ColumnsUnfit(
                f"{self._place.name} cannot be dropped: {error}",
                hint="Change or drop what uses it first (index, constraint, view, trigger); nothing was dropped.",
            ) from None
        finally:
            copy.close()
        return ()

    # Structure

    def prepare(self, state: State) -> None:
        existing = {row[0] for row in self._session.execute("SELECT name FROM pragma_table_info(%s)", (self._name,))}
        with self._session.transaction():
            self._session.execute(side_table_ddl())
            for name in (self._place.encrypted, self._place.nonce):
                if name not in existing:
                    self._session.execute(f"ALTER TABLE {self._table} ADD COLUMN {quote(name)} BLOB")
            if self._has_plain:
                self._make_guard()
            save_state(self._session, state)
        self._has_cells = True

    def _make_guard(self) -> None:
        same = " AND ".join(f"OLD.{cell} IS NEW.{cell}" for cell in (self._encrypted, self._nonce))
        row = " AND ".join(f"{key} IS NEW.{key}" for key in self._address)
        self._session.execute(f"DROP TRIGGER IF EXISTS {self._guard}")
        self._session.execute(
            f"CREATE TRIGGER {self._guard} AFTER UPDATE OF {self._plain} ON {self._table} "  # noqa: S608 - quoted
            f"WHEN OLD.{self._plain} IS NOT NEW.{self._plain} "
            f"AND coalesce(length(NEW.{self._plain}), 0) > 0 AND {same} "
            f"AND NOT EXISTS (SELECT 1 FROM {SIDE_TABLE} WHERE place = '{_OURS}') BEGIN "
            f"UPDATE {self._table} SET {self._encrypted} = NULL, {self._nonce} = NULL WHERE {row}; END"
        )

    def lock(self) -> None:
        """A transaction that began as a writer has the file for itself."""

    def drop_plain(self, state: State) -> None:
        self._session.execute(f"DROP TRIGGER IF EXISTS {self._guard}")
        if self._has_plain:
            self._session.execute(f"ALTER TABLE {self._table} DROP COLUMN {self._plain}")
        save_state(self._session, state)

    def drop_cells(self, state: State) -> None:
        self._session.execute(f"DROP TRIGGER IF EXISTS {self._guard}")
        for name in (self._encrypted, self._nonce):
            self._session.execute(f"ALTER TABLE {self._table} DROP COLUMN {name}")
        forget_state(self._session, state.place)

    def restore_plain(self, state: State) -> None:
        column = state.detail.get("column", {})
        default = column.get("default") or ("''" if column.get("not_null") else None)
        with self._session.transaction():
            self._session.execute(
                f"ALTER TABLE {self._table} ADD COLUMN {self._plain} {column.get('type', 'TEXT')}"
                + (" NOT NULL" if column.get("not_null") else "")
                + (f" DEFAULT {default}" if default else "")
            )
            self._has_plain = True
            self._make_guard()
            save_state(self._session, state)

    # Rows

    def _condition(self, which: Which) -> str:
        present = f"coalesce(length({self._plain}), 0) > 0" if self._has_plain else "0"
        if not self._has_cells:
            return present if which in {Which.PENDING, Which.FILLED} else "0"
        cell = f"({self._encrypted} IS NOT NULL OR {self._nonce} IS NOT NULL)"
        return {
            Which.PENDING: f"{present} AND NOT {cell}",
            Which.FILLED: f"({present} OR {cell})",
            Which.ENCRYPTED: cell,
            Which.COMPATIBLE: f"{cell} AND {self._nonce} IS NOT NULL",
        }[which]

    def scan(self, which: Which, after: Position | None, limit: int, *, until: Position | None = None) -> list[Row]:
        del until  # see parts
        condition = self._condition(which)
        address = ", ".join(self._address)
        if after is not None:
            condition = f"({address}) > ({', '.join('?' * len(after))}) AND {condition}"
        # As bytes whatever they are: text that is not UTF-8 must spoil its own row alone.
        keys = ", ".join(f"CAST({quote(key)} AS BLOB)" for key in self._keys)
        plain = f"CAST({self._plain} AS BLOB), typeof({self._plain})" if self._has_plain else "NULL, 'null'"
        cells = f"{self._encrypted}, {self._nonce}" if self._has_cells else "NULL, NULL"
        found = self._session.execute(
            f"SELECT {plain}, {cells}, {keys}, {address} FROM {self._table} "  # noqa: S608 - names are quoted
            f"WHERE {condition} ORDER BY {address} LIMIT {limit:d}",
            after or (),
        )
        return [self._row(row) for row in found]

    def parts(self, count: int) -> list[Part]:
        """One: such a file is rarely large."""
        del count
        return [WHOLE]

    def take(self, which: Which, limit: int, *, after: Position | None = None) -> list[Row]:
        return self.scan(which, after, limit)

    def _row(self, found: tuple[Any, ...]) -> Row:
        plain, kind, encrypted, nonce = found[:4]
        width = 4 + len(self._keys)
        key = tuple([bytes(part or b"").decode("utf-8", "backslashreplace") for part in found[4:width]])
        unfit = "" if kind in {"text", "blob", "null"} else f"it is of the type {kind}, not text"
        address = found[width:]
        cell = cell_of(_bytes(encrypted), _bytes(nonce))
        seen = (bytes(plain) if plain else None, encrypted, nonce)
        return ReadRow(
            (*address, *(seen if self._has_plain else seen[1:])),
            address,
            key,
            Secret(plain) if plain else None,
            cell,
            unfit,
        )

    def write(self, changes: Sequence[Change], state: State | None) -> int:
        connection, written = self._session.connection, 0
        with self._session.transaction():
            if changes and changes[0].plain is not None:
                written = self._write_plain(connection, changes)
            elif changes:
                written = self._write_cells(connection, changes)
            if state is not None:
                save_state(self._session, state)
        return written

    def _same(self) -> str:
        """The row as it was read."""
        tests = [f"{key} IS ?" for key in self._address]
        if self._has_plain:
            tests.append(f"nullif(CAST({self._plain} AS BLOB), x'') IS ?")
        tests += [f"{self._encrypted} IS ?", f"{self._nonce} IS ?"]
        return " AND ".join(tests)

    def _write_cells(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> int:
        statement = f"UPDATE {self._table} SET {self._encrypted} = ?, {self._nonce} = ? WHERE {self._same()}"  # noqa: S608
        with translated(self._session.describe()):
            return connection.executemany(
                statement, ([*(change.cell or (None, None)), *change.row.address] for change in changes)
            ).rowcount

    def _write_plain(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> int:
        binary = "BLOB" if self.inspect(writing=False).column["binary"] else "TEXT"
        statement = f"UPDATE {self._table} SET {self._plain} = CAST(? AS {binary}) WHERE {self._same()}"  # noqa: S608
        self._session.execute(f"INSERT INTO {SIDE_TABLE} SELECT '{_OURS}', '', '', '', '', '', '', '', '{{}}', ''")
        with translated(self._session.describe()):
            written = connection.executemany(
                statement,
                ([change.plain.reveal() if change.plain else None, *change.row.address] for change in changes),
            ).rowcount
        self._session.execute(f"DELETE FROM {SIDE_TABLE} WHERE place = '{_OURS}'")  # noqa: S608
        return written

    def size(self) -> int:
        return int(self._session.execute(f"SELECT count(*) FROM {self._table}")[0][0])  # noqa: S608 - quoted

    def count(self) -> Counts:
        plain = f"coalesce(length({self._plain}), 0) > 0" if self._has_plain else "0"
        tests = [plain, *(self._condition(which) for which in (Which.ENCRYPTED, Which.COMPATIBLE, Which.PENDING))]
        shown = ", ".join(f"count(CASE WHEN {test} THEN 1 END)" for test in tests)
        rows, filled, encrypted, compatible, pending = self._session.execute(
            f"SELECT count(*), {shown} FROM {self._table}"  # noqa: S608 - names are quoted
        )[0]
        return Counts(rows, filled, encrypted, encrypted - compatible, pending)


def _bytes(cell: object) -> bytes | None:
    """An encrypted value; what is no blob is one that does not open."""
    return cell if isinstance(cell, bytes) or cell is None else b""
