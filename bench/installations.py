"""Installations with many secrets, put into the tables at once: what is measured is what comes after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert
from tests.servers.postgresql import PostgresServer

from identitymesh.composition import initialise, open_installation
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.ledger import audience_mac, destinations, encode_audience
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import parse
from identitymesh.secrets.sealing import Context, seal
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from identitymesh.storage.tables.secrets import secret, secret_ledger

CONNECTOR, ENDPOINT = "crm", "127.0.0.1:9"
CHUNK = 5_000


def ref_of(number: int) -> str:
    return f"secret://many/{number:06}"


def value_of(number: int) -> Secret:
    return Secret(f"value {number} of some length")


def request_for(ref: str) -> OpenRequest:
    return OpenRequest(parse(ref), CONNECTOR, (ENDPOINT,), "bench")


def make(folder: Path, count: int, url: str | None = None, password: str | None = None) -> Secret:
    """An installation in ``folder`` with this many secrets. Answers its recovery key."""
    folder.mkdir(exist_ok=True)
    recovery: list[Secret] = []
    initialise(folder, url, lambda made: recovery.append(made.recovery_key))
    with open_installation(folder):
        pass  # the settings are complete, the schema is current
    database = open_database(
        url or f"sqlite:///{folder / 'identitymesh.db'}", password=Secret(password) if password else None
    )
    try:
        fill(database, folder / "host", count)
    finally:
        database.close()
    return recovery[0]


def fill(database: Database, host: Path, count: int) -> None:
    """Seal and insert, each secret with an audience."""
    rows = SqlSecretRows(database)
    with rows.read() as view:
        session = SecretStore(rows, host).session(view)
    document = session.open(CONNECTORS)
    key, now = document.primary(), datetime.now(UTC)
    audience = destinations(CONNECTOR, [ENDPOINT])
    for start in range(0, count, CHUNK):
        sealed, ledger = [], []
        for number in range(start, min(start + CHUNK, count)):
            ref = ref_of(number)
            content = seal(value_of(number), key, Context(CONNECTORS, "database", ref, 1))
            own = {"ref": ref, "keyring": CONNECTORS, "created": now}
            sealed.append(own | {"version": 1, "key_id": key.key_id, "sealed": content, "expires": 0})
            mac = audience_mac(document, ref, audience)
            more = {"changed": now, "current_version": "1", "audience": encode_audience(audience), "audience_mac": mac}
            ledger.append(own | more)
        with database.write() as connection:
            connection.execute(insert(secret), sealed)
            connection.execute(insert(secret_ledger), ledger)


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """A durable server with an empty database: its URL, its password, and the variables that programs need."""
    server = PostgresServer.start(durable=True)
    try:
        database = server.create()
        file = folder / "password"
        file.write_text(database.password)
        file.chmod(0o400)
        yield database.url, database.password, {"IDENTITYMESH_DATABASE__PASSWORD_FILE": str(file)}
    finally:
        server.stop()
