"""Opens the product's database: SQLite (WAL) or PostgreSQL. Nothing else in the product does.

Short transactions, one colour: :meth:`Database.read` and :meth:`Database.write`
give a SQLAlchemy connection inside a transaction. Driver errors leave through one
seam (:func:`translated`) as the product's own, without SQL parameters.
"""

from __future__ import annotations

import ipaddress
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event, exc, make_url
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from identitymesh.allocator import give_back
from identitymesh.errors import (
    DatabaseLocked,
    DatabaseUnreachable,
    DiskFull,
    MeshError,
    RowConflict,
    SettingsError,
    StorageError,
)
from identitymesh.redaction import Secret

BUSY_SECONDS = 15.0
STILL_SECONDS = 60  # in a transaction in which nothing is said for so long, a process stands still
LOCK_SECONDS = 2 * STILL_SECONDS  # nobody waits longer for a row: whoever holds it is to be looked at by a person
# What may stand after the ? of a URL. Everything else of libpq could carry a credential or weaken TLS.
_OPTIONS = {"sqlite": frozenset[str](), "postgresql": frozenset({"host", "application_name", "options"})}
_TAKEN = ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE")
_WAITED = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available


class Database:
    """A pool of connections to one database. ``close()`` it when done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: list[PoolProxiedConnection] = []

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @property
    def engine(self) -> Engine:
        """For migrations and bulk writers of this package."""
        return self._engine

    def describe(self) -> str:
        """Where it is, in words, without a credential."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; what it sees is one snapshot."""
        with translated(self.describe()), self._engine.connect() as connection:
            if self.dialect == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection inside a write transaction, committed at the end, rolled back on any error."""
        with translated(self.describe()), self._engine.connect() as connection:
            connection.execution_options(identitymesh_write=True)
            with connection.begin():
                yield connection

    def prepare(self, statement: Select[Any]) -> Callable[..., Sequence[Any] | None]:
        """A query of one row that is asked so often that SQLAlchemy's own work would be most of it.

        What is answered takes the parameters and gives the row as the driver does: use it for text, numbers and bytes
        alone. One statement is one snapshot. ``None`` is no row, or no answer: :meth:`read` says why.
        """
        compiled = statement.compile(dialect=self._engine.dialect)
        text, names = str(compiled), compiled.positiontup
        failures = (self._engine.dialect.loaded_dbapi.Error, exc.SQLAlchemyError)

        def first(**values: Any) -> Sequence[Any] | None:
            try:
                with self._driver() as connection:
                    cursor = connection.cursor()
                    cursor.execute(text, values if names is None else [values[name] for name in names])
                    rows = cursor.fetchmany(2)
                    cursor.close()
            except failures:
                return None
            return rows[0] if rows else None

        return first

    @contextmanager
    def _driver(self) -> Iterator[PoolProxiedConnection]:
        """A connection of the driver, in no transaction of ours. One of SQLite is kept: it leaves none open."""
        try:
            connection = self._kept.pop()
        except IndexError:
            connection = self._engine.raw_connection()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self.dialect == "sqlite" and not self._kept:
            self._kept.append(connection)
        else:
            connection.close()

    def rest(self) -> None:
        """When much work is over: give back memory. Connections that nobody uses are closed, with their page caches."""
        self.close()
        give_back()

    def close(self) -> None:
        """Close what nobody uses; who asks again opens anew."""
        with suppress(IndexError):  # another thread may have taken it
            while True:
                self._kept.pop().close()
        self._engine.dispose()


def open_database(url: str, *, password: Secret | None = None, root_certificate: Path | None = None) -> Database:
    """Open ``sqlite:///path`` or ``postgresql+psycopg://user@host/name``.

    The password goes straight to the driver and is in no URL, repr or log.

    Raises:
        SettingsError: the URL is not one of these, or carries a password.
    """
    parsed = check_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite(parsed))
    return Database(_postgresql(parsed, password, root_certificate))


def check_url(url: str) -> URL:
    """Parse a database URL; nothing is opened.

    Raises:
        SettingsError: not a URL of SQLite or PostgreSQL, or one that carries a password or an odd option.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise SettingsError(
            "database.url is not a database URL",
            hint="Use sqlite:///identitymesh.db or postgresql+psycopg://user@host/name.",
        ) from None
    if parsed.password is not None or "password" in parsed.query:
        raise SettingsError(
            "database.url carries a password",
            hint="Remove it and name a file of mode 0400 in database.password_file.",
        )
    backend = parsed.get_backend_name()
    if backend not in _OPTIONS:
        raise SettingsError(f"database.url names {backend}; Identity Mesh runs on sqlite and postgresql")
    odd = sorted(set(parsed.query) - _OPTIONS[backend])
    if odd:
        possible = ", ".join(sorted(_OPTIONS[backend])) or "none"
        raise SettingsError(f"database.url has the option {odd[0][:40]!r} after its ?; possible: {possible}")
    return parsed


PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-8192",  # at most 8 MB for each connection: 64 MB were no faster for a million people
    "wal_autocheckpoint=4000",  # pages, 16 MB: a batch writes about 4 MB, and each checkpoint waits for the disk twice
)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_use_lifo=True,  # each has a page cache, which it drops when another writes: in turn, all would be filled
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a writer waits for its turn at the start, and never fails half way with "locked".
        write = connection.get_execution_options().get("identitymesh_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(url: URL, password: Secret | None, root_certificate: Path | None) -> Engine:
    arguments: dict[str, Any] = {"connect_timeout": 10, "application_name": "identitymesh"}
    if root_certificate is not None:
        arguments |= {"sslmode": "verify-full", "sslrootcert": str(root_certificate)}
    elif not _is_local(url):
        arguments |= {"sslmode": "verify-full", "sslrootcert": "system"}
    engine = create_engine(url.set(drivername="postgresql+psycopg"), hide_parameters=True, pool_pre_ping=True)

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        parameters.update(arguments)
        if password is not None:
            parameters["password"] = password.reveal_text()

    @event.listens_for(engine, "connect")
    def _let_go(connection: Any, _entry: ConnectionPoolEntry) -> None:
        # Who stands still would hold its rows for ever, and everybody would wait: also whoever takes over its lease.
        connection.execute(f"SET idle_in_transaction_session_timeout = '{STILL_SECONDS}s'")
        connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        connection.commit()

    return engine


def _is_local(url: URL) -> bool:
    """Whether nobody between here and the server could listen: a socket folder, or loopback."""
    host = url.query.get("host", url.host or "")
    if not isinstance(host, str):
        return False
    if not host or host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn driver errors into ``StorageError``; the product's own errors pass."""
    try:
        yield
    except MeshError:
        raise
    except exc.DBAPIError as error:
        raise _translate(error, where) from None
    except exc.SQLAlchemyError as error:
        raise StorageError(f"{where}: {type(error).__name__}") from None


def _translate(error: exc.DBAPIError, where: str) -> StorageError:
    original = error.orig
    text = str(original).splitlines()[0] if str(original) else type(original).__name__
    lowered = text.lower()
    unwritten = str(getattr(original, "sqlite_errorname", "")).startswith(("SQLITE_FULL", "SQLITE_IOERR"))
    if unwritten or "no space left" in lowered or getattr(original, "sqlstate", None) == "53100":
        return DiskFull(
            f"{where}: no space left, or the disk cannot be written",
            hint="Free some space and run the command again; nothing was half written.",
        )
    state = getattr(original, "sqlstate", None)
    if "database is locked" in lowered or "database is busy" in lowered or state in _WAITED:
        return DatabaseLocked(
            f"{where}: locked by another program", hint="Wait for it to end, then run the command again."
        )
    taken = state == "23505" or getattr(original, "sqlite_errorname", "") in _TAKEN
    if taken:  # the driver's message quotes the row
        return RowConflict(f"{where}: another process wrote the same row first", hint="Run the command again.")
    # Of what PostgreSQL itself says, only these concern the connection: 08 connection, 28 login, 3D no such database,
    # 53 resources, 55 not in this state, 57 stopped by somebody, 58 its system.
    concerns_connection = state is None or state[:2] in {"08", "28", "3D", "53", "55", "57", "58"}
    stood_still = state == "25P03"  # see STILL_SECONDS
    if stood_still or error.connection_invalidated or (isinstance(error, exc.OperationalError) and concerns_connection):
        return DatabaseUnreachable(
            f"{where}: {text}", hint="Check that the database runs and that database.url is right."
        )
    # Server messages of data errors can quote values: only the kind is passed on.
    return StorageError(f"{where}: the database refused a statement ({state or type(original).__name__})")


def sqlite_file(url: str) -> Path | None:
    """The file of a ``sqlite:`` URL; ``None`` for other databases and for one in memory."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))
