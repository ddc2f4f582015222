"""The lines: what the product does, beside the least that could do it, timed in turn in the same run."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.servers.scim import ScimServer

from bench.company import COLUMNS, company, person, silent
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import open_database
from identitymesh.storage.secrets import SqlSecretRows

PEOPLE = 20_000
CREATES = 5_000


@dataclass(frozen=True, slots=True)
class Line:
    """One measured line. ``ratio`` is compared with ``least`` or ``most``, whichever is given."""

    name: str
    ratio: float
    figures: str
    least: float | None = None
    most: float | None = None

    @property
    def reach(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"

    @property
    def reached(self) -> bool:
        return self.ratio >= self.least if self.least is not None else self.ratio <= (self.most or 0)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        yield Path(place)


def the_program_as_a_process() -> list[Line]:
    """Two commands that people wait for, from the start of the process to its end."""
    with folder() as place, company(place, 0, "http://127.0.0.1:9/v2", "a-token-of-some-length"):
        return [_beside_python(3, place, "--help"), _beside_python(6, place, "secrets", "list")]


def _beside_python(most: float, place: Path, *arguments: str) -> Line:
    program = Path(sys.executable).with_name("identitymesh")
    environment = {**os.environ, "IDENTITYMESH_HOME": str(place)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as wherever it is installed

    def run(*command: str | Path) -> float:
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment))

    run(program, *arguments)
    pairs = [(run(program, *arguments), run(sys.executable, "-c", "pass")) for _ in range(15)]
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    ours, bare = (statistics.median(one[side] for one in pairs) * 1000 for side in (0, 1))
    figures = f"{ours:.0f} ms, python -c pass {bare:.0f} ms"
    return Line(f"identitymesh {' '.join(arguments)} / python -c pass", ratio, figures, most=most)


def bare_inserts(people: int, place: Path) -> float:
    """The rows that a first synchronisation leaves, inserted by the driver alone in transactions of 1,000."""
    connection = sqlite3.connect(place / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE object (connector, class, key, digest, document, identity, PRIMARY KEY (connector, class, key))"
    )
    connection.execute("CREATE INDEX object_identity ON object (identity)")
    connection.execute("CREATE TABLE identity (id INTEGER PRIMARY KEY, anchor, document, digest)")
    connection.execute("CREATE INDEX identity_anchor ON identity (anchor)")
    connection.execute("CREATE TABLE key (attribute, value, identity, PRIMARY KEY (attribute, value, identity))")
    connection.execute("CREATE TABLE account (identity, connector, desired, digest, PRIMARY KEY (identity, connector))")
    connection.execute("CREATE TABLE audit (id INTEGER PRIMARY KEY, payload)")
    connection.execute("CREATE TABLE plan (plan, identity, digest, PRIMARY KEY (plan, identity))")

    def insert() -> None:
        for start in range(0, people, 1000):
            batch = []
            for number in range(start, min(start + 1000, people)):
                row = person(number)
                document = orjson.dumps(dict(zip(COLUMNS, row, strict=True)), option=orjson.OPT_SORT_KEYS).decode()
                batch.append((number, row[0], document, hashlib.blake2b(document.encode(), digest_size=16).digest()))
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO object VALUES ('hr', 'user', ?2, ?4, ?3, ?1)", batch)
            connection.executemany("INSERT INTO identity VALUES (?1, ?2, ?3, ?4)", batch)
            connection.executemany("INSERT INTO key VALUES ('employeeId', ?2, ?1)", [one[:2] for one in batch])
            connection.executemany("INSERT INTO account VALUES (?1, 'crm', ?3, ?4)", batch)
            connection.executemany("INSERT INTO audit (payload) VALUES (?)", [one[2:3] for one in batch])
            connection.executemany("INSERT INTO plan VALUES (1, ?, ?)", [(one[0], one[3]) for one in batch])
            connection.execute("COMMIT")

    spent = seconds(insert)
    connection.close()
    return spent


def creates_at_a_scim_service() -> Line:
    server = ScimServer.start()
    other = ScimServer.start()
    try:
        with folder() as place, company(place, CREATES, server.base_url, server.token) as installation:
            planned = installation.engine.plan(delta=False, connectors=(), progress=silent)
            ours = seconds(lambda: installation.engine.release(planned.run_id, progress=silent))
        bodies = [
            {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "externalId": row[0], "userName": f"{row[1]}.{row[2]}@example.org", "displayName": f"{row[1]} {row[2]}",
                "name": {"givenName": row[1], "familyName": row[2]}, "title": row[3], "active": True,
            }
            for row in map(person, range(CREATES))
        ]  # fmt: skip
        headers = {"Authorization": f"Bearer {other.token}", "Content-Type": "application/scim+json"}
        with httpx2.Client(headers=headers) as client:

            def post_all() -> None:
                for body in bodies:
                    client.post(f"{other.base_url}/Users", content=orjson.dumps(body)).raise_for_status()

            bare = seconds(post_all)
    finally:
        server.stop()
        other.stop()
    figures = f"{CREATES / ours:,.0f} creates/s, bare client {CREATES / bare:,.0f}/s, {CREATES:,} people"
    return Line("creates at scim2-server / the same requests by a bare client", bare / ours, figures, least=0.8)


class Unrecorded(SecretStore):
    """Opens without its audit write: the reading alone is what is compared."""

    def _record(self, *_: object) -> None:
        """Left out."""


def one_secret() -> Line:
    with folder() as place, company(place, 0, "http://127.0.0.1:9/v2", "a-token-of-some-length") as installation:
        ref = parse("secret://crm/token")
        request = OpenRequest(ref, "crm", ("127.0.0.1:9",), "bench")
        database = open_database(f"sqlite:///{place / 'identitymesh.db'}")
        reader = Unrecorded(SqlSecretRows(database), place / "host")
        key = AESGCM.generate_key(256)
        sealed = AESGCM(key).encrypt(bytes(12), b"a-token-of-some-length", None)
        connection = sqlite3.connect(place / "identitymesh.db")

        def bare() -> None:
            connection.execute("SELECT sealed FROM secret WHERE ref = ?", (ref.text,)).fetchone()
            AESGCM(key).decrypt(bytes(12), sealed, None)

        audited = statistics.median(
            seconds(lambda: installation.secrets.open(request, actor="bench")) for _ in range(50)
        )
        reader.open(request, actor="bench")
        time.sleep(4)  # the files of a service are not just written
        ours: list[float] = []
        least: list[float] = []
        for _ in range(10):  # in turn: what else the machine does meets both
            ours += [seconds(lambda: reader.open(request, actor="bench")) for _ in range(100)]
            least += [seconds(bare) for _ in range(100)]
        opening, select = statistics.median(ours), statistics.median(least)
        connection.close()
        database.close()
    figures = (
        f"{opening * 1e6:.0f} µs without its audit write, bare {select * 1e6:.0f} µs; audited {audited * 1e3:.1f} ms"
    )
    return Line("open one secret / bare select and AES-GCM", opening / select, figures, most=12)
