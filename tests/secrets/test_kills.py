"""Killed at any statement and file operation, a command on keyrings ends when it is run again, and nothing is lost."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from identitymesh.redaction import Secret
from identitymesh.secrets.custody.service import KeyCustody
from identitymesh.secrets.custody.station import Station
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.database import open_database
from tests.forks import Forks
from tests.kill_points import SEED, chance, points
from tests.secrets.conftest import make_installation
from tests.servers.postgresql import PostgresServer
from tests.servers.process import need

COMMANDS = ["rotate", "add", "remove", "join", "replace-recovery"]


@dataclass
class Original:
    """An installation with two hosts and some secrets; each sample gets a copy."""

    folder: Path
    recovery: str
    values: dict[str, str]
    server: PostgresServer | None = None
    template: str = ""

    @contextmanager
    def copy(self, at: Path) -> Iterator[dict[str, Any]]:
        shutil.copytree(self.folder, at)
        order = {"folder": str(at), "recovery": self.recovery, "values": self.values, "password": None}
        if self.server is None:
            yield order | {"url": f"sqlite:///{at}/mesh.db"}
        else:
            database = self.server.create(template=self.template)
            yield order | {"url": database.url, "password": database.password}
            self.server.drop(database)
        shutil.rmtree(at)


def build(folder: Path, url: str, password: Secret | None) -> Original:
    database = open_database(url, password=password)
    mesh = make_installation(database, folder / "host")
    station = Station(SqlCustodyRows(database), folder / "old", "tester@here", "old")
    KeyCustody(station).join("recovery", mesh.result.recovery_key)
    values = {f"secret://s/{number}": f"value {number}" for number in range(5)}
    for ref, value in values.items():
        mesh.allow(mesh.put(ref, value, keyring="application" if ref.endswith("4") else "connectors"))
    mesh.put("secret://s/0", values["secret://s/0"])
    database.close()
    shutil.rmtree(folder / "old")
    return Original(folder, mesh.result.recovery_key.reveal_text(), values)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    folder = tmp_path_factory.mktemp("original")
    if request.param == "sqlite":
        yield build(folder, f"sqlite:///{folder}/mesh.db", None)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    database = server.create()
    made = build(folder, database.url, Secret(database.password))
    made.server, made.template = server, database.name
    yield made
    server.drop(database)


@pytest.fixture(scope="module")
def server() -> Iterator[Forks]:
    running = Forks("tests.secrets.kills")
    yield running
    running.stop()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_was_killed_goes_on(
    original: Original, server: Forks, tmp_path: Path, on_disk: Path, command: str
) -> None:
    folder = tmp_path
    if command == "add":
        need("systemd-creds", "systemd")
        if os.geteuid() != 0:
            pytest.skip("systemd-creds encrypts as root alone")
        folder = on_disk  # it keeps no key of a host in memory
    with original.copy(folder / "whole") as order:
        status, events = server(order | {"command": command, "kill": None})
        assert status == 0
    name = f"{command} ({'SQLite' if original.server is None else 'PostgreSQL'})"
    dice = chance(f"{name}, twice")
    for point in points(name, int(events)):
        with original.copy(folder / str(point)) as order:
            status, _events = server(order | {"command": command, "kill": point})
            assert status == -signal.SIGKILL, f"{command} at {point} of {events}"
            if dice.random() < 0.3:  # killed once more while it goes on
                server(order | {"command": command, "kill": dice.randint(1, int(events))})
            status, _events = server(order | {"command": command, "kill": None})
            assert status == 0, f"{command} killed at {point} of {events} does not go on (seed {SEED})"
