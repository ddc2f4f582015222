"""Migrations that end themselves with SIGKILL at a given event; a small process forks one for each order.

Every statement for a database, both sides of each commit and both sides of each request to the vault are events.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import requests

from identitymesh.redaction import Secret
from identitymesh.secrets.migration.service import Migrations
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage.database import open_database
from identitymesh.storage.secret_migrations import SqlMigrationRows
from tests.forks import serve
from tests.secrets.kills import Events

THERE = ("database", "openbao")


class Stopped(Exception):
    """Given up on purpose, half way."""


def halfway(phase: str, _subject: str, _done: int, _total: int | None) -> None:
    if phase == "verifying":
        raise Stopped


def there(migrations: Migrations) -> None:
    """To the vault, to the end."""
    found = migrations.status()
    if found is None or found.state in ("copy", "verify"):
        migrations.run(*THERE)
    migrations.scrub()


def back(migrations: Migrations) -> None:
    """To the vault, back, to the end."""
    found = migrations.status()
    if found is None or (found.target == "openbao" and found.state in ("copy", "verify")):
        migrations.run(*THERE)
        found = migrations.status()
    assert found is not None
    if found.target == "openbao" or found.state in ("copy", "verify"):
        migrations.back()
    migrations.scrub()


def abort(migrations: Migrations) -> None:
    """To the vault, given up half way."""
    found = migrations.status()
    if found is None or found.state == "copy":
        with contextlib.suppress(Stopped):
            migrations.run(*THERE, halfway)
    migrations.abort()


WAYS = {"there": there, "back": back, "abort": abort}


def done(way: str, provider: str, open_one: object) -> bool:
    """Killed after its last commit, there is nothing left to carry on."""
    return open_one is None and provider == ("openbao" if way == "there" else "database")


def child(order: dict[str, Any], answer: int) -> None:
    events = Events(order["kill"])
    database = open_database(order["url"], password=Secret(order["password"]) if order["password"] else None)
    events.watch()
    requests.Session.send = events.around(requests.Session.send)  # type: ignore[method-assign]
    folder = Path(order["folder"])
    given = OpenBaoSettings(
        address=order["vault"], ca_file=Path(order["ca_file"]), auth="token", token_file=folder / "openbao.token"
    )
    rows = SqlMigrationRows(database)
    store = SecretStore(rows, folder / "host", Means(openbao=given))
    migrations = Migrations(rows, store, actor="tester@here", here="here")
    with rows.read() as view:
        here = view.installation()
    assert here is not None
    if not (order["resume"] and done(order["way"], here.provider, migrations.status())):
        WAYS[order["way"]](migrations)
    os.write(answer, json.dumps(events.count).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(child)
