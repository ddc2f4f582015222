"""What the work needs of a database, whichever it is; and the side table, which looks the same in both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Protocol

from identitymesh.columns.places import Change, Counts, Place, Row, State

SIDE_TABLE: Final = "identitymesh_columns"
_FIELDS: Final = "place, state, format, key_id, key_check, next_key_id, next_key_check, cursor, detail"
Position = tuple[str | int, ...]
Part = tuple[Position | None, Position | None]  # behind, up to and with
WHOLE: Final[Part] = (None, None)


class Which(Enum):
    """Rows that a scan shows."""

    PENDING = "a plain value, and no encrypted one"
    FILLED = "any value, plain or encrypted"
    ENCRYPTED = "an encrypted value"
    COMPATIBLE = "an encrypted value with a nonce beside it"


class Session(Protocol):
    """An open database of an application."""

    @property
    def dialect(self) -> str: ...

    def describe(self) -> str:
        """Where it is, without a credential."""
        ...

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Carry out one statement; ``%s`` stands for a parameter in either database."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Begins as a writer; commits at the end, rolls back on any error."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else runs a command that writes in this database meanwhile.

        Raises:
            ColumnsBusy: somebody does.
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """Work for a command that is alone; as long as this lasts, no other begins even if that one is gone."""
        ...

    def has_side_table(self) -> bool: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Structure:
    """What a table is, as far as it matters here."""

    keys: tuple[str, ...] = ()
    has_plain: bool = True
    has_cells: bool = False
    guarded: bool = False
    column: dict[str, Any] = field(default_factory=dict)  # type, not_null, default: enough to make it anew
    unfired: tuple[str, ...] = ()  # triggers of the application that are bypassed


class Target(Protocol):
    """One place in an open database."""

    @property
    def place(self) -> Place: ...

    def inspect(self, *, writing: bool) -> Structure:
        """Look at the table.

        Raises:
            ColumnsUnfit, ColumnsForbidden: it cannot be done here; says what and how to mend it.
        """
        ...

    def check_drop(self) -> tuple[str, ...]:
        """What goes together with the plain column, in words.

        Raises:
            ColumnsUnfit: something depends on it that must be changed first.
        """
        ...

    def prepare(self, state: State) -> None:
        """Make side table, columns and guard, and keep the state; all or nothing."""
        ...

    def scan(self, which: Which, after: Position | None, limit: int, *, until: Position | None = None) -> list[Row]:
        """Rows in the order of their keys: behind one, up to another and with it."""
        ...

    def parts(self, count: int) -> list[Part]:
        """Cut all rows into at most so many parts of about one size; what is small is not cut."""
        ...

    def write(self, changes: Sequence[Change], state: State | None) -> int:
        """Write those rows that are still as they were read; how many those were. Moves the state along."""
        ...

    def lock(self) -> None:
        """Inside a transaction: nobody else writes this place before it ends."""
        ...

    def take(self, which: Which, limit: int, *, after: Position | None = None) -> list[Row]:
        """Inside the transaction that has the lock: rows as they stay until it ends."""
        ...

    def size(self) -> int:
        """About how many rows there are; cheap."""
        ...

    def count(self) -> Counts: ...

    def drop_plain(self, state: State) -> None:
        """Inside a transaction."""
        ...

    def restore_plain(self, state: State) -> None:
        """Make the plain column again as it was; all or nothing."""
        ...

    def drop_cells(self, state: State) -> None:
        """Inside a transaction: remove encrypted values, guard and state."""
        ...


def side_table_ddl() -> str:
    """The same words make it in both databases."""
    return (
        f"CREATE TABLE IF NOT EXISTS {SIDE_TABLE} (place TEXT PRIMARY KEY, state TEXT NOT NULL, format TEXT NOT NULL, "
        "key_id TEXT NOT NULL, key_check TEXT NOT NULL, next_key_id TEXT NOT NULL, next_key_check TEXT NOT NULL, "
        "cursor TEXT NOT NULL, detail TEXT NOT NULL, changed TEXT NOT NULL)"
    )


def read_states(session: Session) -> dict[str, State]:
    """What the side table says; nothing if there is none."""
    if not session.has_side_table():
        return {}
    rows = session.execute(f"SELECT {_FIELDS} FROM {SIDE_TABLE}")  # noqa: S608 - names of ours
    return {row[0]: _state(row) for row in rows if row[0]}


def _state(row: tuple[Any, ...]) -> State:
    place, step, form, key_id, key_check, next_key_id, next_key_check, cursor, detail = row
    return State(place, step, form, key_id, key_check, next_key_id, next_key_check, cursor, json.loads(detail))


def save_state(session: Session, state: State) -> None:
    """Inside a transaction."""
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    values = (
        state.step, state.form, state.key_id, state.key_check, state.next_key_id, state.next_key_check, state.cursor,
        json.dumps(state.detail, sort_keys=True), moment,
    )  # fmt: skip
    updated = session.execute(
        f"UPDATE {SIDE_TABLE} SET state = %s, format = %s, key_id = %s, key_check = %s, next_key_id = %s, "  # noqa: S608
        "next_key_check = %s, cursor = %s, detail = %s, changed = %s WHERE place = %s RETURNING place",
        (*values, state.place),
    )
    if not updated:
        session.execute(
            f"INSERT INTO {SIDE_TABLE} ({_FIELDS}, changed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608
            (state.place, *values),
        )


def forget_state(session: Session, place: str) -> None:
    """Inside a transaction."""
    session.execute(f"DELETE FROM {SIDE_TABLE} WHERE place = %s", (place,))  # noqa: S608 - names of ours


def moved(state: State, row: Row) -> State:
    """The state after everything up to this row was written."""
    return replace(state, cursor=json.dumps(row.after))


def position(state: State) -> Position | None:
    """Where a scan goes on."""
    return tuple(json.loads(state.cursor)) if state.cursor else None


def quote(name: str) -> str:
    """An identifier for either database."""
    return '"' + name.replace('"', '""') + '"'


def quote_path(name: str) -> str:
    """The name of a table in a plan: dots separate it from its schema."""
    return ".".join(map(quote, name.split(".")))
