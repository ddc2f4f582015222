"""Connections to the two databases, with a time limit, and with TLS where somebody could listen.

The password is asked for when a connection is made and goes straight to the driver: it
is in no URL, no engine and no log.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.sql.failures import connect_error
from identitymesh.connectors.kinds.sql.settings import PostgresAddress, SqliteAddress, SqlSettings
from identitymesh.connectors.scrubbing import scrub
from identitymesh.errors import ConnectorError, ConnectorMisconfigured, Unreachable

_POOL: Final = 4  # a read, and the single look-ups while it runs
_GRACE: Final = 5.0  # seconds that an answer may need on its way
_STEPS: Final = 10_000  # virtual machine steps of SQLite between two looks at the clock


class Deadline:
    """The time limit of one call, for drivers that ask instead of knowing. ``limit`` in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._end = time.monotonic() + limit

    def restart(self) -> None:
        self._end = time.monotonic() + self._limit

    def passed(self) -> bool:
        return time.monotonic() > self._end


def open_engine(
    settings: SqlSettings, credentials: CredentialSource, deadline: Deadline, *, writable: bool = False
) -> Engine:
    """An engine that connects when first used. ``writable`` is for SQLite; in PostgreSQL each transaction says it."""
    address = settings.address
    if isinstance(address, SqliteAddress):
        return _engine("sqlite", lambda: _connect_sqlite(address, settings.timeout, deadline, writable=writable))
    return _engine("postgresql+psycopg", lambda: connect_postgres(address, settings, credentials))


def _engine(dialect: str, creator: Callable[[], Any]) -> Engine:
    return create_engine(
        URL.create(dialect),
        creator=creator,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=_POOL - 1,
        pool_timeout=30,
    )


def _connect_sqlite(
    address: SqliteAddress, timeout: float, deadline: Deadline, *, writable: bool
) -> sqlite3.Connection:
    if not Path(address.path).is_file():
        raise Unreachable(
            f"there is no file {address.path}", hint="Check the path in the URL; it is never created by a connector."
        )
    connection = sqlite3.connect(
        f"file:{quote(address.path)}?mode={'rw' if writable else 'ro'}",
        uri=True,
        timeout=timeout,
        isolation_level=None,  # transactions are begun in words, of the kind that each needs
        check_same_thread=False,  # the pool hands connections on; no two threads use one at once
    )
    connection.execute("PRAGMA foreign_keys = 1" if writable else "PRAGMA query_only = 1")
    # Bytes that are not UTF-8 must spoil their own row alone: the check of entries finds the surrogates.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.set_progress_handler(deadline.passed, _STEPS)
    return connection


def connect_postgres(
    address: PostgresAddress, settings: SqlSettings, credentials: CredentialSource
) -> psycopg.Connection[Any]:
    """A connection; its password is asked for now. Raises the ``ConnectorError`` family."""
    parameters: dict[str, Any] = {
        **dict(address.options),
        **tls_options(address, settings),
        **_limits(settings.timeout),
    }
    parameters |= {"host": address.host, "port": address.port, "dbname": address.database}
    if address.user is not None:
        parameters["user"] = address.user
    parameters.setdefault("application_name", "identitymesh")
    where = f"{address.host}:{address.port}/{address.database}"
    secret = credentials("password") if settings.password is not None else None
    failure: ConnectorError
    try:
        connection = _Patient.connect(password=None if secret is None else secret.reveal_text(), **parameters)
    except ValueError:
        failure = ConnectorMisconfigured(f"{where}: the password is not text")
    except psycopg.Error as error:
        failure = connect_error(error, where, partial(scrub, () if secret is None else (secret,)))
    else:
        connection.patience = settings.timeout + _GRACE
        return _adapted(connection)
    # Raised out here, without a cause: the driver's exception keeps the password among its connection's parameters.
    raise failure


class _Patient(psycopg.Connection[Any]):
    """Gives up on a server that is silent, where what is between keeps the line alive: keepalives do not notice that.

    The server itself ends a statement in time (``statement_timeout``); ``patience``, in seconds, is a little longer.
    """

    patience: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = self.patience if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 - no other name
            self.pgconn.finish()  # an answer that still came would be taken for the next one's
            raise psycopg.errors.ConnectionTimeout(f"no answer in {limit:g} s") from None


def _adapted(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    for name, loader in (("date", _LenientDate), ("timestamp", _LenientTime), ("timestamptz", _LenientZonedTime)):
        connection.adapters.register_loader(name, loader)
    return connection


def tls_options(address: PostgresAddress, settings: SqlSettings) -> dict[str, Any]:
    """What libpq calls ``verify-full``, unless nobody could listen or the definition says that it does not matter."""
    if settings.ca_file is not None:
        return {"sslmode": "verify-full", "sslrootcert": settings.ca_file}
    if address.local or settings.allow_cleartext:
        return {"sslmode": "prefer"}
    return {"sslmode": "verify-full", "sslrootcert": "system"}


def _limits(timeout: float) -> dict[str, Any]:
    whole = max(2, round(timeout))  # libpq takes 1 as 2
    return {
        "connect_timeout": whole,
        "keepalives_idle": whole,
        "keepalives_interval": max(1, whole // 3),
        "keepalives_count": 3,
        "tcp_user_timeout": whole * 1000,
    }


class _Lenient:
    """``infinity`` and years beyond 9999 stay text; the driver would end the whole read."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)  # type: ignore[misc]  # of the driver's class that stands beside this one
        except psycopg.DataError:
            return bytes(data).decode()


class _LenientDate(_Lenient, DateLoader):
    pass


class _LenientTime(_Lenient, TimestampLoader):
    pass


class _LenientZonedTime(_Lenient, TimestamptzLoader):
    pass
