"""Secrets move from provider to provider while whole runs go on: none fails, and whoever is new arrives."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Self

from identitymesh.errors import Busy
from identitymesh.secrets.migration.service import Migrations
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage.secret_migrations import SqlMigrationRows
from tests.secrets.migration.conftest import token_file
from tests.servers.authority import Authority
from tests.servers.openbao import OpenBaoServer

from .vaulted import VaultedWorld, vaulted_world

WAY = ("database", "azure-key-vault", "openbao", "database")
PATIENCE = 120.0
LIMITS = "limits: {default: {create: {count: 1000, percent: 100}}}\n"


class Runs:
    """Runs one after the other in a thread, full and delta in turn, each with one more person hired before it."""

    def __init__(self, world: VaultedWorld) -> None:
        self.world = world
        self.ended = 0
        self.wrong: list[str] = []
        self.hired: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def _go_on(self) -> None:
        while not self._stop.is_set():
            person = f"n{self.ended:04}"
            self.world.hire(person, "New", person)
            self.hired.append(person)
            self.world.engine = self.world.another_engine()  # each run is a process of its own
            try:
                report = self.world.run(delta=self.ended % 2 == 1)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                self.wrong.append(repr(error))
                return
            self.wrong += [f"{one.connector}: {one.error_code}" for one in report.imports if one.error_code]
            self.wrong += [f"{one.connector}: {one.code}" for one in report.issues]
            self.ended += 1

    def more(self, count: int) -> None:
        """Wait for so many more to end."""
        goal, deadline = self.ended + count, time.monotonic() + PATIENCE
        while self.ended < goal:
            assert self._thread.is_alive(), self.wrong
            assert time.monotonic() < deadline, f"{self.ended} runs, and no more"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()


def scrub(migrations: Migrations) -> None:
    """As a person does it: a run from before the cut over is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            migrations.scrub(purge=True)
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_all_three_one_after_the_other_under_running_syncs(tmp_path: Path, authority: Authority) -> None:
    server = OpenBaoServer(authority)
    with vaulted_world(tmp_path, "database") as world:
        world.apply(lambda text: text + LIMITS, release=True)
        file = token_file(tmp_path, server.root)
        world.openbao = OpenBaoSettings(address=server.url, ca_file=server.ca_file, auth="token", token_file=file)
        rows = SqlMigrationRows(world.database)
        with Runs(world) as runs:
            runs.more(1)
            for source, target in itertools.pairwise(WAY):
                store = SecretStore(rows, world.folder / "host", world.means)
                migrations = Migrations(rows, store, actor="tester", here="here", writes_per_second=0.0)
                migrations.run(source, target)
                runs.more(2)
                scrub(migrations)
                runs.more(2)
        world.run()
        assert runs.wrong == []
        assert set(runs.hired) <= set(world.accounts())
        assert len(world.accounts()) == 12 + len(runs.hired)
        assert (world.vault.secrets, world.vault.gone, server.kv) == ({}, {}, {})
    server.stop()
