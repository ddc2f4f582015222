"""Installations whose secrets move, to an OpenBao on loopback and back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from identitymesh.redaction import Secret
from identitymesh.secrets.migration.service import Migrations
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.rotation import Rotations
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage.database import Database
from identitymesh.storage.rotations import SqlRotationRows
from identitymesh.storage.secret_migrations import SqlMigrationRows
from identitymesh.storage.tables import continuity, runs, secrets
from identitymesh.storage.tables.base import metadata
from tests.secrets.conftest import ACTOR, Installation, copy_installation
from tests.servers.authority import Authority
from tests.servers.openbao import OpenBaoServer

TABLES = [
    secrets.secret_migration,
    continuity.secret_rotation,
    runs.run,
    runs.lease,
]


def token_file(folder: Path, token: str) -> Path:
    path = folder / "openbao.token"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(token)
    return path


@dataclass
class Move:
    """One installation with its database, the vault that its secrets go to, and what was stored last."""

    mesh: Installation
    server: OpenBaoServer
    means: Means
    values: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> SqlMigrationRows:
        return SqlMigrationRows(self.mesh.database)

    def store(self) -> SecretStore:
        """As a new process has it."""
        return SecretStore(self.rows, self.mesh.host, self.means)

    def migrations(self, **more: Any) -> Migrations:
        return Migrations(self.rows, self.store(), actor=ACTOR, here="here", **more)

    def rotations(self) -> Rotations:
        return Rotations(SqlRotationRows(self.mesh.database), self.store())

    def put(self, ref: str, value: str, store: SecretStore | None = None) -> SecretReference:
        reference = parse(ref)
        (store or self.store()).put(reference, Secret(value), actor=ACTOR)
        self.values[ref] = value
        return reference

    def fill(self, count: int, *, allowed: bool = False) -> None:
        store = self.store()
        for number in range(count):
            ref = self.put(f"secret://hr/{number:04}", f"value {number}", store)
            if allowed:
                store.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)

    def provider(self) -> str:
        ((name,),) = self.mesh.sql("SELECT provider FROM installation")
        return str(name)

    def state(self) -> str | None:
        found = self.mesh.sql("SELECT state FROM secret_migration")
        return str(found[0][0]) if found else None

    def sealed(self) -> int:
        ((count,),) = self.mesh.sql("SELECT count(*) FROM secret WHERE keyring = 'connectors'")
        return int(count)

    def wrong(self) -> dict[str, str]:
        """Refs that do not give what was stored last, and what they say."""
        store, found = self.store(), {}
        for ref, value in self.values.items():
            try:
                got = store.reveal(parse(ref), actor=ACTOR).reveal_text()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                got = repr(error)
            if got != value:
                found[ref] = got
        return found

    def live(self) -> set[str]:
        """Paths with a readable value in the vault."""
        return {
            path.removeprefix("identitymesh/")
            for path, entry in self.server.kv.items()
            if any(not one.deleted and not one.destroyed for one in entry.versions.values())
        }


@pytest.fixture
def server(authority: Authority) -> Iterator[OpenBaoServer]:
    server = OpenBaoServer(authority)
    yield server
    server.stop()


MakeMove = Callable[[Database], Move]


@pytest.fixture
def make_move(server: OpenBaoServer, tmp_path: Path) -> MakeMove:
    def make(database: Database) -> Move:
        mesh = copy_installation(database, tmp_path / "host")
        metadata.create_all(database.engine, tables=TABLES)
        file = token_file(tmp_path, server.root)
        given = OpenBaoSettings(address=server.url, ca_file=server.ca_file, auth="token", token_file=file)
        return Move(mesh, server, Means(openbao=given))

    return make


@pytest.fixture
def move(database: Database, make_move: MakeMove) -> Move:
    """On both databases."""
    return make_move(database)


@pytest.fixture
def embedded_move(new_database: Callable[[str], Database], make_move: MakeMove) -> Move:
    """On SQLite alone."""
    return make_move(new_database("mesh"))


def asks(ref: SecretReference) -> OpenRequest:
    return OpenRequest(ref, "hr", ("db.example:5432",), "setting password")
