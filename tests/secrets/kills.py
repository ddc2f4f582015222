"""Commands on keyrings that end themselves: a small server of processes, started once, that forks one for each order.

An order is a line of JSON on standard input, its answer one on standard output. Every statement for a database, both
sides of each commit, and both sides of each file operation that makes something durable, is an event. With ``kill``
the process ends itself with SIGKILL at that event. Without, it carries the command out and looks at everything.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from identitymesh.errors import UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.custody.removing import NewRecovery
from identitymesh.secrets.custody.rotation import rotate
from identitymesh.secrets.custody.service import KeyCustody
from identitymesh.secrets.custody.station import Station
from identitymesh.secrets.keyring import KEYRINGS, SlotState
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from tests.forks import serve

FILE_OPERATIONS = ("fsync", "replace", "unlink", "mkdir", "fchmod")


class Events:
    """Counts, and ends when it is time."""

    def __init__(self, kill: int | None) -> None:
        self.kill = kill
        self.count = 0

    def __call__(self, *_arguments: Any) -> None:
        self.count += 1
        if self.count == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            self()
            answer = function(*arguments, **options)
            self()
            return answer

        return called

    def watch(self) -> None:
        @event.listens_for(Engine, "before_cursor_execute")
        def _statement(*_arguments: Any) -> None:
            self()

        DefaultDialect.do_commit = self.around(DefaultDialect.do_commit)  # type: ignore[method-assign]
        for name in FILE_OPERATIONS:
            setattr(os, name, self.around(getattr(os, name)))


def perform(order: dict[str, Any], database: Database) -> None:
    folder = Path(order["folder"])
    means = Means(systemd_secret=folder / "secret")
    here = Station(SqlCustodyRows(database), folder / "host", "tester@here", "here", means)
    keys = KeyCustody(here)

    def announce(new: NewRecovery) -> None:
        (folder / "recovery.new").write_text(new.recovery_key.reveal_text())

    commands: dict[str, Callable[[], Any]] = {
        "rotate": lambda: rotate(here, "connectors", batch=2),
        "add": lambda: keys.add("systemd-creds", [], "here", lambda _shown: None),
        "remove": lambda: remove(keys),
        "replace-recovery": lambda: keys.replace_recovery(announce),
        "join": lambda: KeyCustody(Station(SqlCustodyRows(database), folder / "new", "tester@here", "new", means)).join(
            "recovery", Secret(order["recovery"])
        ),
    }
    commands[order["command"]]()


def remove(keys: KeyCustody) -> None:
    """Killed after its last commit, the same command finds no such slot any more: that says that it is done."""
    try:
        keys.remove("old", [])
    except UsageError:
        assert not any(slot.label == "old" for one in keys.status().keyrings for slot in one.slots)


def look(order: dict[str, Any], database: Database) -> None:
    """What must hold when a command has ended, however often it was killed on the way."""
    folder = Path(order["folder"])
    hosts = ["host"] + (["new"] if order["command"] == "join" else [])
    recovery = order["recovery"]
    if order["command"] == "replace-recovery":
        recovery = (folder / "recovery.new").read_text()
    identity = pyrage.x25519.Identity.from_str(recovery)
    for host in hosts:
        station = Station(SqlCustodyRows(database), folder / host, "tester@here", host)
        for name in KEYRINGS:
            document = station.open(name)
            assert all(slot.state is SlotState.ACTIVE for slot in document.slots), document.slots
            assert len(document.data_keys) == 1, document.data_keys
            row, rows = station.stored(name)
            assert pyrage.decrypt(row.sealed, [identity])
            assert {slot.id for slot in rows} == {slot.id for slot in document.slots}
        with station.rows.read() as view:
            assert [view.rotation(name) for name in KEYRINGS] == [None, None]
        store = SecretStore(SqlSecretRows(database), folder / host)
        requests = {
            OpenRequest(parse(ref), "hr", ("db.example:5432",)): value for ref, value in order["values"].items()
        }
        opened = store.open_many(requests, actor="tester@here")
        assert {request: str(opened[request] == Secret(value)) for request, value in requests.items()} == dict.fromkeys(
            requests, "True"
        )
        assert all(result.ok for result in store.verify(actor="tester@here"))
    here = Station(SqlCustodyRows(database), folder / "host", "tester@here", "here")
    labels = [slot.label for slot in here.open("connectors").slots]
    assert labels.count("old") == (0 if order["command"] == "remove" else 1), labels
    assert labels.count("here") == (1 if order["command"] == "add" else 0), labels
    assert labels.count("new") == (1 if order["command"] == "join" else 0), labels


def child(order: dict[str, Any], answer: int) -> None:
    events = Events(order["kill"])
    database = open_database(order["url"], password=Secret(order["password"]) if order["password"] else None)
    events.watch()
    perform(order, database)
    done = events.count
    events.kill = None
    if order["kill"] is None:
        look(order, database)
    os.write(answer, json.dumps(done).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(child)
