"""Connections to an application's PostgreSQL database, and what is asked of it as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format as WireFormat
from psycopg.pq import TransactionStatus

from identitymesh.columns.addresses import PostgresAddress
from identitymesh.columns.failures import translated
from identitymesh.columns.session import SIDE_TABLE
from identitymesh.errors import ColumnsBusy
from identitymesh.redaction import Secret

# One command at a time for each database: locks like this one are the database's own, and end with the session.
_LOCK: Final = 0x696D636F6C756D6E
_SHARED_LOCK: Final = _LOCK + 1  # of the processes that share the work of one command
TEXT, BYTEA, TID, XID = 25, 17, 27, 28
# Batches are read in the order of the key, from its index, and written by the places of their rows. The planner cannot
# know that each is a small part of the table, and would read all of it for every one.
# What it then thinks a statement costs would have it compiled first, for half a second each, or given to workers that
# are started for every batch.
_PLANS: Final = "SET jit = off; SET max_parallel_workers_per_gather = 0; " + "; ".join(
    f"SET enable_{kind} = off" for kind in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
)


# Where few rows are looked for in a whole table, reading it once is quicker than following its index.
AS_A_WHOLE: Final = "SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_indexscan = off"
BY_THE_KEY: Final = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_indexscan = on"


class PostgresSession:
    """Two connections: one writes, the other reads ahead of it."""

    dialect = "postgresql"

    def __init__(self, address: PostgresAddress, password: Secret | None, ca_file: str | None) -> None:
        self._address = address
        self._parameters = _parameters(address, ca_file)
        self._password = password
        self.writer = self._connect()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        with translated(self.describe()):
            connection = psycopg.connect(
                password=None if self._password is None else self._password.reveal_text(),
                autocommit=True,
                **self._parameters,
            )
        # The guard lets changes of ours pass; see postgresql_columns.
        connection.execute("SET identitymesh.columns = 'on'; SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'")
        connection.execute(_PLANS)
        connection.execute("SET lock_timeout = '60s'")  # a row that somebody holds for longer ends this, with words
        for dumper in (_TidArray, _XidArray, _ByteaArray, _TextArray):
            connection.adapters.register_dumper(dumper.kind, dumper)
        return connection

    @cached_property
    def reader(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Reads while the other one writes."""
        return self._connect()

    def describe(self) -> str:
        return self._address.describe()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated(self.describe()):
            cursor = self.writer.execute(statement.encode(), tuple(parameters))
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with translated(self.describe()), self.writer.transaction():
            yield

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A transaction that is committed without waiting for the server's disk; inside of another that one decides.

        A crash of the server may undo the newest of these, each with the cursor that it moved; what was committed is
        undone from the end only, so none is left out. Every command ends with a commit that is waited for, and that
        one waits for all before it.
        """
        outermost = self.writer.info.transaction_status == TransactionStatus.IDLE
        with self.transaction():
            if outermost:
                self.execute("SET LOCAL synchronous_commit = off")
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        if not self.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))[0][0]:
            raise ColumnsBusy(
                f"{self.describe()}: another command works on encrypted columns there",
                hint="Wait for it to end. `identitymesh columns status` shows how far it is.",
            )
        try:
            # A command that was killed a moment ago may have left processes whose last batch is not done.
            if not self.execute("SELECT pg_try_advisory_lock(%s)", (_SHARED_LOCK,))[0][0]:
                raise ColumnsBusy(
                    f"{self.describe()}: processes of a command that was killed are still at work there",
                    hint="They end by themselves in a moment. Then run this again.",
                )
            self.execute("SELECT pg_advisory_unlock(%s)", (_SHARED_LOCK,))
            yield
        finally:
            if not self.writer.closed:
                self.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    @contextmanager
    def together(self) -> Iterator[None]:
        self.execute("SELECT pg_advisory_lock_shared(%s)", (_SHARED_LOCK,))
        yield

    def has_side_table(self) -> bool:
        return self.execute("SELECT to_regclass(%s) IS NOT NULL", (SIDE_TABLE,))[0][0] is True

    def close(self) -> None:
        self.writer.close()
        if "reader" in self.__dict__:
            self.reader.close()


def _parameters(address: PostgresAddress, ca_file: str | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"application_name": "identitymesh columns", "connect_timeout": 15}
    parameters |= dict(address.options)
    known = {"host": address.host, "port": address.port, "dbname": address.database, "user": address.user}
    parameters |= {name: value for name, value in known.items() if value is not None}
    if ca_file is not None:
        parameters |= {"sslmode": "verify-full", "sslrootcert": ca_file}
    elif not address.local:
        parameters |= {"sslmode": "verify-full", "sslrootcert": "system"}
    return parameters


# Arrays as the server reads them (array_recv): psycopg would take ten times as long for each batch.


class BinaryArray:
    """One-dimensional; elements are bytes as the type's own receive function takes them, ``None`` is NULL."""

    oid: int = 0

    __slots__ = ("data",)

    def __init__(self, items: Sequence[bytes | None]) -> None:
        numbers = (1, 1, self.oid, len(items), 1) if items else (0, 1, self.oid)
        self.data = b"".join([number.to_bytes(4, "big") for number in numbers]) + _elements(items)


def _elements(items: Sequence[bytes | None]) -> bytes:
    """Each behind its length; the length of NULL is -1."""
    present = [item for item in items if item is not None]
    lengths = {size: size.to_bytes(4, "big") for size in set(map(len, present))}
    if len(present) < len(items):
        return b"".join([b"\xff\xff\xff\xff" if item is None else lengths[len(item)] + item for item in items])
    if len(lengths) == 1:
        (length,) = lengths.values()
        return length + length.join(present)
    return b"".join([lengths[len(item)] + item for item in present])


class TidArray(BinaryArray):
    __slots__ = ()
    oid = TID


class XidArray(BinaryArray):
    __slots__ = ()
    oid = XID


class ByteaArray(BinaryArray):
    __slots__ = ()
    oid = BYTEA


class TextArray(BinaryArray):
    __slots__ = ()
    oid = TEXT


class _ArrayDumper(Dumper):
    format = WireFormat.BINARY
    kind: type[BinaryArray]

    def dump(self, obj: BinaryArray) -> bytes:
        return obj.data


class _TidArray(_ArrayDumper):
    kind = TidArray
    oid = 1010


class _XidArray(_ArrayDumper):
    kind = XidArray
    oid = 1011


class _ByteaArray(_ArrayDumper):
    kind = ByteaArray
    oid = 1001


class _TextArray(_ArrayDumper):
    kind = TextArray
    oid = 1009
