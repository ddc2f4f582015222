"""A row of a key/value table, in either database: its encrypted value stands in two rows beside it, as hex.

There is no guard here. What was encrypted is remembered by a fingerprint (an HMAC under a key
from the key file), so that a plain value that changed since is encrypted anew, and an
encrypted value that the application wrote since is kept.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence

from identitymesh.columns.places import Change, Counts, ReadRow, Row, RowPlace, State, cell_of
from identitymesh.columns.session import (
    WHOLE,
    Part,
    Position,
    Session,
    Structure,
    Which,
    forget_state,
    quote,
    quote_path,
    save_state,
    side_table_ddl,
)
from identitymesh.errors import ColumnsUnfit
from identitymesh.redaction import Secret


class KeyValueRow:
    def __init__(self, session: Session, place: RowPlace, settle: Callable[[], tuple[str, ...]] = tuple) -> None:
        """``settle`` looks at the table before anything is written, and answers which triggers are bypassed."""
        self._session = session
        self._settle = settle
        self._place = place
        self._table = quote_path(place.table)
        self._key, self._value = quote(place.key_column), quote(place.value_column)

    @property
    def place(self) -> RowPlace:
        return self._place

    def inspect(self, *, writing: bool) -> Structure:
        """A row that is not there is a secret that is not set, as an empty one is."""
        found = self._read()
        unfired = self._settle() if writing else ()
        return Structure((self._place.key_column,), self._place.row in found, has_cells=True, unfired=unfired)

    def check_drop(self) -> tuple[str, ...]:
        return ()

    def _read(self, *, locked: bool = False) -> dict[str, str | None]:
        place = self._place
        lock = " FOR UPDATE" if locked and self._session.dialect == "postgresql" else ""
        rows = self._session.execute(
            f"SELECT {self._key}, {self._value} FROM {self._table} "  # noqa: S608 - names are quoted
            f"WHERE {self._key} IN (%s, %s, %s) ORDER BY 1{lock}",
            place.rows,
        )
        found: dict[str, str | None] = {}
        for key, value in rows:
            if key in found:
                raise ColumnsUnfit(f"{place.table} has the row {key!r} twice", hint="Give the table a primary key.")
            if value is not None and not isinstance(value, str):
                raise ColumnsUnfit(f"{place.table}.{place.value_column} is not of a text type")
            found[key] = value
        return found

    def _row(self, found: dict[str, str | None]) -> Row:
        place = self._place
        plain = found.get(place.row)
        cells = [_unhex(found.get(name)) for name in (place.encrypted, place.nonce)]
        return ReadRow(found, (place.row,), (place.row,), Secret(plain) if plain else None, cell_of(*cells))

    def scan(self, which: Which, after: Position | None, limit: int, *, until: Position | None = None) -> list[Row]:
        del limit, until  # it has one row
        return [] if after is not None else self._chosen(which, self._row(self._read()))

    def take(self, which: Which, limit: int, *, after: Position | None = None) -> list[Row]:
        return self.scan(which, after, limit)

    def parts(self, count: int) -> list[Part]:
        del count
        return [WHOLE]

    @staticmethod
    def _chosen(which: Which, row: Row) -> list[Row]:
        wanted = {
            Which.PENDING: row.plain is not None and row.cell is None,
            Which.FILLED: row.plain is not None or row.cell is not None,
            Which.ENCRYPTED: row.cell is not None,
            Which.COMPATIBLE: row.cell is not None and row.cell.nonce is not None,
        }
        return [row] if wanted[which] else []

    def prepare(self, state: State) -> None:
        with self._session.transaction():
            self._session.execute(side_table_ddl())
            save_state(self._session, state)

    def write(self, changes: Sequence[Change], state: State | None) -> int:
        with self._session.transaction():
            written = 0
            for change in changes:
                if self._read(locked=True) == change.row.address:
                    self._apply(change)
                    written += 1
            if state is not None:
                save_state(self._session, state)
        return written

    def _apply(self, change: Change) -> None:
        place = self._place
        if change.plain is not None:
            self._put(place.row, change.plain.reveal_text())
            return
        encrypted, nonce = change.cell or (None, None)
        self._put(place.encrypted, None if encrypted is None else encrypted.hex())
        self._put(place.nonce, None if nonce is None else nonce.hex())

    def _put(self, key: str, value: str | None) -> None:
        """Update, insert, or for ``None`` remove."""
        if value is None:
            self._session.execute(f"DELETE FROM {self._table} WHERE {self._key} = %s", (key,))  # noqa: S608
            return
        updated = self._session.execute(
            f"UPDATE {self._table} SET {self._value} = %s WHERE {self._key} = %s RETURNING 1",  # noqa: S608
            (value, key),
        )
        if not updated:
            self._session.execute(
                f"INSERT INTO {self._table} ({self._key}, {self._value}) VALUES (%s, %s)",  # noqa: S608
                (key, value),
            )

    def lock(self) -> None:
        """The table, since an encrypted value may be a row that is not there yet. SQLite's writer has the file."""
        if self._session.dialect == "postgresql":
            self._session.execute(f"LOCK TABLE {self._table} IN SHARE ROW EXCLUSIVE MODE")

    def drop_plain(self, state: State) -> None:
        self._put(self._place.row, None)
        save_state(self._session, state)

    def restore_plain(self, state: State) -> None:
        """Nothing: the row comes with its value."""

    def drop_cells(self, state: State) -> None:
        self._put(self._place.encrypted, None)
        self._put(self._place.nonce, None)
        forget_state(self._session, state.place)

    def size(self) -> int:
        return 1

    def count(self) -> Counts:
        found = self._read()
        row = self._row(found)
        encrypted = row.cell is not None
        return Counts(
            rows=int(bool(found)),
            plain=int(row.plain is not None),
            encrypted=int(encrypted),
            sealed=int(row.cell is not None and row.cell.nonce is None),
            pending=int(row.plain is not None and not encrypted),
        )


def _unhex(text: str | None) -> bytes | None:
    """Lower-case hex as bytes; what is no such text is a value that does not open."""
    if text is None:
        return None
    try:
        if text == text.lower():
            return binascii.unhexlify(text)
    except ValueError:
        pass
    return b""
