"""Killed at any statement and request, a migration is carried on by the same command, and nothing is lost or left."""

from __future__ import annotations

import copy
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identitymesh.redaction import Secret
from identitymesh.storage.database import open_database
from tests.forks import Forks
from tests.secrets.conftest import Installation
from tests.secrets.migration import kills
from tests.secrets.migration.conftest import MakeMove, Move
from tests.servers.postgresql import PostgresDatabase, PostgresServer

SOAK = os.environ.get("TESTS_EVERY_STEP") == "1"
SEED = os.environ.get("TESTS_SEED") or "1"
SECONDS = float(os.environ.get("TESTS_KILL_SECONDS", "5"))  # for each way, outside of a soak
SECRETS = 6


@pytest.fixture
def forks() -> Iterator[Forks]:
    running = Forks("tests.secrets.migration.kills")
    yield running
    running.stop()


class Samples:
    """Copies of one installation; the vault is as it was before each."""

    def __init__(self, move: Move, original: Path, place: Path, postgres: PostgresServer | None, name: str) -> None:
        self.move, self.original, self.place = move, original, place
        self.postgres, self.name = postgres, name
        self.copied: PostgresDatabase | None = None
        self.before = copy.deepcopy(move.server.kv)

    def order(self, way: str, number: int) -> tuple[dict[str, Any], Path]:
        folder = self.place / f"{way}-{number}"
        shutil.copytree(self.original, folder, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
        if self.postgres is not None:
            self.copied = self.postgres.create(template=self.name)
        self.move.server.kv.clear()
        self.move.server.kv.update(copy.deepcopy(self.before))
        server, (url, password) = self.move.server, self.where(folder)
        order = {"folder": str(folder), "url": url, "password": password, "vault": server.url, "way": way}
        return order | {"ca_file": str(server.ca_file), "resume": False}, folder

    def where(self, folder: Path) -> tuple[str, str | None]:
        """URL and password of the database of the newest copy."""
        return (self.copied.url, self.copied.password) if self.copied else (f"sqlite:///{folder}/mesh.db", None)

    def look(self, way: str, folder: Path) -> None:
        url, password = self.where(folder)
        database = open_database(url, password=Secret(password) if password else None)
        try:
            mesh = Installation(database, folder / "host", self.move.mesh.result)
            found = Move(mesh, self.move.server, self.move.means, self.move.values)
            refs = {ref.removeprefix("secret://") for ref in found.values}
            there = way == "there"
            assert (found.wrong(), found.state()) == ({}, None)
            assert found.provider() == ("openbao" if there else "database")
            assert found.live() == (refs if there else set())
            assert (found.sealed() == 0) is there
            assert found.mesh.sql("SELECT * FROM secret_migration_item") == []
        finally:
            database.close()
        shutil.rmtree(folder)
        if self.postgres is not None and self.copied is not None:
            self.postgres.drop(self.copied)


@pytest.fixture(params=["sqlite", "postgresql"])
def samples(request: pytest.FixtureRequest, make_move: MakeMove, tmp_path: Path) -> Iterator[Samples]:
    postgres: PostgresServer | None = None
    made: PostgresDatabase | None = None
    url, password, name = f"sqlite:///{tmp_path}/mesh.db", None, ""
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres_server")
        made = postgres.create()
        url, password, name = made.url, Secret(made.password), made.name
    database = open_database(url, password=password)
    move = make_move(database)
    move.fill(SECRETS)
    database.close()
    (tmp_path / "samples").mkdir()
    original = tmp_path / "original"
    original.mkdir()
    for file in ("mesh.db", "openbao.token"):
        if (tmp_path / file).exists():
            shutil.copy2(tmp_path / file, original / file)
    shutil.copytree(tmp_path / "host", original / "host")
    yield Samples(move, original, tmp_path / "samples", postgres, name)
    if postgres is not None and made is not None:
        postgres.drop(made)


@pytest.mark.parametrize("way", list(kills.WAYS))
def test_a_migration_that_was_killed_carries_on(way: str, forks: Forks, samples: Samples) -> None:
    order, folder = samples.order(way, 0)
    status, events = forks(order | {"kill": None})
    assert status == 0
    samples.look(way, folder)
    points = list(range(1, int(events) + 1))
    chance = random.Random(f"{SEED} {way}")  # noqa: S311 - a sample that can be repeated
    if not SOAK:
        chance.shuffle(points)
    deadline, tried = time.monotonic() + SECONDS, 0
    for point in points:
        order, folder = samples.order(way, point)
        status, _events = forks(order | {"kill": point})
        # What several threads ask for at once is counted in any order: the last events may be one more or less.
        assert status in (-signal.SIGKILL, 0), f"{way} at {point} of {events}"
        order["resume"] = True
        if chance.random() < 0.3:  # killed once more while it carries on
            forks(order | {"kill": chance.randint(1, int(events))})
        status, _events = forks(order | {"kill": None})
        assert status == 0, f"{way} killed at {point} of {events} does not carry on (seed {SEED})"
        samples.look(way, folder)
        tried += 1
        if not SOAK and time.monotonic() > deadline:
            break
    kind = "SQLite" if samples.postgres is None else "PostgreSQL"
    report = f"migration {way} ({kind}): killed at {tried} of {events} events"
    assert tried > 0, report
    sys.stderr.write(f"{report}\n")
