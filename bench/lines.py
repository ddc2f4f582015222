"""The lines: what the product does, beside the least that could do it, timed in turn in the same run."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.servers.scim import ScimServer

from bench.company import company, person, silent
from identitymesh.cli.measuring import Line
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import open_database
from identitymesh.storage.secrets import SqlSecretRows

PEOPLE = 20_000
CREATES = 5_000


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


def creates_at_a_scim_service() -> Line:
    """Five times, each with new servers: one process of the server is a tenth faster than another."""
    pairs = [_creates_beside_a_bare_client() for _ in range(5)]
    ours, bare = sorted(pairs, key=lambda one: one[1] / one[0])[len(pairs) // 2]
    figures = f"{CREATES / ours:,.0f} creates/s, bare client {CREATES / bare:,.0f}/s, {CREATES:,} people"
    ratios = ", ".join(f"{bare / ours:.2f}" for ours, bare in pairs)
    name = "creates at scim2-server / the same requests by a bare client"
    return Line(name, bare / ours, f"{figures}; median of {ratios}", least=0.8)


def _creates_beside_a_bare_client() -> tuple[float, float]:
    """Seconds of the product, and of a bare client."""
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
    return ours, bare


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
