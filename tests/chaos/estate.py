"""Three targets and a source on real servers, each behind a line that can be broken; the morning of a day for each try.

The source is a table in PostgreSQL; targets are a directory, a SCIM service and another table. `morning` is what they
and the installation hold when a day begins; :meth:`Estate.begin` puts all of it back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from identitymesh.composition import initialise, open_installation
from identitymesh.installation import Installation
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from identitymesh.storage.database import Database, open_database
from tests.servers.authority import Authority
from tests.servers.postgresql import PostgresDatabase, PostgresServer
from tests.servers.process import need, private_folder
from tests.servers.proxy import Proxy
from tests.servers.slapd import SUFFIX, SlapdServer

from .target import Target

PEOPLE = 24
BASE = f"ou=people,{SUFFIX}"
TARGETS = ("directory", "crm", "badges")
SPACE = "space"
SMALL_DISK = 48  # MB: the product's database, and a run's worth of it
DEFINITION = """
version: 1
connectors:
  hr:
    type: sql
    url: postgresql+psycopg://app@127.0.0.1:{hr}/outside
    password: secret://hr/reader
    timeout: 3
    objects: {{user: {{table: person, key: id, watermark: changed}}}}
  directory:
    type: ldap
    url: ldap://127.0.0.1:{directory}
    allow_cleartext: true
    bind_dn: cn=sync,{suffix}
    bind_password: secret://directory/sync
    timeout: 3
    objects: {{user: {{base: "ou=people,{suffix}", filter: "(objectClass=inetOrgPerson)"}}}}
  crm:
    type: scim
    url: http://127.0.0.1:{crm}/v2
    token: secret://crm/token
    page_size: 10
    timeout: 3
    objects: {{user: {{resource: User}}}}
  badges:
    type: sql
    url: postgresql+psycopg://app@127.0.0.1:{badges}/outside
    password: secret://hr/reader
    timeout: 3
    objects: {{user: {{table: badge, key: number}}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: givenName, type: string}}
      - {{name: sn, type: string}}
      - {{name: active, type: boolean}}
      - {{name: title, type: string}}
