"""Leaving, going out of scope and coming back: keep, disable and delete on every kind of target, looked at there."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from identitymesh.composition import initialise, open_installation
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from tests.servers.postgresql import PostgresServer
from tests.servers.scim import ScimServer
from tests.servers.slapd import SlapdServer

CHOICES = ("keep", "disable", "delete")
WAYS = ("leave", "scope")
PEOPLE = [f"{way}-{choice}" for way in WAYS for choice in CHOICES]
KINDS = ("sqlite", "postgresql", "ldap", "scim")

DEFINITION = """
version: 1
connectors:
  hr: {{type: sql, url: "sqlite:///hr.db", objects: {{user: {{table: person, key: id}}}}}}
  there: {connector}
mesh:
  user:
    anchor: number
    attributes: [{{name: number, type: string}}, {{name: name, type: string}}, {{name: team, type: string}}]
rules:
  join:
    - {{name: hr, connector: hr, object: user, source: id, target: number, create: true,
       present_when: '[status] == "in"'}}
  flow:
    - {{name: number, connector: hr, object: user, target: number, value: "[id]", confidence: 90}}
    - {{name: name, connector: hr, object: user, target: name, value: "[name]", confidence: 90}}
    - {{name: team, connector: hr, object: user, target: team, value: "[team]", confidence: 90}}
  project:
