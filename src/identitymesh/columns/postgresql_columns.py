"""A column of a PostgreSQL table: how its rows are read and written.

A batch is one statement: row versions (ctid and xmin) with their new bytes, as arrays. A row
that anybody changed since it was read has another version and is left alone: the newer wins,
and no plaintext goes back to the server to be compared.

Beside its two columns a place has a **guard**: a trigger that takes the encrypted value away
from a row whose plain value alone gets another one. So at every moment an encrypted value, where
there is one, is the newest of its row. A plain value that is cleared takes nothing with it: to
clear them all is how somebody drops them by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from psycopg.types.string import ByteaBinaryLoader

from identitymesh.columns.failures import translated
from identitymesh.columns.formats import Cell, Format, RowKey
from identitymesh.columns.places import Change, ColumnPlace, Counts, Row, State, cell_of
from identitymesh.columns.postgresql import (
    AS_A_WHOLE,
    BY_THE_KEY,
    BYTEA,
    TEXT,
    TID,
    XID,
    ByteaArray,
    PostgresSession,
    TextArray,
    TidArray,
    XidArray,
)
from identitymesh.columns.postgresql_structure import KEY_TYPES, check_drop, find_table, guard_name, structure_of
from identitymesh.columns.session import (
    WHOLE,
    Part,
    Position,
    Structure,
    Which,
    forget_state,
    quote,
    quote_path,
    save_state,
    side_table_ddl,
)
from identitymesh.errors import ColumnsUnfit, DatabaseLocked
from identitymesh.redaction import Secret

SMALL: Final = 50_000  # rows that one process reads faster than several
_SAMPLE: Final = 10_000
_TRIES: Final = 10  # to get a table for itself, two seconds each


class PostgresColumn:
    def __init__(self, session: PostgresSession, place: ColumnPlace, form: Format, triggers: str) -> None:
        self._session = session
        self._place = place
        self._form = form
        self._triggers = triggers
        self._table = quote_path(place.table)
        self._plain, self._encrypted, self._nonce = map(quote, place.columns)
        self._key_types: dict[str, str] = {}
        self._has_plain = True
        self._has_cells = False
        self._binary = False
        self._raw = ""

    @property
    def place(self) -> ColumnPlace:
        return self._place

    def inspect(self, *, writing: bool) -> Structure:
        found = structure_of(self._session, self._place, writing=writing, triggers=self._triggers)
        table = find_table(self._session, self._place.table, altering=False)
        keys = [table.columns[name] for name in found.keys]
        odd = [key for key in keys if key.base not in KEY_TYPES]
        if odd and self._form is Format.SEALED:
            raise ColumnsUnfit(
                f"{self._place.table}: the primary key has {odd[0].name} {odd[0].type}; a sealed value is bound to it, "
                "so it must be of an integer type, text or uuid",
                hint="Write `format: compatible` into the plan.",
            )
        self._key_types = {key.name: key.type for key in keys}
        self._has_plain, self._has_cells = found.has_plain, found.has_cells
        if found.has_plain:
            self._binary = bool(found.column["binary"])
        self._raw = self._plain_expression()
        return found

    def _plain_expression(self) -> str:
        if not self._has_plain:
            return "NULL::text"
        if self._binary:
            return self._plain
        if self._session.execute("SELECT getdatabaseencoding()")[0][0] == "SQL_ASCII":
            return f"convert_to({self._plain}::text, 'SQL_ASCII')"  # any bytes; the server would refuse to send them
        return f"{self._plain}::text"

    def check_drop(self) -> tuple[str, ...]:
        return check_drop(self._session, self._place)

    # Structure

    def prepare(self, state: State) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                with self._session.transaction():
                    self._session.execute("SET LOCAL lock_timeout = '2s'")
                    self._session.execute("SET LOCAL client_min_messages = warning")
                    self._make(state)
            except DatabaseLocked:
                if attempt == _TRIES:
                    raise
            else:
                break
        self._has_cells = True

    def _make(self, state: State) -> None:
        execute = self._session.execute
        execute(side_table_ddl())
        execute(f"ALTER TABLE {self._table} ADD COLUMN IF NOT EXISTS {self._encrypted} bytea, "
                f"ADD COLUMN IF NOT EXISTS {self._nonce} bytea")  # fmt: skip
        if self._has_plain:
            self._make_guard()
        save_state(self._session, state)

    def _make_guard(self) -> None:
        name = quote(guard_name(self._place))
        self._session.execute(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"NEW.{self._encrypted} := NULL; NEW.{self._nonce} := NULL; RETURN NEW; END $$"
        )
        self._session.execute(f"DROP TRIGGER IF EXISTS {name} ON {self._table}")
        changed = " AND ".join(
            [f"OLD.{self._plain} IS DISTINCT FROM NEW.{self._plain}", f"NEW.{self._plain} <> ''"]
            + [f"OLD.{cell} IS NOT DISTINCT FROM NEW.{cell}" for cell in (self._encrypted, self._nonce)]
        )
        self._session.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE OF {self._plain} ON {self._table} FOR EACH ROW "
            f"WHEN (current_setting('identitymesh.columns', true) IS DISTINCT FROM 'on' AND {changed}) "
            f"EXECUTE FUNCTION {name}()"
        )

    def _drop_guard(self) -> None:
        name = quote(guard_name(self._place))
        self._session.execute(f"DROP TRIGGER IF EXISTS {name} ON {self._table}")
        self._session.execute(f"DROP FUNCTION IF EXISTS {name}()")

    def lock(self) -> None:
        self._session.execute("SET LOCAL lock_timeout = '20s'")
        self._session.execute(f"LOCK TABLE {self._table} IN ACCESS EXCLUSIVE MODE")

    def drop_plain(self, state: State) -> None:
        self._drop_guard()
        self._session.execute(f"ALTER TABLE {self._table} DROP COLUMN IF EXISTS {self._plain}")
        save_state(self._session, state)

    def drop_cells(self, state: State) -> None:
        self._drop_guard()
        self._session.execute(f"ALTER TABLE {self._table} DROP COLUMN IF EXISTS {self._encrypted}, "
                              f"DROP COLUMN IF EXISTS {self._nonce}")  # fmt: skip
        forget_state(self._session, state.place)

    def restore_plain(self, state: State) -> None:
        column = state.detail.get("column", {})
        default = column.get("default") or ("''" if column.get("not_null") else None)
        with self._session.transaction():
            self._session.execute("SET LOCAL lock_timeout = '20s'")
            self._session.execute(
                f"ALTER TABLE {self._table} ADD COLUMN {self._plain} {column.get('type', 'text')}"
                + (f" DEFAULT {default}" if default else "")
                + (" NOT NULL" if column.get("not_null") else "")
            )
            if default and not column.get("default"):
                self._session.execute(f"ALTER TABLE {self._table} ALTER COLUMN {self._plain} DROP DEFAULT")
            self._has_plain = True
            self._make_guard()
            save_state(self._session, state)
        self._binary = bool(column.get("binary"))
        self._raw = self._plain_expression()

    # Rows

    def _condition(self, which: Which) -> str:
        present = f"({self._plain} IS NOT NULL AND {self._plain} <> '')" if self._has_plain else "false"
        if not self._has_cells:
            return present if which in {Which.PENDING, Which.FILLED} else "false"
        cell = f"({self._encrypted} IS NOT NULL OR {self._nonce} IS NOT NULL)"
        return {
            Which.PENDING: f"{present} AND NOT {cell}",
            Which.FILLED: f"({present} OR {cell})",
            Which.ENCRYPTED: cell,
            Which.COMPATIBLE: f"{cell} AND {self._nonce} IS NOT NULL",
        }[which]

    def _select(
        self, which: Which, after: Position | None = None, until: Position | None = None
    ) -> tuple[str, list[Any]]:
        keys = list(map(quote, self._key_types))
        cells = f"{self._encrypted}, {self._nonce}" if self._has_cells else "NULL::bytea, NULL::bytea"
        condition = self._condition(which)
        marks = ", ".join(f"%s::{kind}" for kind in self._key_types.values())
        parameters: list[Any] = []
        for bound, sign in ((until, "<="), (after, ">")):
            if bound is not None:
                condition = f"({', '.join(keys)}) {sign} ({marks}) AND {condition}"
                parameters = [*map(str, bound), *parameters]
        # Named, because ORDER BY would else mean the text of a key where it says the key.
        shown = ", ".join(f"{key}::text AS key_{number}" for number, key in enumerate(keys))
        statement = (
            f"SELECT ctid, xmin, {self._raw} AS plain_value, {cells}, {shown} FROM {self._table} "  # noqa: S608 - names are quoted
            f"WHERE {condition} ORDER BY {', '.join(keys)}"
        )
        return statement, parameters

    def scan(self, which: Which, after: Position | None, limit: int, *, until: Position | None = None) -> list[Row]:
        statement, parameters = self._select(which, after, until)
        # What is pending in all of a large table is what others have just written; else the table is small.
        few = which is Which.PENDING and after is None and until is None
        return self._read(f"{statement} LIMIT {limit:d}", parameters, few=few)

    def parts(self, count: int) -> list[Part]:
        """Bounds from the keys of a few pages."""
        rows = self.size()
        if rows < SMALL:
            return [WHOLE]
        keys = ", ".join(map(quote, self._key_types))
        shown = ", ".join(f"{quote(key)}::text" for key in self._key_types)
        sample = self._session.execute(
            f"SELECT {shown} FROM {self._table} TABLESAMPLE SYSTEM (%s) ORDER BY {keys}",  # noqa: S608 - quoted
            (min(100, 100 * _SAMPLE / rows),),
        )
        bounds = [None, *(sample[len(sample) * number // count] for number in range(1, count) if sample), None]
        return list(pairwise(bounds))

    def take(self, which: Which, limit: int, *, after: Position | None = None) -> list[Row]:
        statement, parameters = self._select(which, after)
        return self._read(f"{statement} LIMIT {limit:d}", parameters, own=True, few=which is Which.PENDING)

    def _read(self, statement: str, parameters: Sequence[Any], *, own: bool = False, few: bool = False) -> list[Row]:
        session = self._session
        connection = session.writer if own else session.reader
        with translated(session.describe()), connection.cursor(binary=True) as cursor:
            for oid in (TEXT, BYTEA, TID, XID):  # as they are; text that is a secret never becomes a str
                cursor.adapters.register_loader(oid, ByteaBinaryLoader)
            if not few:
                return list(map(PostgresRow, cursor.execute(statement.encode(), parameters).fetchall()))
            with connection.transaction():
                connection.execute(AS_A_WHOLE)
                found = cursor.execute(statement.encode(), parameters).fetchall()
                connection.execute(BY_THE_KEY)
            return list(map(PostgresRow, found))

    def write(self, changes: Sequence[Change], state: State | None) -> int:
        with self._session.batch():
            written = self._update(changes) if changes else 0
            if state is not None:
                save_state(self._session, state)
        return written

    def _update(self, changes: Sequence[Change]) -> int:
        rows: tuple[PostgresRow, ...]
        rows, cells, plains = zip(*changes, strict=True)
        versions = [TidArray([row[0] for row in rows]), XidArray([row[1] for row in rows])]
        if plains[0] is not None:
            kind = ByteaArray if self._binary else TextArray
            new = [kind([plain.reveal() if plain else None for plain in plains])]
            columns, setting = "new", f"{self._plain} = u.new"
            types = "%b::bytea[]" if self._binary else "%b::text[]"
        else:
            encrypted, nonces = zip(*(cell or (None, None) for cell in cells), strict=True)
            new = [ByteaArray(encrypted), ByteaArray(nonces)]
            columns, setting = "new, nonce", f"{self._encrypted} = u.new, {self._nonce} = u.nonce"
            types = "%b::bytea[], %b::bytea[]"
        cursor = self._session.writer.execute(
            f"UPDATE {self._table} AS t SET {setting} "  # noqa: S608 - names are quoted
            f"FROM unnest(%b::tid[], %b::xid[], {types}) AS u(place, version, {columns}) "
            "WHERE t.ctid = u.place AND t.xmin = u.version".encode(),
            [*versions, *new],
        )
        return cursor.rowcount

    def size(self) -> int:
        found = self._session.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", (self._table,)
        )
        return max(0, int(found[0][0]))

    def count(self) -> Counts:
        with self._session.transaction():
            self._session.execute("SET LOCAL enable_seqscan = on")
            return self._counted()

    def _counted(self) -> Counts:
        plain = f"({self._plain} IS NOT NULL AND {self._plain} <> '')" if self._has_plain else "false"
        tests = [plain, *(self._condition(which) for which in (Which.ENCRYPTED, Which.COMPATIBLE, Which.PENDING))]
        shown = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests)
        rows, *numbers = self._session.execute(f"SELECT count(*), {shown} FROM {self._table}")[0]  # noqa: S608
        filled, encrypted, compatible, pending = numbers
        return Counts(rows, filled, encrypted, encrypted - compatible, pending)


class PostgresRow(tuple[Any, ...]):
    """What the driver read: ctid, xmin, plain, encrypted, nonce, and the key. Nothing of it is copied."""

    __slots__ = ()

    @property
    def address(self) -> tuple[bytes, bytes]:
        return self[0], self[1]

    @property
    def after(self) -> RowKey:
        return self.key

    @property
    def key(self) -> RowKey:
        return tuple([part.decode() for part in self[5:]])

    @property
    def plain(self) -> Secret | None:
        return Secret(self[2]) if self[2] else None

    @property
    def cell(self) -> Cell | None:
        return cell_of(self[3], self[4])

    @property
    def unfit(self) -> str:
        return ""

    @property
    def size(self) -> int:
        """Bytes of its values, for the size of batches."""
        return len(self[2] or b"") + len(self[3] or b"")
