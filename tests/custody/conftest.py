"""The real product in a folder of its own, called as its programs call it, but inside this process."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from sqlalchemy import text

from identitymesh import composition, settings
from identitymesh.audit import local_actor
from identitymesh.cli.main import run
from identitymesh.redaction import Secret
from identitymesh.storage.audit import StoredRecord, read_audit
from identitymesh.storage.database import Database, open_database
from tests.cli.conftest import Answer, Terminal
from tests.openings import Openings
from tests.prepared import migrated_file, original

CONNECTOR = """\
  hr:
    type: sql
    url: {url}
    password: secret://hr/reader
    objects: {{user: {{table: people, key: id}}}}
"""
DEFINITION = """\
version: 1
connectors:
{connectors}mesh:
  user:
    anchor: employeeId
    attributes: [{{name: employeeId, type: string}}]
rules:
  join: [{{name: by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}]
  flow: [{{name: id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 90}}]
  project: []
"""


@dataclass
class Home:
    """One installation folder. Call it with the arguments of a command."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    url: str | None = None
    password: str | None = None
    recovery_key: str = ""
    fingerprint: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, stdin: str | bytes = b"") -> Answer:
        out, err = Terminal(), Terminal()
        content = stdin.encode() if isinstance(stdin, str) else stdin
        with self.monkeypatch.context() as patched:
            for name, value in self.environment.items():
                patched.setenv(name, value)
            patched.setattr(sys, "stdin", Terminal(content))
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            code = run(
                open_installation=composition.open_installation,
                initialise=composition.initialise,
                custody=composition.Custody(),
                argv=["--home", str(self.folder), *arguments],
            )
        return Answer(code, out.content(), err.content())

    def ok(self, *arguments: str, stdin: str | bytes = b"") -> Answer:
        answer = self(*arguments, stdin=stdin)
        assert answer.code == 0, answer.err + answer.out
        return answer

    def trust(self) -> None:
        """Tell programs the password of the database."""
        if self.password is not None:
            file = self.folder / "database.password"
            file.write_text(self.password)
            file.chmod(0o600)
            self.environment["IDENTITYMESH_DATABASE__PASSWORD_FILE"] = str(file)

    def init(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.trust()
        made = self.ok("init", "--json", *(["--database-url", self.url] if self.url else [])).document
        self.recovery_key, self.fingerprint = made["recovery_key"], made["fingerprint"]

    def begin(self) -> None:
        """As after ``init``; the keys are those that other tests have, too."""
        self.folder.mkdir(exist_ok=True)
        self.trust()
        settings.create(self.folder, self.url)
        if self.url is None:
            migrated_file(self.folder / "identitymesh.db")
        with closing(self.database()) as database:
            made = original(local_actor(), gethostname()).copy(database, self.folder / "host")
        self.recovery_key, self.fingerprint = made.recovery_key.reveal_text(), made.fingerprint

    def database(self) -> Database:
        url = self.url or f"sqlite:///{self.folder}/identitymesh.db"
        return open_database(url, password=Secret(self.password) if self.password else None)

    def sql(self, statement: str, **values: Any) -> list[Any]:
        database = self.database()
        try:
            with database.write() as connection:
                result = connection.execute(text(statement), values)
                return list(result) if result.returns_rows else []
        finally:
            database.close()

    def audit(self, action: str | None = None) -> list[StoredRecord]:
        database = self.database()
        try:
            with database.read() as connection:
                return list(read_audit(connection, action=action))
        finally:
            database.close()

    def store(self, ref: str, value: str, *options: str) -> None:
        self.ok("secrets", "set", ref, *options, stdin=value)

    def define(self, connectors: str) -> Path:
        file = self.folder / "mesh.yaml"
        file.write_text(DEFINITION.format(connectors=connectors))
        return file


@pytest.fixture(autouse=True)
def _what_opens_is_forked(forked_openings: Openings, monkeypatch: pytest.MonkeyPatch) -> None:
    forked_openings.instead(monkeypatch)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDENTITYMESH_HOME", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """On SQLite alone."""
    home = Home(tmp_path / "mesh", monkeypatch)
    home.begin()
    return home


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """On both databases."""
    made = Home(tmp_path / "mesh", monkeypatch)
    if request.param == "postgresql":
        server = request.getfixturevalue("migrated_postgres")
        made.url, made.password = server.url, server.password
    made.begin()
    return made
