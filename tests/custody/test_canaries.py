"""No value shows anywhere: every command, whether it works or fails, searched for every value in eight spellings.

Standard output and error, logs of every library at debug, tracebacks with local variables, arguments and environment
of child processes, every file of the installation while it is written, and at the end every table.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from pyrage import x25519
from sqlalchemy import inspect, text

from identitymesh.cli.application import parser
from identitymesh.cli.output import Output
from identitymesh.composition import open_installation
from tests.canaries import Canaries, watching, with_locals
from tests.cli.conftest import Answer
from tests.cli.test_calls import CALLS, filled, leaves
from tests.custody.conftest import Home
from tests.custody.test_rotation import Hr
from tests.servers.postgresql import PostgresServer

HR, CRM, SMTP = "secret://hr/reader", "secret://crm/token", "secret://product/smtp"
ENDLESS = ("serve",)  # commands that end when they are told to
# What a command is there to show: on its standard output alone.
SHOWN = {
    "init": frozenset({"recovery key"}),
    "keys slots replace-recovery": frozenset({"recovery key"}),
    "keys slots add": frozenset({"passphrase"}),
    "secrets get": frozenset({"hr password"}),
}
LOUD = ("httpx2", "httpcore2", "httpcore2.http11", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg", "alembic")


def a_value(before: str) -> str:
    """Nobody else's, and not the same in any two spellings."""
    return f'{before}-{secrets.token_hex(6)}-pä"ss\\wörd+/='


@dataclass
class Mesh:
    """An installation, its values, and all that was seen of them."""

    home: Home
    canaries: Canaries
    hr: Hr
    log: io.StringIO
    seen: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)
    crashing: bool = False
    given: frozenset[str] = frozenset()

    def __call__(self, *arguments: str, stdin: str = "") -> Answer:
        """Carry out a command and look at everything that it left."""
        name = command_of(arguments)
        self.done.add(name)
        self.log.seek(0)
        self.log.truncate()
        self.failures.clear()
        answer = self.home("--debug", *arguments, stdin=stdin)
        shown = SHOWN.get(name, frozenset())
        self.look(f"{name}: standard output", answer.out, shown)
        self.look(f"{name}: standard error", answer.err)
        self.look(f"{name}: log", self.log.getvalue())
        if not self.crashing:
            for error in self.failures:
                for where, told in with_locals(error):
                    self.look(f"{name}: traceback: {where}", told, self.given)
        return answer

    def ok(self, *arguments: str, stdin: str = "") -> Answer:
        answer = self(*arguments, stdin=stdin)
        assert answer.code == 0, f"{arguments}: {answer.err}{answer.out}"
        return answer

    def bad(self, *arguments: str, stdin: str = "", given: str = "") -> Answer:
        """A call that is meant to fail. ``given``: a value that stands in a file which the call itself names."""
        self.given = frozenset({given})
        answer = self(*arguments, stdin=stdin)
        self.given = frozenset()
        assert answer.code != 0, f"{arguments} was meant to fail: {answer.out}"
        return answer

    def look(self, where: str, content: str | bytes, without: frozenset[str] = frozenset()) -> None:
        self.seen += [f"{where}: {hit}" for hit in sorted(self.canaries.found(content, without=without))]

    def add_keys(self) -> None:
        """The keys of this host and of its keyrings, as they are now."""
        for name in ("connectors", "application"):
            path = self.home.folder / "host" / f"{name}.key"
            self.canaries.add(f"host key of {name}", path.read_text().strip())
        with self.home.monkeypatch.context() as patched:
            for variable, value in self.home.environment.items():
                patched.setenv(variable, value)
            with open_installation(self.home.folder) as installation:
                for keyring in ("connectors", "application"):
                    document = installation.keys._station.open(keyring)
                    self.canaries.add(f"keyset secret of {keyring}", document.keyset_secret.reveal())
                    for key in document.data_keys:
                        self.canaries.add(f"data key {key.id} of {keyring}", key.secret.reveal())


def command_of(arguments: Sequence[str]) -> str:
    words = [word for word in arguments if not word.startswith("-")]
    return next(name for size in (3, 2, 1) if (name := " ".join(words[:size])) in known())


@cache
def known() -> frozenset[str]:
    return frozenset(leaves(parser("identitymesh", [])))


