"""Installations to test against, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import KEYRINGS
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.setup import InitResult, initialise
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.audit import StoredRecord, read_audit
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from identitymesh.storage.tables import audit, secrets
from identitymesh.storage.tables.base import metadata
from tests.openings import Openings
from tests.prepared import original

ACTOR, LABEL = "tester@here", "test host"
TABLES = [
    secrets.installation,
    secrets.keyring,
    secrets.keyring_slot,
    secrets.slot_guard,
    secrets.keyring_rotation,
    secrets.secret_ledger,
    secrets.secret,
    secrets.secret_migration_item,
    audit.audit,
]


@dataclass
class Installation:
    """One database with one host, and ways to look at and to damage it."""

    database: Database
    host: Path
    result: InitResult

    @property
    def rows(self) -> SqlSecretRows:
        return SqlSecretRows(self.database)

    @cached_property
    def store(self) -> SecretStore:
        """One for the life of the installation, as a service has: what it remembers must not hide what changed."""
        return SecretStore(self.rows, self.host)

    def sql(self, statement: str, **values: Any) -> list[Any]:
        with self.database.write() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    def audit(self, action: str | None = None) -> list[StoredRecord]:
        with self.database.read() as connection:
            return list(read_audit(connection, action=action))

    def put(self, ref: str = "secret://hr/reader", value: str = "hunter2", **more: Any) -> SecretReference:
        reference = parse(ref)
        self.store.put(reference, Secret(value), actor=ACTOR, **more)
        return reference

    def allow(self, ref: SecretReference, connector: str = "hr", endpoint: str = "db.example:5432") -> OpenRequest:
        self.store.audience.allow(ref, connector, [endpoint], ACTOR)
        return OpenRequest(ref, connector, (endpoint,), "setting password")


def make_schema(database: Database) -> None:
    metadata.create_all(database.engine, tables=TABLES)


def make_installation(database: Database, host: Path) -> Installation:
    """One that no other test has."""
    make_schema(database)
    result = initialise(
        SqlSecretRows(database),
        host,
        provider="database",
        actor=ACTOR,
        label=LABEL,
        announce=lambda _result: None,
    )
    return opened(Installation(database, host, result))


def copy_installation(database: Database, host: Path) -> Installation:
    """The same as other tests have, in a database and with a host of its own."""
    make_schema(database)
    return opened(Installation(database, host, original(ACTOR, LABEL).copy(database, host)))


def opened(made: Installation) -> Installation:
    """As its first use leaves it."""
    with made.rows.read() as view:
        session = made.store.session(view)
    for name in KEYRINGS:
        session.open(name)
    return made


@pytest.fixture(autouse=True)
def _what_opens_is_forked(forked_openings: Openings, monkeypatch: pytest.MonkeyPatch) -> None:
    forked_openings.instead(monkeypatch)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path}/mesh.db")
    else:
        server = request.getfixturevalue("postgres_url")
        opened = open_database(server.url, password=Secret(server.password))
    yield opened
    opened.close()


@pytest.fixture
def new_database(tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Makes further SQLite databases by name."""
    opened: list[Database] = []

    def make(name: str) -> Database:
        opened.append(open_database(f"sqlite:///{tmp_path}/{name}.db"))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def mesh(database: Database, tmp_path: Path) -> Installation:
    """On both databases."""
    return copy_installation(database, tmp_path / "host")


@pytest.fixture
def embedded(new_database: Callable[[str], Database], tmp_path: Path) -> Installation:
    """On SQLite alone, for what does not depend on the database."""
    return copy_installation(new_database("mesh"), tmp_path / "host")
