"""An installation with a day's work before it, made once; each sample gets a copy of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from identitymesh.composition import initialise, open_installation
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.leases import SqlLeases
from tests.servers.postgresql import PostgresDatabase, PostgresServer

from .children import Children
from .target import Target

PEOPLE = 24
DEFINITION = """
version: 1
connectors:
  hr:
    type: sql
    url: sqlite:///hr.db
    objects: {user: {table: person, key: id, watermark: changed}}
  crm:
    type: scim
    url: URL
    token: secret://crm/token
    page_size: 10
    objects: {user: {resource: User}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {name: employeeId, type: string}
      - {name: givenName, type: string}
      - {name: sn, type: string}
      - {name: active, type: boolean}
      - {name: title, type: string}
rules:
  join:
    - {name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}
  flow:
    - {name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}
    - {name: hr-given, connector: hr, object: user, target: givenName, value: "[first]", confidence: 90}
    - {name: hr-sn, connector: hr, object: user, target: sn, value: "[last]", confidence: 90}
    - {name: hr-active, connector: hr, object: user, target: active, value: '[status] == "active"', confidence: 90}
    - {name: hr-title, connector: hr, object: user, target: title, value: "[title]", confidence: 90}
  project:
    - name: people-in-crm
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {active: "False", title: '"left"'}
      attributes:
        externalId: "[employeeId]"
        userName: 'Concat([givenName], ".", [employeeId])'
        name.givenName: "[givenName]"
        name.familyName: "[sn]"
        active: "[active]"
        title: "[title]"
limits:
  default: {create: {percent: 100}, update: {percent: 100}, disable: {count: 100, percent: 100}}
"""
# A day: four come, one of them back; five change; two leave.
DAY = (
    "INSERT INTO person VALUES ('p03', 'Back', 'Again', 'active', NULL, 50)",
    *(
        f"INSERT INTO person VALUES ('n{number}', 'New{number}', 'Person', 'active', 'x', {51 + number})"
        for number in range(6)
    ),
    *(f"UPDATE person SET last = 'Moved', changed = {60 + number} WHERE id = 'p1{number}'" for number in range(5)),
    "UPDATE person SET title = NULL, changed = 70 WHERE id = 'p20'",
    "DELETE FROM person WHERE id IN ('p05', 'p17')",
)


@dataclass(frozen=True, slots=True)
class End:
    """What must be equal, however often a run was killed on the way."""

    accounts: dict[str, dict[str, Any]]
    people: dict[str, tuple[bool, str]]  # by anchor: present, and the plain values
    audit: Counter[tuple[str, str, str]]  # action, anchor and outcome of what happened to people since the morning


@dataclass(slots=True)
class Company:
    """The morning of the day. ``copy`` gives a world of its own, and puts the target back."""

    children: Children
    target: Target
    folder: Path
    server: PostgresServer | None = None
    database: PostgresDatabase | None = None
    accounts: list[Any] = field(default_factory=list)
    last_audit: int = 0
    undisturbed: dict[tuple[str, ...], End] = field(default_factory=dict)
    events: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Everything up to the morning."""
        self.folder.mkdir()
        self.target.restore([])
        if self.server is not None:
            self.database = self.server.create()
            self._settings(self.folder, self.database)
        with closing(sqlite3.connect(self.folder / "hr.db")) as hr, hr:
            hr.execute("CREATE TABLE person (id PRIMARY KEY, first, last, status, title, changed INTEGER)")
            people = [(f"p{n:02}", f"First{n}", f"Last{n}", "active", f"t{n % 3}", n) for n in range(PEOPLE)]
            hr.executemany("INSERT INTO person VALUES (?, ?, ?, ?, ?, ?)", people)
        initialise(self.folder, None, lambda _: None)
        with open_installation(self.folder) as installation:
            installation.secrets.put(parse("secret://crm/token"), Secret(self.target.token), actor="tester")
            installation.engine.apply(
                DEFINITION.replace("URL", self.target.url),
                source="mesh.yaml",
                base=None,
                replace=False,
                release=False,
                allow_audience=(),
            )
        self.children.order(self.folder, ["full"], warm=True)
        with closing(sqlite3.connect(self.folder / "hr.db")) as hr, hr:
            hr.execute("DELETE FROM person WHERE id = 'p03'")
        self._undisturbed(self.folder, ["full"])
        with closing(sqlite3.connect(self.folder / "hr.db")) as hr, hr:
            for statement in DAY:
                hr.execute(statement)
        self.accounts = self.target.snapshot()
        with closing(self._open(self.folder)) as database, database.read() as connection:
            self.last_audit = int(connection.scalar(text("SELECT max(sequence) FROM audit")) or 0)

    def learn(self, runs: Sequence[str], folder: Path) -> None:
        """How the day goes when nobody disturbs it: its end, and the events of its first run."""
        self.copy(folder)
        self.events[tuple(runs)] = self._undisturbed(folder, runs[:1])["events"]
        self._undisturbed(folder, runs[1:])
        self.undisturbed[tuple(runs)] = self.end(folder)

    def _undisturbed(self, folder: Path, runs: Sequence[str]) -> Any:
        answer = self.children.order(folder, runs, names=True)
        assert [one["state"] for one in answer.get("runs", ())] == ["done"] * len(runs), answer
        return answer

    # -- worlds ------------------------------------------------------------------

    def copy(self, folder: Path) -> None:
        """A copy of the morning."""
        shutil.copytree(self.folder, folder)
        self.target.restore(self.accounts)
        if self.server is not None and self.database is not None:
            self._settings(folder, self.server.create(template=self.database.name))

    def discard(self, folder: Path) -> None:
        """A copy is done with."""
        if self.server is not None:
            self.server.drop(self._postgres(folder))
        shutil.rmtree(folder)

    def _settings(self, folder: Path, database: PostgresDatabase) -> None:
        url = database.url.replace("postgresql+psycopg", "postgresql")
        (folder / "identitymesh.toml").write_text(f'[database]\nurl = "{url}"\npassword_file = "password"\n')
        (folder / "password").unlink(missing_ok=True)
        (folder / "password").touch(mode=0o600)
        (folder / "password").write_text(database.password)

    def _postgres(self, folder: Path) -> PostgresDatabase:
        assert self.server is not None
        url = (folder / "identitymesh.toml").read_text().split('"')[1]
        return self.server.database(url.rpartition("/")[2])

    def _open(self, folder: Path) -> Database:
        if self.server is not None:
            database = self._postgres(folder)
            return open_database(database.url, password=Secret(database.password))
        return open_database(f"sqlite:///{folder / 'identitymesh.db'}")

    # -- looking -----------------------------------------------------------------

    def check_watermark(self, folder: Path) -> None:
        """Every row of HR below the stored watermark is in the mesh as HR has it."""
        with closing(sqlite3.connect(folder / "hr.db")) as hr:
            rows = hr.execute("SELECT id, first, last, changed FROM person").fetchall()
        with closing(self._open(folder)) as database, database.read() as connection:
            value = str(connection.scalar(text("SELECT value FROM watermark WHERE connector = 'hr'")))
            query = text("SELECT key, document FROM connector_object WHERE connector = 'hr'")
            stored = {row.key: json.loads(row.document) for row in connection.execute(query)}
        watermark = int(value.removeprefix("integer:"))
        for key, first, last, changed in rows:
            if changed < watermark:
                assert key in stored, f"{key} is below the watermark {watermark}, and was not read"
                assert (stored[key]["first"], stored[key]["last"]) == (first, last), f"{key} is below {watermark}"

    def end(self, folder: Path) -> End:
        """Everything that must be equal, and what must be so in every end."""
        with closing(self._open(folder)) as database, database.read() as connection:
            running = connection.scalar(text("SELECT count(*) FROM run WHERE state = 'running'"))
            assert running == 0, "a run is recorded as running"
            leases = connection.execute(text("SELECT name FROM lease")).scalars().all()
            sending = connection.scalar(text("SELECT count(*) FROM account WHERE kind IS NOT NULL"))
            assert sending == 0, "accounts with something left to do"
            people = {}
            for row in connection.execute(text("SELECT anchor, present, document FROM identity")):
                assert row.anchor not in people, f"two people with the anchor {row.anchor}"
                values = {name: held[0] for name, held in json.loads(row.document).items()}
                people[row.anchor] = (bool(row.present), json.dumps(values, sort_keys=True))
            rows = connection.execute(
                text("SELECT sequence, action, outcome, payload FROM audit WHERE sequence > :s ORDER BY sequence"),
                {"s": self.last_audit},
            ).all()
        with closing(self._open(folder)) as database:
            held = [name for name in leases if SqlLeases(database).held(name)]
            assert not held, f"held leases: {held}"
        if self.server is None:  # PostgreSQL numbers what it rolls back, too
            assert [row.sequence for row in rows] == [self.last_audit + 1 + index for index in range(len(rows))]
        audit = Counter(
            (row.action, json.loads(row.payload)["anchor"], row.outcome)
            for row in rows
            if row.action.startswith(("account.", "identity."))
        )
        return End(self.target.contents(), people, audit)
