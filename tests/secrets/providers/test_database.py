"""The provider ``database`` keeps the contract of all providers, on SQLite."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from identitymesh.errors import DatabaseUnreachable, HostKeyMissing, SecretBroken
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from identitymesh.storage.database import open_database
from tests.secrets.conftest import ACTOR, Installation, copy_installation
from tests.secrets.providers.contract import ProviderContract, World


class TestDatabase(ProviderContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        file = tmp_path / "mesh.db"
        database = open_database(f"sqlite:///{file}")
        mesh = copy_installation(database, tmp_path / "host")

        @contextmanager
        def outage(_after: int) -> Iterator[None]:
            database.engine.dispose()
            file.rename(tmp_path / "away")
            file.mkdir()
            yield
            database.engine.dispose()
            file.rmdir()
            (tmp_path / "away").rename(file)

        @contextmanager
        def denied() -> Iterator[None]:
            key = mesh.host / "connectors.key"
            key.rename(tmp_path / "key")
            yield
            (tmp_path / "key").rename(key)

        def exchange(ref: str, other: str) -> None:
            sealed = "SELECT sealed FROM secret WHERE ref = :other"
            mesh.sql(f"UPDATE secret SET sealed = ({sealed}) WHERE ref = :ref", ref=ref, other=other)

        def lose(ref: str) -> None:
            mesh.sql("DELETE FROM secret WHERE ref = :ref", ref=ref)

        yield World(
            mesh,
            "database",
            outage=outage,
            denied=denied,
            exchange=exchange,
            lose=lose,
            fill=lambda count: _fill(mesh, count),
            outage_error=DatabaseUnreachable,
            denied_error=HostKeyMissing,
            exchange_error=SecretBroken,
        )
        database.close()


def _fill(mesh: Installation, count: int) -> None:
    """As :meth:`SecretStore.put` does, in one transaction."""
    store = mesh.store
    with mesh.rows.read() as view:
        session = store.session(view)
    provider = store.providers.find("database")
    with mesh.rows.write() as transaction:
        for number in range(count):
            ref = parse(f"secret://many/{number}")
            provider.put(ref, Secret(ACTOR), "connectors", session).record(transaction)
