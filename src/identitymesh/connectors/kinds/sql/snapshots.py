"""One transaction of the database, and the statements that are asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, CursorResult, Engine, bindparam, exc, text
from sqlalchemy.types import NullType

from identitymesh.connectors.kinds.sql.failures import not_begun, translate_error, translate_write_error
from identitymesh.connectors.kinds.sql.opening import Deadline
from identitymesh.connectors.kinds.sql.settings import SqlObject
from identitymesh.connectors.kinds.sql.statements import as_text
from identitymesh.errors import ConnectorMisconfigured

PAGE: Final = 250  # rows handed on at once, see Page
FETCH: Final = 1000  # rows that a server sends at once
# Seconds. Between two statements of a write nobody waits for anything: who does not go on stands still, and whoever
# takes over its work cannot see a row that it would commit when it wakes up.
STILL: Final = 2.0
_WRITING: Final = """
    SELECT set_config('TimeZone', 'UTC', true),
           set_config('statement_timeout', %(statement)s, true),
           set_config('idle_in_transaction_session_timeout', %(still)s, true)
"""


def _value(name: str, value: Any) -> BindParameter[Any]:
    """A parameter without a type of ours: the database compares it as the column's type."""
    return bindparam(name, value, type_=NullType())


class Snapshot:
    """A transaction: read-only and of one state of the database, or one that writes.

    ``exclusive``: nobody else can write until it ends. Every method may raise SQLAlchemy's errors;
    :func:`open_snapshot` and :func:`open_writing` translate them.
    """

    def __init__(self, connection: Connection, deadline: Deadline, *, exclusive: bool = False) -> None:
        self._connection = connection
        self._deadline = deadline
        self.exclusive = exclusive

    def stream(self, statement: str, **values: Any) -> CursorResult[Any]:
        """The rows, fetched from the server in pages."""
        return self._execute(statement, {"stream_results": True, "yield_per": FETCH}, values)

    def rows(self, statement: str, **values: Any) -> CursorResult[Any]:
        """The rows of a statement that has few."""
        return self._execute(statement, {}, values)

    def tick(self) -> None:
        """The next fetch has the whole time limit again."""
        self._deadline.restart()

    @staticmethod
    def quote(name: str) -> str:
        """A column or table name exactly as given, for a statement of this class. Both databases follow the standard.

        Not the dialect's own quoting: that also doubles ``%``, which ``text`` does again.
        """
        return ('"' + name.replace('"', '""') + '"').replace(":", r"\:")

    def select(self, selected: SqlObject, rest: str = "", what: str = "*") -> str:
        """``SELECT what FROM`` the object's query or table, called ``q``, and the ``rest`` of the statement.

        Names in ``what`` and ``rest`` come from :meth:`column`, values are parameters. The query itself is the
        definition's, written by whoever may also choose the database.
        """
        return f"SELECT {what} FROM {self._source(selected)} {rest}"  # noqa: S608

    def _source(self, selected: SqlObject) -> str:
        """What stands after ``FROM``: the query in brackets, or the table's quoted name; called ``q``."""
        if selected.query is not None:
            return f"(\n{as_text(selected.query)}\n) AS q"
        return self.table(selected) + " AS q"

    def table(self, selected: SqlObject) -> str:
        """The quoted name of the object's table."""
        return ".".join(self.quote(part) for part in (selected.table or "").split("."))

    def column(self, name: str) -> str:
        return "q." + self.quote(name)

    def own_column(self, selected: SqlObject, name: str) -> str:
        """The column in a statement that writes. Its table has no other name there: SQLite knows none for views."""
        return f"{self.quote((selected.table or '').rpartition('.')[2])}.{self.quote(name)}"

    def _execute(self, statement: str, options: dict[str, Any], values: dict[str, Any]) -> CursorResult[Any]:
        self.tick()
        clause = text(statement).bindparams(*(_value(name, value) for name, value in values.items()))
        return self._connection.execute(clause, execution_options=options)


@contextmanager
def open_snapshot(engine: Engine, deadline: Deadline, timeout: float, what: str) -> Iterator[Snapshot]:
    """A snapshot for the time of a ``with``. ``what`` is being done, in words, for errors.

    Raises:
        ConnectorError: whatever the database or its driver says, translated.
    """
    deadline.restart()
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                isolated = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                # Local, because a pooler between here and the server may hand the session to somebody else later.
                isolated.exec_driver_sql(f"SET LOCAL statement_timeout = {round(timeout * 1000)}")
            else:
                # The driver begins no transaction for a SELECT by itself; each would see its own state.
                connection.exec_driver_sql("BEGIN")
            yield Snapshot(connection, deadline)
    except exc.SQLAlchemyError as error:
        raise translate_error(error, what) from error


@contextmanager
def open_writing(engine: Engine, deadline: Deadline, timeout: float, what: str, *, adding: bool) -> Iterator[Snapshot]:
    """A transaction that writes: committed at the end of a ``with``, undone when it is left by an error.

    ``adding``: it makes a new row, so that a row which breaks a constraint of uniqueness exists already.

    Raises:
        ConnectorError: whatever the database or its driver says, translated; Unreachable and Throttled alone say that
            nothing can have been written, and ConnectionLost and TimedOut that it may have been. PostgreSQL ends a
            transaction in which nothing is said for ``STILL`` seconds: ConnectionLost.
    """
    deadline.restart()
    try:
        with engine.connect() as connection:
            exclusive = connection.dialect.name == "sqlite"
            if exclusive:
                _begin_exclusively(connection, what)
            else:
                # A time without a zone is UTC, as it is when it is read.
                limits = {"statement": f"{round(timeout * 1000)}", "still": f"{round(STILL * 1000)}"}
                connection.exec_driver_sql(_WRITING, limits)
            yield Snapshot(connection, deadline, exclusive=exclusive)
            deadline.restart()
            connection.commit()
    except exc.SQLAlchemyError as error:
        raise translate_write_error(error, what, adding=adding) from error


def _begin_exclusively(connection: Connection, what: str) -> None:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except exc.DBAPIError as error:
        raise not_begun(error, what) from error


def columns_of(result: CursorResult[Any], selected: SqlObject, *, guards: int = 0) -> list[str]:
    """The names of a result's columns, in order, without so many at the end.

    Raises:
        ConnectorMisconfigured: a name comes twice, or key or watermark is not among them.
    """
    names = [str(column[0]) for column in result.cursor.description or ()]
    names = names[: len(names) - guards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConnectorMisconfigured(
            f"the query gives column {twice[0]} twice", hint="Name the columns, with AS where two have the same name."
        )
    for role, name in (("key", selected.key), ("watermark", selected.watermark)):
        if name is not None and name not in names:
            raise ConnectorMisconfigured(
                f"there is no column {name} to be the {role}",
                hint=f"The columns are: {', '.join(names)}. Upper and lower case matter.",
            )
    return names
