"""Commands on encrypted columns that end themselves: forks a process for each order, see tests/secrets/kills.py.

Every statement for a database, both sides of each commit, and both sides of each file operation is an event. With
``kill`` the process ends itself with SIGKILL at that event; without, it does all of it, and looks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from identitymesh.columns import EncryptedColumn, EncryptedSetting, service, sweeping
from identitymesh.columns.keys import create_key, load_key
from identitymesh.columns.opening import open_plan
from identitymesh.columns.places import ColumnPlace
from identitymesh.columns.plan import Plan
from identitymesh.columns.postgresql import PostgresSession
from identitymesh.columns.session import Which
from identitymesh.columns.sqlite import SqliteColumn, SqliteSession
from identitymesh.errors import ColumnKeyExists, ColumnKeyWrong
from identitymesh.redaction import Secret
from tests.forks import serve
from tests.secrets.kills import Events

VALUES = {number: f"SEED{number}" for number in range(1, 8)}
SETTING = "smtp password"


def watch(events: Events) -> None:
    psycopg.Cursor.execute = events.around(psycopg.Cursor.execute)  # type: ignore[method-assign]
    SqliteSession.execute = events.around(SqliteSession.execute)  # type: ignore[method-assign]
    for name in ("_write_cells", "_write_plain"):
        setattr(SqliteColumn, name, events.around(getattr(SqliteColumn, name)))
    real: Callable[[PostgresSession], AbstractContextManager[None]] = PostgresSession.transaction

    @contextmanager
    def transaction(self: PostgresSession) -> Iterator[None]:
        with real(self):
            yield
            events()  # before the commit
        events()

    PostgresSession.transaction = transaction  # type: ignore[method-assign]
    for name in ("open", "fsync", "fchmod", "unlink"):
        setattr(os, name, events.around(getattr(os, name)))


def plan_of(order: dict[str, Any], **changes: Any) -> Plan:
    folder = Path(order["folder"])
    plan = {
        "version": 1,
        "database": order["url"],
        "key": str(folder / "app.key"),
        "places": [{"column": "users.totp_secret"}, {"row": "smtp_password", "table": "system_config"}],
    }
    if order["password"]:
        plan["password_file"] = str(folder / "password")
    return Plan.model_validate(plan | changes)


def perform(order: dict[str, Any]) -> None:
    folder = Path(order["folder"])
    commands: dict[str, Callable[[], Any]] = {
        "init-key": lambda: make(folder / "made.key"),
        "encrypt": lambda: service.encrypt(plan_of(order)),
        "drop": lambda: service.encrypt(plan_of(order), drop_plaintext=True),
        "decrypt": lambda: service.decrypt(plan_of(order)),
        "rotate": lambda: rotate(order),
        "upgrade": lambda: service.upgrade(plan_of(order)),
    }
    commands[order["command"]]()


def make(path: Path) -> None:
    """Killed after the file was whole, the same command says that there is one."""
    try:
        create_key(path)
    except ColumnKeyExists:
        load_key(path)


def rotate(order: dict[str, Any]) -> None:
    """Killed after its last commit, the same command finds the columns under the new key, and changes nothing."""
    try:
        service.rotate_key(plan_of(order), Path(order["folder"]) / "new.key")
    except ColumnKeyWrong as wrong:
        if "was rotated to" not in wrong.message:
            raise


def look(order: dict[str, Any]) -> None:
    """Every value is there once, under the right key, in the right form; and the side table says so."""
    command, folder = order["command"], Path(order["folder"])
    if command == "init-key":
        assert len((folder / "made.key").read_bytes()) == 32
        load_key(folder / "made.key")
        return
    name = "new.key" if command == "rotate" else "app.key"
    form = "sealed" if command == "upgrade" else "compatible"
    plan, key = plan_of(order, key=str(folder / name), format=form), load_key(folder / name)
    column = EncryptedColumn("users.totp_secret", key, form=form)
    setting = EncryptedSetting("system_config", "smtp_password", key, form=form)
    with open_plan(plan) as work:
        session = work.session
        rows = session.execute("SELECT id, totp_secret_encrypted, totp_secret_nonce FROM users")
        assert len(rows) == len(VALUES) + 1
        for number, encrypted, nonce in rows:
            row = {"id": number, "totp_secret_encrypted": encrypted, "totp_secret_nonce": nonce}
            wanted = VALUES.get(number)
            assert column.read(row) == (None if wanted is None else Secret(wanted)), number
            assert wanted is None or (nonce is None) == (form == "sealed")
        settings = dict(session.execute("SELECT key, value FROM system_config"))
        assert setting.read(settings) == Secret(SETTING)
        plain = command in {"encrypt", "decrypt"}
        assert ("smtp_password" in settings) == plain
        for target in work.targets:
            structure = target.inspect(writing=False)
            assert structure.has_plain == plain
            if plain and isinstance(target.place, ColumnPlace):
                shown = {row.key[0]: row.plain for row in target.scan(Which.FILLED, None, 100)}
                assert shown == {str(number): Secret(value) for number, value in VALUES.items()}
                assert structure.guarded
        steps = {state.step for state in work.states().values()}
        assert steps == {{"encrypt": "encrypted", "decrypt": "decrypted"}.get(command, "dropped")}, steps
    assert [place.broken + place.pending for place in service.verify(plan).places] == [0, 0]


def child(order: dict[str, Any], answer: int) -> None:
    sweeping.FIRST_BATCH = sweeping.LARGEST_BATCH = 2  # type: ignore[misc]
    events = Events(order["kill"])
    watch(events)
    perform(order)
    done = events.count
    events.kill = None
    if order["kill"] is None:
        look(order)
    os.write(answer, json.dumps(done).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(child)