rules:
  join:
    - {{name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
  flow:
    - {{name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}}
    - {{name: hr-given, connector: hr, object: user, target: givenName, value: "[first]", confidence: 90}}
    - {{name: hr-sn, connector: hr, object: user, target: sn, value: "[last]", confidence: 90}}
    - {{name: hr-active, connector: hr, object: user, target: active, value: '[status] == "active"', confidence: 90}}
    - {{name: hr-title, connector: hr, object: user, target: title, value: "[title]", confidence: 90}}
  project:
    - name: people-in-directory
      connector: directory
      object: user
      create: true
      correlate: employeeNumber
      on_leave: disable
      disable: {{employeeType: '"left"'}}
      attributes:
        dn: 'Concat("uid=", EscapeDN([employeeId]), ",ou=people,{suffix}")'
        objectClass: 'List("inetOrgPerson")'
        uid: "[employeeId]"
        employeeNumber: "[employeeId]"
        cn: 'Concat([givenName], " ", [sn])'
        givenName: "[givenName]"
        sn: "[sn]"
        title: "[title]"
      on_create: {{userPassword: "InitialPassword(20)"}}
    - name: people-in-crm
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {{active: "False", title: '"left"'}}
      attributes:
        externalId: "[employeeId]"
        userName: 'Concat([givenName], ".", [employeeId])'
        name.givenName: "[givenName]"
        name.familyName: "[sn]"
        active: "[active]"
        title: "[title]"
    - name: badge-holders
      connector: badges
      object: user
      create: true
      correlate: person_no
      on_leave: delete
      attributes:
        person_no: "[employeeId]"
        full_name: 'Concat([givenName], " ", [sn])'
        title: "[title]"
limits:
  default:
    {{create: {{percent: 100}}, update: {{percent: 100}}, disable: {{count: 100, percent: 100}},
     delete: {{count: 100, percent: 100}}}}
"""
TABLES = """
CREATE TABLE person (id text PRIMARY KEY, first text, last text, status text, title text, changed integer);
CREATE TABLE badge (number bigserial PRIMARY KEY, person_no text, full_name text, title text);
"""  # nothing but the product sees to it that nobody has two badges
# A day: six come and one comes back; seven change; two leave.
DAY = """
INSERT INTO person VALUES ('p03', 'Back', 'Again', 'active', NULL, 50);
INSERT INTO person SELECT 'n' || n, 'New' || n, 'Person', 'active', 'x', 51 + n FROM generate_series(0, 5) n;
UPDATE person SET last = 'Moved', changed = 60 + right(id, 1)::int WHERE id BETWEEN 'p10' AND 'p14';
UPDATE person SET title = NULL, changed = 70 WHERE id IN ('p20', 'p21');
DELETE FROM person WHERE id IN ('p05', 'p17');
"""
NEW = tuple(f"n{number}" for number in range(6))


@dataclass
class Servers:
    """Started once; ``lines`` are the proxies before them, by the name of who is behind."""

    postgres: PostgresServer
    slapd: SlapdServer
    crm: Target
    lines: dict[str, Proxy]

    @classmethod
    @contextmanager
    def running(cls, authority: Authority) -> Iterator[Self]:
        with ExitStack() as stack:
            postgres = PostgresServer.start()
            stack.callback(postgres.stop)
            with postgres.database().connect() as connection:  # what was committed outlives a crash of the server
                connection.execute("ALTER ROLE app SET synchronous_commit = on")
            slapd = SlapdServer.start(authority)
            stack.callback(slapd.stop)
            crm = stack.enter_context(Target())
            ports = {"hr": postgres.port, "badges": postgres.port, "database": postgres.port}
            ports |= {"directory": slapd.port, "crm": crm.port}
            yield cls(postgres, slapd, crm, {name: stack.enter_context(Proxy(port)) for name, port in ports.items()})

    def outside(self) -> PostgresDatabase:
        """The database of HR and of the badges."""
        return self.postgres.database("outside")

    def definition(self) -> str:
        return DEFINITION.format(suffix=SUFFIX, **{name: line.port for name, line in self.lines.items()})

    def credentials(self) -> Mapping[str, str]:
        return {
            "secret://hr/reader": self.postgres.password,
            "secret://directory/sync": self.slapd.password,
            "secret://crm/token": self.crm.token,
        }


@dataclass
class Estate:
    """Everything of one kind of product database. ``folder`` is that of the installation, new for each try."""

    servers: Servers
    kind: str  # sqlite | postgresql
    keep: Path
    folder: Path = field(init=False)
    disk: Path = field(init=False)
    mounted: bool = False
    _morning: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keep.mkdir()
        self.disk = private_folder("disk")
        self.folder = self.disk / "installation"

    @contextmanager
    def in_place(self) -> Iterator[Self]:
        """On a small file system of its own, where one can be mounted."""
        mount = [need("mount", "mount"), "-t", "tmpfs", "-o", f"size={SMALL_DISK}m", "tmpfs", str(self.disk)]
        self.mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
        in_a_space = self.mounted and self.kind == "postgresql"
        if in_a_space:
            self._make_space()
        try:
            yield self
        finally:
            if in_a_space:
                with self.servers.postgres.database().connect() as connection:
                    connection.execute("DROP DATABASE IF EXISTS mesh WITH (FORCE)")
                    connection.execute("DROP TABLESPACE small")
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.disk)], check=True)
            shutil.rmtree(self.disk)

    def _make_space(self) -> None:
        """Where PostgreSQL keeps the product's database, its log excepted: a server whose log is full stops."""
        space = self.disk / SPACE
        space.mkdir()
        self.disk.chmod(0o755)
        owner = self.servers.postgres.folder.stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        with self.servers.postgres.database().connect() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{space}'")

    # -- the morning ---------------------------------------------------------------

    def prepare(self, run: Callable[[], None]) -> None:
        """Everything up to the morning; ``run`` makes a full run."""
        self._fresh_servers()
        self.folder.mkdir()
        url = None
        if self.kind == "postgresql":
            self._recreate("mesh", "template1")
            url = f"postgresql://app@127.0.0.1:{self.servers.lines['database'].port}/mesh"
            (self.folder / "identitymesh.toml").write_text(
                f'[database]\nurl = "{url}"\npassword_file = "password"\n[schedule]\nstop_seconds = 0\n'
            )
            (self.folder / "password").touch(mode=0o600)
            (self.folder / "password").write_text(self.servers.postgres.password)
        else:
            (self.folder / "identitymesh.toml").write_text("[schedule]\nstop_seconds = 0\n")
        initialise(self.folder, None, lambda _: None)
        with self.opened() as installation:
            for ref, value in self.servers.credentials().items():
                installation.secrets.put(parse(ref), Secret(value), actor="tester")
            installation.engine.apply(
                self.servers.definition(),
                source="mesh.yaml",
                base=None,
                replace=False,
                release=False,
                allow_audience=("secret://hr/reader",),
            )
        run()
        self.hr("DELETE FROM person WHERE id = 'p03'")
        run()
        self._save()

    def _fresh_servers(self) -> None:
        self._recreate("outside", "template1")
        with self.servers.outside().connect() as connection:
            connection.execute(TABLES)
            people = [(f"p{n:02}", f"First{n}", f"Last{n}", "active", f"t{n % 3}", n) for n in range(PEOPLE)]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO person VALUES (%s, %s, %s, %s, %s, %s)", people)
        for dn in self.servers.slapd.entries(BASE, "(objectClass=inetOrgPerson)", "uid"):
            self.servers.slapd.delete(dn)
        self.servers.crm.restore([])

    def _save(self) -> None:
        slapd = self.servers.slapd
        slapd.process.stop()
        _copy(slapd.folder / "data", self.keep / "data")
        slapd.process.start(slapd._answers)
        shutil.copytree(self.folder, self.keep / "installation")
        self._morning["crm"] = self.servers.crm.snapshot()
        for name in ("outside", *(["mesh"] if self.kind == "postgresql" else [])):
            self._recreate(f"{name}_{self.kind}_morning", name)

    def _recreate(self, name: str, template: str) -> None:
        with self.servers.postgres.database().connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,))
            space = "small" if name == "mesh" and self.mounted else "pg_default"
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" TABLESPACE {space}')
            connection.execute("CHECKPOINT")  # else a crash puts the sequences of a copy back (seen with PostgreSQL 15)

    def begin(self) -> None:
        """The morning of a new day, and what the day brings."""
        slapd = self.servers.slapd
        slapd.process.stop()
        shutil.rmtree(slapd.folder / "data")
        _copy(self.keep / "data", slapd.folder / "data")
        slapd.process.start(slapd._answers)
        for left in self.disk.iterdir():
            if left.name != SPACE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copytree(self.keep / "installation", self.folder)
        self.servers.crm.restore(self._morning["crm"])
        for name in ("outside", *(["mesh"] if self.kind == "postgresql" else [])):
            self._recreate(name, f"{name}_{self.kind}_morning")
        self.hr(DAY)

    def hr(self, statements: str) -> None:
        with self.servers.outside().connect() as connection:
            connection.execute(statements)

    # -- looking -------------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[Installation]:
        with open_installation(self.folder, actor="tester") as installation:
            yield installation

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The product's, past the line that may be broken."""
        if self.kind == "postgresql":
            mesh = self.servers.postgres.database("mesh")
            opened = open_database(mesh.url, password=Secret(mesh.password))
        else:
            opened = open_database(f"sqlite:///{self.folder / 'identitymesh.db'}")
        try:
            yield opened
        finally:
            opened.close()

    def people(self) -> Sequence[Any]:
        """What HR says."""
        with self.servers.outside().connect() as connection:
            return connection.execute("SELECT id, first, last, title, changed FROM person").fetchall()

    def contents(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What each target holds, by person, asked of the servers themselves. No two may be the same person's."""
        with self.servers.outside().connect() as connection:
            badges = connection.execute("SELECT person_no, full_name, title FROM badge").fetchall()
        entries = self.servers.slapd.entries(BASE, "(objectClass=inetOrgPerson)").values()
        return {
            "directory": _once(
                "directory",
                [
                    (one["employeeNumber"][0], {name: sorted(v) for name, v in one.items() if name != "userPassword"})
                    for one in entries
                ],
            ),
            "crm": self.servers.crm.contents(),
            "badges": _once("badges", [(one[0], {"full_name": one[1], "title": one[2]}) for one in badges]),
        }


def _copy(folder: Path, to: Path) -> None:
    """A directory's files are as long as it may grow, and nearly all of it is holes."""
    subprocess.run([need("cp", "coreutils"), "-r", "--sparse=always", str(folder), str(to)], check=True)


def _once(place: str, found: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    accounts: dict[str, dict[str, Any]] = {}
    for person, attributes in found:
        assert person not in accounts, f"two accounts of {person} in {place}"
        accounts[person] = attributes
    return accounts
