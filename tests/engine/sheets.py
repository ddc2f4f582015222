"""A company whose HR is a file or a table, and whose badges are a table: real files, real databases, one engine."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.servers.postgresql import PostgresDatabase

from .world import World

DEFINITION = """
version: 1
connectors:
  hr: {type: csv, objects: {user: {path: people.csv, key: id, expect: {trailer: END}}}}
  badges: {type: sql, url: 'sqlite:///badges.db', objects: {user: {table: badge_holder, key: person_no}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {name: employeeId, type: string}
      - {name: name, type: string}
      - {name: room, type: string}
rules:
  join:
    - {name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}
  flow:
    - {name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}
    - {name: hr-name, connector: hr, object: user, target: name, value: "[name]", confidence: 90}
    - {name: hr-room, connector: hr, object: user, target: room, value: "[room]", confidence: 90}
  project:
    - name: badge-holders
      connector: badges
      object: user
      create: true
      correlate: person_no
      on_leave: delete
      attributes: {person_no: "[employeeId]", full_name: "[name]", room: "[room]"}
limits:
  default: {delete: {count: 50, percent: 100}, update: {percent: 100}, disable: {count: 50, percent: 100}}
"""
BADGES = "CREATE TABLE badge_holder (person_no text PRIMARY KEY, full_name text, room text, state text DEFAULT 'valid')"

Sql = Callable[..., list[tuple[Any, ...]]]


def sqlite_sql(path: Path) -> Sql:
    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return execute


def postgres_sql(database: PostgresDatabase) -> Sql:
    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            done = connection.execute(statement.encode(), values)
            return done.fetchall() if done.description else []

    return execute


class Company:
    """``people``: id to name and room, as the file has them after :meth:`write`."""

    def __init__(self, world: World, badges: Sql) -> None:
        self.world = world
        self.sql = badges
        self.people: dict[str, tuple[str, str]] = {}
        self.file = world.folder / "people.csv"

    def write(self, end: str | None = None) -> None:
        """Write the file, whole unless another ``end`` is given."""
        rows = "".join(f"{number},{name},{room}\n" for number, (name, room) in self.people.items())
        self.file.write_text(f"id,name,room\n{rows}{f'END,{len(self.people)}' + chr(10) if end is None else end}")

    def hire(self, *people: str) -> None:
        for person in people:
            self.people[person] = (f"Name {person}", "1.01")
        self.write()

    def fire(self, *people: str) -> None:
        for person in people:
            del self.people[person]
        self.write()

    def holders(self) -> dict[str, tuple[Any, ...]]:
        rows = self.sql("SELECT person_no, full_name, room, state FROM badge_holder")
        return {row[0]: row[1:] for row in rows}


@contextlib.contextmanager
def company(
    folder: Path, definition: str = DEFINITION, *, badges: PostgresDatabase | None = None, table: str = BADGES
) -> Iterator[Company]:
    """An installation that nobody ran yet. The login of a PostgreSQL has its password from the environment."""
    with World(folder) as world:
        world.text = definition
        if badges is not None:
            world.text = definition.replace("'sqlite:///badges.db'", badges.url)
        sql = sqlite_sql(folder / "badges.db") if badges is None else postgres_sql(badges)
        sql(table)
        world.apply()
        made = Company(world, sql)
        made.write()
        yield made
