"""A process that stores and opens secrets in turn until it is told to stop. Its order comes on standard input."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from bench.installations import ref_of, request_for
from identitymesh.errors import MeshError
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import open_database
from identitymesh.storage.secrets import SqlSecretRows


def main() -> None:
    order = json.load(sys.stdin)
    chance = random.Random(order["number"])  # noqa: S311 - which secret comes next
    database = open_database(order["url"], password=Secret(order["password"]))
    store = SecretStore(SqlSecretRows(database), Path(order["host"]))
    own = range(order["number"], order["secrets"], 4)  # nobody else stores these
    opened: list[tuple[float, float]] = []
    last: dict[str, str] = {}
    failed: list[str] = []
    stored = 0
    while not Path(order["stop"]).exists():
        try:
            ref, value = ref_of(chance.choice(own)), f"new value {order['number']} {stored}"
            store.put(parse(ref), Secret(value), actor="bench")
            last[ref] = value
            stored += 1
            for other in (ref_of(chance.randrange(order["secrets"])), ref):
                began = time.perf_counter()
                found = store.open(request_for(other), actor="bench")
                opened.append((time.time(), time.perf_counter() - began))
                if other == ref and found != Secret(value):
                    failed.append(f"{ref} opens as another value")
        except MeshError as error:
            failed.append(f"{error.code}: {error}")
    database.close()
    json.dump({"opened": opened, "last": last, "stored": stored, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