"""
RULE = """    - name: {choice}
      connector: there
      object: user
      when: '[team] == "{choice}"'
      create: true
      on_leave: {choice}
      on_out_of_scope: {choice}
{body}
"""
SQL_BODY = """      correlate: number
      disable: {state: '"off"'}
      attributes: {number: "[number]", name: "[name]"}"""
LDAP_BODY = """      correlate: employeeNumber
      disable: {employeeType: '"off"'}
      attributes:
        dn: 'Concat("uid=", EscapeDN([number]), ",BASE")'
        objectClass: 'List("inetOrgPerson")'
        uid: "[number]"
        employeeNumber: "[number]"
        cn: "[name]"
        sn: "[name]" """
SCIM_BODY = """      correlate: externalId
      disable: {active: "False"}
      attributes: {userName: "[number]", externalId: "[number]", displayName: "[name]", active: "True"}"""


@dataclass(frozen=True, slots=True)
class Account:
    """As another client sees it. ``key``: what the server itself calls it, where it does."""

    key: str
    off: bool
    name: str


Look = Callable[[], dict[str, Account]]


@dataclass
class Target:
    connector: str
    body: str
    look: Look
    secret: tuple[str, str] | None = None


@dataclass
class Stages:
    """What the target had when all were there, when they were away, and when they were back."""

    before: dict[str, Account] = field(default_factory=dict)
    away: dict[str, Account] = field(default_factory=dict)
    back: dict[str, Account] = field(default_factory=dict)


def _sqlite(folder: Path) -> Target:
    def look() -> dict[str, Account]:
        with closing(sqlite3.connect(folder / "there.db")) as there:
            rows = there.execute("SELECT id, number, name, state FROM account").fetchall()
        return {number: Account(str(key), state == "off", name) for key, number, name, state in rows}

    with closing(sqlite3.connect(folder / "there.db")) as there, there:
        there.execute("CREATE TABLE account (id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT UNIQUE, name, state)")
    connector = '{type: sql, url: "sqlite:///there.db", objects: {user: {table: account, key: id}}}'
    return Target(connector, SQL_BODY, look)


def _postgresql(server: PostgresServer) -> Target:
    database = server.create()

    def look() -> dict[str, Account]:
        with database.connect() as there:
            rows = there.execute("SELECT id, number, name, state FROM account").fetchall()
        return {number: Account(str(key), state == "off", name) for key, number, name, state in rows}

    with database.connect() as there:
        there.execute("CREATE TABLE account (id serial PRIMARY KEY, number text UNIQUE, name text, state text)")
    objects = "{user: {table: account, key: id}}"
    connector = f'{{type: sql, url: "{database.url}", password: "secret://there", objects: {objects}}}'
    return Target(connector, SQL_BODY, look, ("secret://there", database.password))


def _ldap(server: SlapdServer) -> Target:
    branch = server.branch()

    def look() -> dict[str, Account]:
        found = branch.entries("entryUUID", "uid", "employeeType", "cn").values()
        return {
            one["uid"][0]: Account(one["entryUUID"][0], one.get("employeeType") == ["off"], one["cn"][0])
            for one in found
        }

    connector = (
        f'{{type: ldap, url: "{server.tls_url}", bind_dn: "{branch.bind_dn}", bind_password: "secret://there", '
        f'ca_file: "{server.authority.file}", objects: {{user: {{base: "{branch.people}", key: entryUUID}}}}}}'
    )
    return Target(connector, LDAP_BODY.replace("BASE", branch.people), look, ("secret://there", branch.password))


def _scim(server: ScimServer) -> Target:
    def look() -> dict[str, Account]:
        headers = {"Authorization": f"Bearer {server.token}"}
        request = urllib.request.Request(f"{server.base_url}/Users?count=100", headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  loopback
            found = json.load(answer).get("Resources", [])
        return {one["externalId"]: Account(one["id"], one["active"] is False, one["displayName"]) for one in found}

    objects = "{user: {resource: User}}"
    connector = f'{{type: scim, url: "{server.base_url}", token: "secret://there", objects: {objects}}}'
    return Target(connector, SCIM_BODY, look, ("secret://there", server.token))


def _hr(folder: Path, people: Mapping[str, tuple[str, str]]) -> None:
    """Everybody with status and team."""
    with closing(sqlite3.connect(folder / "hr.db")) as hr, hr:
        hr.execute("CREATE TABLE IF NOT EXISTS person (id TEXT PRIMARY KEY, name, status, team)")
        rows = [(one, f"Name of {one}", status, team) for one, (status, team) in people.items()]
        hr.executemany("INSERT OR REPLACE INTO person VALUES (?, ?, ?, ?)", rows)


def _run(folder: Path) -> None:
    with open_installation(folder, actor="tester") as installation:
        report = installation.engine.run(delta=False, connectors=(), progress=lambda *_: None)
    assert report.state == "done", (report.issues, report.targets)


@pytest.fixture(scope="module", params=KINDS)
def stages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Six people at one target: half of them leave and half go out of scope, then all come back."""
    kind = request.param
    folder = tmp_path_factory.mktemp(f"leaving-{kind}")
    if kind == "sqlite":
        target = _sqlite(folder)
    elif kind == "postgresql":
        target = _postgresql(request.getfixturevalue("postgres_server"))
    elif kind == "ldap":
        target = _ldap(request.getfixturevalue("slapd_server"))
    else:
        target = _scim(request.getfixturevalue("module_scim_server"))
    here = {one: ("in", one.partition("-")[2]) for one in PEOPLE}
    _hr(folder, here)
    initialise(folder, None, lambda _: None)
    text = DEFINITION.format(connector=target.connector)
    text += "".join(RULE.format(choice=choice, body=target.body) for choice in CHOICES)
    with open_installation(folder, actor="tester") as installation:
        if target.secret is not None:
            installation.secrets.put(parse(target.secret[0]), Secret(target.secret[1]), actor="tester")
        installation.engine.apply(text, source="mesh.yaml", base=None, replace=False, release=False, allow_audience=())
    found = Stages()
    _run(folder)
    found.before = target.look()
    gone = {one: ("out", team) if one.startswith("leave") else (status, "none") for one, (status, team) in here.items()}
    _hr(folder, gone)
    _run(folder)
    found.away = target.look()
    _hr(folder, here)
    _run(folder)
    found.back = target.look()
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("choice", CHOICES)
def test_who_goes_and_comes_back(stages: Stages, way: str, choice: str) -> None:
    person = f"{way}-{choice}"
    before, away, back = (one.get(person) for one in (stages.before, stages.away, stages.back))

    assert before is not None
    assert (before.off, before.name) == (False, f"Name of {person}")
    if choice == "keep":
        assert away == before, "left as it was"
    elif choice == "disable":
        assert away == Account(before.key, off=True, name=before.name), "disabled, with the last values"
    else:
        assert away is None
    assert back is not None
    assert (back.off, back.name) == (False, before.name)
    assert (back.key == before.key) is (choice != "delete"), "the same account, unless it was deleted"
