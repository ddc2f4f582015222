"""An application's database with secrets in plain columns, on either kind of database, and a plan for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from identitymesh.columns import service
from identitymesh.columns.keys import ColumnKey, create_key, load_key
from identitymesh.columns.plan import Plan, read_plan
from identitymesh.columns.report import Outcome, PlaceReport
from tests.servers.postgresql import PostgresDatabase

SEEDS = {1: "JBSWY3DPEHPK3PXP", 2: "KRSXG5CTMVRXEZLU", 3: "päßwort 密码 \U0001f511", 4: None, 5: "", 6: "x"}
USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT)"


@dataclass
class Application:
    """Somebody else's database. ``execute`` goes past the product; ``?`` stands for a parameter."""

    folder: Path
    database: PostgresDatabase | None = None
    places: list[dict[str, Any]] = field(default_factory=lambda: [{"column": "users.totp_secret"}])
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        create_key(self.key_file)
        if self.database is None:
            sqlite3.connect(self.folder / "app.db").close()
        else:
            (self.folder / "password").write_text(self.database.password)
            (self.folder / "password").chmod(0o400)

    @property
    def dialect(self) -> str:
        return "sqlite" if self.database is None else "postgresql"

    @property
    def key_file(self) -> Path:
        return self.folder / "app.key"

    @property
    def key(self) -> ColumnKey:
        return load_key(self.key_file)

    @property
    def plan(self) -> Plan:
        url = f"sqlite:///{self.folder / 'app.db'}" if self.database is None else self.database.url
        more: dict[str, Any] = {} if self.database is None else {"password_file": str(self.folder / "password")}
        return Plan.model_validate(
            {"version": 1, "database": url, "key": str(self.key_file), "places": self.places} | more | self.settings
        )

    @property
    def plan_file(self) -> Path:
        """The plan as a file: YAML takes JSON."""
        path = self.folder / "plan.yaml"
        path.write_text(self.plan.model_dump_json(exclude_none=True))
        read_plan(path)
        return path

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self.database is None:
            connection = sqlite3.connect(self.folder / "app.db", isolation_level=None)
            rows = connection.execute(statement, tuple(parameters)).fetchall()
            connection.close()
            return rows
        with self.database.connect() as server:
            cursor = server.execute(statement.replace("?", "%s").encode(), tuple(parameters))
            return cursor.fetchall() if cursor.description is not None else []

    def fill(self, seeds: dict[int, str | None] = SEEDS) -> None:
        self.execute(USERS)
        for number, seed in seeds.items():
            self.execute("INSERT INTO users VALUES (?, ?, ?)", (number, f"user {number}", seed))

    def cells(self) -> dict[int, tuple[bytes | None, bytes | None]]:
        rows = self.execute("SELECT id, totp_secret_encrypted, totp_secret_nonce FROM users ORDER BY id")
        return {row[0]: (row[1], row[2]) for row in rows}

    def encrypt(self, **options: Any) -> PlaceReport:
        return self.only(service.encrypt(self.plan, **options))

    def verify(self) -> PlaceReport:
        return self.only(service.verify(self.plan))

    @staticmethod
    def only(outcome: Outcome) -> PlaceReport:
        (report,) = outcome.places
        return report

    def columns(self) -> set[str]:
        if self.database is None:
            return {row[1] for row in self.execute("SELECT * FROM pragma_table_info('users')")}
        return {
            row[0]
            for row in self.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'users'")
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Application:
    """An empty database of either kind."""
    database = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Application(tmp_path, database)


@pytest.fixture
def pg(tmp_path: Path, postgres_url: PostgresDatabase) -> Application:
    """An empty PostgreSQL database."""
    return Application(tmp_path, postgres_url)
