"""The contract of connectors, kept by ``sql`` on both databases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from identitymesh.connectors.facade import Facade
from identitymesh.model.attributes import Attributes
from tests.connectors.contract import (
    ChangesContract,
    Names,
    ReadableContract,
    SeveralValuesContract,
    SeveralValuesWritableContract,
    World,
    WritableContract,
)
from tests.connectors.doubles import Credentials, facade
from tests.servers.postgresql import PostgresDatabase


class SqliteWorld:
    names = Names(unique="login", text="note", binary="photo")

    def __init__(self, path: Path, source: dict[str, Any]) -> None:
        self.path = path
        self.source = source
        self._open: list[Facade] = []
        with self._connection() as connection:
            connection.execute(
                "CREATE TABLE people"
                " (no INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE, note TEXT, photo BLOB, changed INTEGER)"
            )

    def add(self, people: Sequence[Attributes]) -> list[str]:
        keys: list[str] = []
        with self._connection() as connection:
            for person in people:
                row = connection.execute(
                    "INSERT INTO people (login, note, photo, changed) "
                    "VALUES (?, ?, ?, (SELECT coalesce(max(changed), 0) + 1 FROM people)) RETURNING no",
                    [person.get(name) for name in ("login", "note", "photo")],
                ).fetchone()
                keys.append(str(row[0]))
        return keys

    def facade(self) -> Facade:
        opened = facade(
            {
                "type": "sql",
                "url": f"sqlite:///{self.path}",
                "objects": {"user": {"key": "no", "watermark": "changed", **self.source}},
            },
            Credentials(),
        )
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection


class PostgresWorld:
    names = Names(unique="login", text="note", many="phones", flag="active", binary="photo")

    def __init__(self, database: PostgresDatabase, source: dict[str, Any]) -> None:
        self.database = database
        self.source = source
        self._open: list[Facade] = []
        with database.connect() as connection:
            connection.execute(
                "CREATE TABLE people (no serial PRIMARY KEY, login text NOT NULL UNIQUE, note text, phones text[],"
                " active boolean, photo bytea, changed timestamptz NOT NULL DEFAULT clock_timestamp())"
            )

    def add(self, people: Sequence[Attributes]) -> list[str]:
        keys: list[str] = []
        with self.database.connect() as connection:
            for person in people:
                phones = person.get("phones")
                row = connection.execute(
                    "INSERT INTO people (login, note, phones, active, photo) VALUES (%s, %s, %s, %s, %s) RETURNING no",
                    [
                        person["login"],
                        person.get("note"),
                        [phones] if isinstance(phones, str) else phones,
                        person.get("active"),
                        person.get("photo"),
                    ],
                ).fetchone()
                assert row is not None
                keys.append(str(row[0]))
        return keys

    def facade(self) -> Facade:
        opened = facade(
            {
                "type": "sql",
                "url": self.database.url,
                "password": "secret://hr/reader",
                "objects": {"user": {"key": "no", "watermark": "changed", **self.source}},
            },
            Credentials(password=self.database.password),
        )
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()


QUERY = """
    WITH everybody AS (SELECT * FROM people)  -- a comment; with a semicolon
    SELECT no, login, note, photo, changed{more} FROM everybody WHERE 'a:b' <> '100%s' /* the end */;
"""


class TestSqliteTable(WritableContract, ChangesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = SqliteWorld(tmp_path / "hr.db", {"table": "people"})
        yield made
        made.close()


class TestSqliteQuery(ReadableContract, ChangesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = SqliteWorld(tmp_path / "hr.db", {"query": QUERY.format(more="")})
        yield made
        made.close()


class TestPostgresTable(WritableContract, SeveralValuesWritableContract, ChangesContract):
    @pytest.fixture
    def world(self, postgres_url: PostgresDatabase) -> Iterator[World]:
        made = PostgresWorld(postgres_url, {"table": "public.people"})
        yield made
        made.close()


class TestPostgresQuery(ReadableContract, SeveralValuesContract, ChangesContract):
    @pytest.fixture
    def world(self, postgres_url: PostgresDatabase) -> Iterator[World]:
        made = PostgresWorld(postgres_url, {"query": QUERY.format(more=", phones, active")})
        yield made
        made.close()
