"""Killed at any statement, commit or file operation, a command on columns goes on when it is run again."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from identitymesh.columns import service
from identitymesh.columns.keys import create_key
from tests.columns.kills import SETTING, VALUES, plan_of
from tests.forks import Forks
from tests.kill_points import SEED, chance, points
from tests.servers.postgresql import PostgresDatabase, PostgresServer

COMMANDS = ["init-key", "encrypt", "drop", "decrypt", "rotate", "upgrade"]
ON_PLAIN = {"init-key", "encrypt", "drop"}
SCHEMA = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT NOT NULL DEFAULT '')",
    "CREATE TABLE system_config (key VARCHAR(100) PRIMARY KEY, value TEXT)",
    "INSERT INTO users VALUES (99, '')",
    f"INSERT INTO system_config VALUES ('smtp_password', '{SETTING}')",
    *(f"INSERT INTO users VALUES ({number}, '{value}')" for number, value in VALUES.items()),
)


@dataclass
class Originals:
    """An application's database, plain and encrypted; each sample gets a copy."""

    folder: Path
    server: PostgresServer | None = None
    templates: dict[bool, str] | None = None

    @contextmanager
    def copy(self, command: str, at: Path) -> Iterator[dict[str, Any]]:
        shutil.copytree(self.folder, at)
        order = {"folder": str(at), "command": command, "password": None, "kill": None}
        plain = command in ON_PLAIN
        if self.server is None:
            yield order | {"url": f"sqlite:///{at}/{'plain' if plain else 'encrypted'}.db"}
        else:
            assert self.templates is not None
            database = self.server.create(template=self.templates[plain])
            yield order | {"url": database.url, "password": True}
            self.server.drop(database)
        shutil.rmtree(at)


def fill(database: PostgresDatabase | Path) -> None:
    if isinstance(database, Path):
        connection = sqlite3.connect(database, isolation_level=None)
        for statement in SCHEMA:
            connection.execute(statement)
        connection.close()
    else:
        with database.connect() as server:
            for statement in SCHEMA:
                server.execute(statement.encode())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def originals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Originals]:
    folder = tmp_path_factory.mktemp("originals")
    create_key(folder / "app.key")
    create_key(folder / "new.key")
    order = {"folder": str(folder), "password": request.param == "postgresql"}
    if request.param == "sqlite":
        for name in ("plain", "encrypted"):
            fill(folder / f"{name}.db")
        service.encrypt(plan_of(order | {"url": f"sqlite:///{folder}/encrypted.db"}), drop_plaintext=True)
        yield Originals(folder)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    databases = {True: server.create(), False: server.create()}
    (folder / "password").write_text(databases[True].password)
    (folder / "password").chmod(0o600)
    for database in databases.values():
        fill(database)
    service.encrypt(plan_of(order | {"url": databases[False].url}), drop_plaintext=True)
    yield Originals(folder, server, {plain: database.name for plain, database in databases.items()})
    for database in databases.values():
        server.drop(database)


@pytest.fixture(scope="module")
def killer() -> Iterator[Forks]:
    running = Forks("tests.columns.kills")
    yield running
    running.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_was_killed_goes_on(originals: Originals, killer: Forks, tmp_path: Path, command: str) -> None:
    with originals.copy(command, tmp_path / "whole") as order:
        status, events = killer(order)
        assert status == 0
    name = f"columns {command} ({'SQLite' if originals.server is None else 'PostgreSQL'})"
    dice = chance(f"{name}, twice")
    for point in points(name, int(events)):
        with originals.copy(command, tmp_path / str(point)) as order:
            status, _events = killer(order | {"kill": point})
            # Two threads read and write: how often a read looks twice differs, and so do the last few events.
            assert status in {-signal.SIGKILL, 0}, f"{command} at {point} of {events}"
            if dice.random() < 0.3:  # killed once more while it goes on
                killer(order | {"kill": dice.randint(1, int(events))})
            status, _events = killer(order)
            assert status == 0, f"{command} killed at {point} of {events} does not go on (seed {SEED})"
