"""Secrets from the database to a vault on loopback, beside the bare client making the same calls with as many threads.

Each side is a process of its own (``python -m bench.migration ours|bare ...``), and so is the vault.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hvac
from tests.secrets.conftest import ACTOR, make_installation
from tests.secrets.migration.conftest import token_file

from bench.lines import Line, folder
from identitymesh.redaction import Secret
from identitymesh.secrets.migration.service import WORKERS, Migrations
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage import schema
from identitymesh.storage.database import open_database
from identitymesh.storage.secret_migrations import SqlMigrationRows

SECRETS = int(os.environ.get("TESTS_BENCH_SECRETS", "10000"))
MOST_MEBIBYTES = 200


def migrate_ten_thousand() -> list[Line]:
    """Two lines: the time against the bare client's, and the memory of the process that migrates."""
    with folder() as place:
        _fill(place)
        ours = _side("ours", place)
        bare = _side("bare", place)
    figures = f"{ours['seconds']:.1f} s, bare {bare['seconds']:.1f} s; {SECRETS:,} secrets, {WORKERS} threads"
    ratio = ours["seconds"] / bare["seconds"]
    name = f"migrate {SECRETS:,} secrets to a loopback vault"
    return [
        Line(f"{name} / the same calls by bare hvac", ratio, figures, most=1.5),
        Line(f"{name}: MiB resident", ours["mebibytes"], f"bare {bare['mebibytes']:.0f} MiB", most=MOST_MEBIBYTES),
    ]


def _fill(place: Path) -> None:
    database = open_database(f"sqlite:///{place}/mesh.db")
    schema.upgrade(database)
    mesh = make_installation(database, place / "host")
    store = mesh.store
    for number in range(SECRETS):
        store.put(parse(f"secret://many/{number:05}"), Secret(f"value {number}"), actor=ACTOR)
    database.close()


def _side(side: str, place: Path) -> dict[str, float]:
    """One side against a vault of its own, empty at first."""
    vault = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.openbao"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with vault:  # its standard input is closed at the end, and that ends it
        where = json.loads(vault.stdout.readline() if vault.stdout else "{}")
        command = [sys.executable, "-m", "bench.migration", side, str(place), json.dumps(where)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if vault.stdin:
            vault.stdin.close()
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def ours(place: Path, where: dict[str, Any]) -> float:
    file = token_file(place, where["token"])
    given = OpenBaoSettings(address=where["url"], ca_file=where["ca_file"], auth="token", token_file=file)
    database = open_database(f"sqlite:///{place}/mesh.db")
    rows = SqlMigrationRows(database)
    migrations = Migrations(rows, SecretStore(rows, place / "host", Means(openbao=given)), actor=ACTOR, here="here")
    begun = time.perf_counter()
    migrations.run("database", "openbao")
    return time.perf_counter() - begun


def bare(_place: Path, where: dict[str, Any]) -> float:
    client = hvac.Client(url=where["url"], token=where["token"], verify=where["ca_file"])
    kv = client.secrets.kv.v2

    def one(number: int) -> None:
        path = f"identitymesh/many/{number:05}"
        try:
            kv.read_secret_metadata(path=path)
        except hvac.exceptions.InvalidPath:
            kv.update_metadata(path=path, custom_metadata={"ref": path, "installation": "bare"}, max_versions=50)
        kv.create_or_update_secret(path=path, secret={"value": f"value {number}"}, cas=0)

    def again(number: int) -> None:
        kv.read_secret_version(path=f"identitymesh/many/{number:05}", version=1, raise_on_deleted_version=True)

    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, range(SECRETS)))
        list(pool.map(again, range(SECRETS)))
    return time.perf_counter() - begun


def main() -> None:
    side, place, where = sys.argv[1:4]
    seconds = {"ours": ours, "bare": bare}[side](Path(place), json.loads(where))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    sys.stdout.write(json.dumps({"seconds": seconds, "mebibytes": int(peak) / 1024}))


if __name__ == "__main__":
    main()