class Echo(BaseHTTPRequestHandler):
    """A service that refuses everybody, and repeats what it was sent."""

    def _answer(self) -> None:
        told = json.dumps({"detail": f"refused: {self.headers['Authorization']}"}).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/scim+json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - names of the standard library

    def log_message(self, *_arguments: Any) -> None:
        """Nothing: the test listens."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v2"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hr(postgres_server: PostgresServer) -> Hr:
    made = Hr(postgres_server.create(), f"hr_{secrets.token_hex(4)}")
    role = sql.Identifier(made.role)
    made("CREATE ROLE {} LOGIN", role)
    made("CREATE TABLE people (id text PRIMARY KEY)")
    made("INSERT INTO people VALUES ('1'), ('2')")
    made("GRANT SELECT ON people TO {}", role)
    return made


@pytest.fixture
def loud() -> Iterator[io.StringIO]:
    """Every library at its most talkative, with nothing in between."""
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    levels = {name: logging.getLogger(name).level for name in ("", *LOUD)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield heard
    logging.getLogger().removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def mesh(home: Home, hr: Hr, echo: str, loud: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = Mesh(home, Canaries(), hr, loud)
    for name in ("hr password", "smtp password"):
        made.canaries.add(name, a_value(name.split()[0]))
    made.canaries.add("token", secrets.token_urlsafe(24))
    made.canaries.add("recovery key", home.recovery_key)
    if home.password:
        made.canaries.add("database password", home.password)
    made.add_keys()
    home.environment["IDENTITYMESH_LOGGING__LEVEL"] = "debug"
    original = Output.error

    def told(self: Output, error: Any) -> None:
        made.failures.extend(one for one in (sys.exc_info()[1],) if one is not None)
        original(self, error)

    monkeypatch.setattr(Output, "error", told)
    hr.set(made.canaries.values["hr password"].decode())
    crm = f"  crm:\n    type: scim\n    url: {echo}\n    token: {CRM}\n    objects: {{user: {{resource: User}}}}\n"
    file = home.define(hr.connector + crm)
    file.write_text(
        file.read_text().replace(
            "  project: []",
            "  project: [{name: p, connector: crm, object: user, create: true, correlate: externalId,\n"
            '    attributes: {externalId: "[employeeId]", userName: "[employeeId]"}}]',
        )
    )
    return made


def value(mesh: Mesh, name: str) -> str:
    return mesh.canaries.values[name].decode()


def live(mesh: Mesh, tmp_path: Path) -> None:
    """A day with it: every command that does what it should."""
    recovery = value(mesh, "recovery key")
    mesh.ok("secrets", "set", HR, stdin=value(mesh, "hr password"))
    mesh.ok("secrets", "set", CRM, stdin=value(mesh, "token"))
    mesh.ok("secrets", "set", SMTP, "--keyring", "application", stdin=value(mesh, "smtp password"))
    mesh.ok("apply", str(mesh.home.folder / "mesh.yaml"))
    mesh.ok("connectors", "list")
    mesh.ok("connectors", "test", "hr")
    mesh("plan")
    mesh("run")
    mesh.ok("runs", "list")
    mesh("runs", "show", "1")
    mesh("explain", "1")
    for name in ("list", "usage", "due", "orphans", "verify", "retire"):
        mesh("secrets", name)
    mesh.ok("secrets", "show", HR)
    mesh.ok("secrets", "get", HR, "--force")
    mesh.canaries.add("hr password", a_value("hr2"))
    mesh.ok("secrets", "rotate", HR, "--at-server", stdin=value(mesh, "hr password"))
    identity = x25519.Identity.generate()
    mesh.canaries.add("bundle identity", str(identity))
    mesh.ok("secrets", "export", "--to", str(tmp_path / "a.age"), "--recipient", str(identity.to_public()))
    mesh.ok("secrets", "import", str(tmp_path / "a.age"), stdin=str(identity))
    mesh.ok("keys", "status")
    mesh.ok("keys", "open-test")
    passphrase(mesh)
    mesh.ok("keys", "rotate")
    mesh.add_keys()
    mesh("keys", "join", stdin=recovery)
    replaced = mesh.ok("keys", "slots", "replace-recovery", "--json").document
    recovery = replaced["recovery_key"]
    mesh.canaries.add("recovery key", recovery)
    mesh.ok("backup", "create", "--to", str(tmp_path / "b"))
    mesh.ok("backup", "verify", str(tmp_path / "b"))
    mesh.ok("drill", stdin=recovery)
    mesh.ok("backup", "restore", str(tmp_path / "b"), "--replace", stdin=recovery)
    mesh.add_keys()
    mesh("resume")
    mesh("doctor")
    mesh.ok("support-bundle", "--to", str(tmp_path / "support.zip"))
    mesh.look("support bundle", (tmp_path / "support.zip").read_bytes())
    mesh.ok("definition", "show")
    mesh.ok("database", "status")


def passphrase(mesh: Mesh) -> None:
    """A slot that comes and goes, with what opens it in between."""
    answer = mesh("keys", "slots", "add", "--type", "passphrase", "--label", "paper", "--json")
    shown = json.JSONDecoder().raw_decode(answer.out)[0]["passphrase"]
    mesh.canaries.add("passphrase", shown)
    mesh.look("keys slots add: standard error", answer.err)
    mesh("keys", "open-test", "--with", "passphrase", stdin=shown)
    mesh("keys", "slots", "remove", "paper")


def fail(mesh: Mesh, tmp_path: Path) -> None:
    """What goes wrong with a value at hand."""
    hr = value(mesh, "hr password")
    right = value(mesh, "recovery key")
    almost = right[:-1] + ("Q" if right[-1] != "Q" else "P")
    mesh.canaries.add("almost the recovery key", almost)
    mesh.ok("backup", "create", "--to", str(tmp_path / "c"))
    mesh.bad("drill", stdin=almost)
    mesh.bad("keys", "join", stdin=almost)
    mesh.bad("backup", "restore", str(tmp_path / "b"), "--replace", stdin=almost)
    mesh.canaries.add("large value", a_value("large"))
    mesh("secrets", "set", HR, stdin=value(mesh, "large value") * 1000)
    mesh.canaries.add("wrong password", a_value("wrong"))
    mesh.bad("secrets", "rotate", HR, stdin=value(mesh, "wrong password"))
    mesh("secrets", "rotate", SMTP, stdin=value(mesh, "wrong password"))
    mesh.hr.set("something else")
    mesh.bad("connectors", "test", "hr")
    mesh.bad("connectors", "test", "crm")
    mesh.bad("run", "--connector", "hr")
    mesh.bad("secrets", "rotate", HR, "--at-server", stdin=value(mesh, "wrong password"))
    mesh.hr.set(hr)
    plain = tmp_path / "plain.yaml"
    mesh.canaries.add("plaintext", "plain-" + secrets.token_hex(8))
    plain.write_text((mesh.home.folder / "mesh.yaml").read_text().replace(HR, value(mesh, "plaintext")))
    mesh.bad("apply", str(plain), given="plaintext")
    mesh.bad("secrets", "import", str(tmp_path / "a.age"), stdin=str(x25519.Identity.generate()))
    damaged = tmp_path / "damaged"
    damaged.write_bytes((tmp_path / "b").read_bytes()[:-2000])
    mesh.bad("backup", "verify", str(damaged))


def refuse(mesh: Mesh) -> None:
    """The database refuses in the middle, and the program itself has a fault."""
    for table in ("secret", "secret_ledger", "audit"):
        with refusing(mesh.home, table):
            mesh.bad("secrets", "set", HR, stdin=value(mesh, "hr password"))
            mesh.bad("secrets", "rotate", SMTP, stdin=value(mesh, "wrong password"))
    with mesh.home.monkeypatch.context() as patched:

        def broken(content: Any, _ref: str) -> None:
            raise RuntimeError(content.reveal())

        patched.setattr("identitymesh.secrets.store.check_value", broken)
        mesh.crashing = True  # its traceback was made to hold the value
        mesh.bad("secrets", "set", HR, stdin=value(mesh, "hr password"))
        mesh.crashing = False


@contextlib.contextmanager
def refusing(home: Home, table: str) -> Iterator[None]:
    """Every row that is written to a table is an error of the database, which quotes what it can."""
    if home.url is None:
        home.sql(f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END")
        home.sql(f"CREATE TRIGGER no_more_{table} BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END")
        yield
        home.sql(f"DROP TRIGGER no_{table}")
        home.sql(f"DROP TRIGGER no_more_{table}")
        return
    # The error of PostgreSQL ends with "Failing row contains (...)".
    home.sql(f"ALTER TABLE {table} ADD CONSTRAINT no_room CHECK (false) NOT VALID")
    yield
    home.sql(f"ALTER TABLE {table} DROP CONSTRAINT no_room")


def tables(home: Home) -> str:
    """Every row of every table, as the database writes it."""
    database = home.database()
    try:
        with database.read() as connection:
            names = inspect(connection).get_table_names()
            return "\n".join(
                repr(tuple(row)) for name in names for row in connection.execute(text(f'SELECT * FROM "{name}"'))
            )
    finally:
        database.close()


@pytest.fixture(autouse=True)
def _what_opens_is_forked() -> None:
    """Not here: the processes that are watched are the real ones."""


@pytest.mark.timeout(1200)  # every command there is, on a machine that may have other work
def test_no_value_shows_whatever_is_done(mesh: Mesh, tmp_path: Path) -> None:
    allowed = {f"{name}.key": frozenset({f"host key of {name}"}) for name in ("connectors", "application")}
    allowed["database.password"] = frozenset({"database password"})
    with watching(mesh.canaries, mesh.home.folder, allowed) as watched:
        live(mesh, tmp_path)
        fail(mesh, tmp_path)
        refuse(mesh)
        if mesh.home.url is None:
            the_others(mesh, tmp_path)
        mesh.look("tables", tables(mesh.home))
    shown = sorted({*mesh.seen, *watched.found})
    assert not shown, "\n".join(shown)
    assert watched.processes, "no child process was seen"
    assert mesh.home.url is not None or any(name.endswith("-wal") for name in watched.files)


def the_others(mesh: Mesh, tmp_path: Path) -> None:
    """Commands that nobody thought of above, with the calls that each has in tests/cli/test_calls.py."""
    for name in sorted(known() - mesh.done - set(ENDLESS)):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        mesh(*filled(CALLS[name], folder))
        mesh.done.add(name)
    assert mesh.done | set(ENDLESS) >= known(), "a command that nothing here calls"
