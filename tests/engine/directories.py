"""A company whose HR is a table and whose accounts are in a directory: a real slapd, a real engine, real secrets."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from identitymesh.composition import initialise, open_installation
from identitymesh.installation import Installation
from identitymesh.redaction import Secret
from identitymesh.runs.reports import RunReport
from identitymesh.secrets.references import parse
from tests.servers.slapd import Branch

from .world import silent

# As the example of the contract has it, with its limits wide: few people are always many percent.
DEFINITION = """
version: 1
connectors:
  hr: {{type: sql, url: 'sqlite:///hr.db', objects: {{user: {{table: employees, key: id}}}}}}
  directory:
    type: ldap
    url: {url}
    bind_dn: {bind_dn}
    bind_password: "{{{{secret:ldap/bind}}}}"
    ca_file: ca.pem
    timeout: 5
    objects:
      user: {{base: "{base}", filter: "(objectClass=inetOrgPerson)", key: entryUUID}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: displayName, type: string}}
      - {{name: sn, type: string}}
      - {{name: mail, type: string}}
      - {{name: room, type: string}}
rules:
  join:
    - {{name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
    - {{name: dir-by-number, connector: directory, object: user, source: employeeNumber, target: employeeId}}
  flow:
    - {{name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}}
    - {{name: hr-name, connector: hr, object: user, target: displayName, value: "[name]", confidence: 90}}
    - {{name: hr-sn, connector: hr, object: user, target: sn, value: 'Coalesce([name], "-")', confidence: 90}}
    - {{name: dir-mail, connector: directory, object: user, target: mail, value: "[mail]", confidence: 90}}
  project:
    - name: people-in-directory
      connector: directory
      object: user
      create: true
      correlate: employeeNumber
      on_leave: disable
      on_out_of_scope: keep
      disable: {{employeeType: '"disabled"'}}
      attributes:
        dn: 'Concat("uid=", EscapeDN([employeeId]), ",{base}")'
        objectClass: 'List("inetOrgPerson")'
        uid: "[employeeId]"
        employeeNumber: "[employeeId]"
        cn: "[displayName]"
        sn: "[sn]"
limits:
  default: {{delete: {{count: 50, percent: 100}}, update: {{percent: 100}}, disable: {{count: 50, percent: 100}}}}
"""


@dataclass
class Firm:
    """People in HR, and what the directory makes of them."""

    folder: Path
    branch: Branch
    installation: Installation

    def sql(self, statement: str, *values: object) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "hr.db")) as connection, connection:
            connection.execute(statement, values)

    def hire(self, *people: str) -> None:
        for one in people:
            self.sql("INSERT INTO employees VALUES (?, ?)", one, f"Name {one}")

    def fire(self, *people: str) -> None:
        for one in people:
            self.sql("DELETE FROM employees WHERE id = ?", one)

    def apply(self, definition: str) -> None:
        self.installation.engine.apply(
            definition,
            source="mesh.yaml",
            base=None,
            replace=True,
            release=True,
            allow_audience=("secret://ldap/bind",),
        )

    def run(self, *connectors: str, delta: bool = False) -> RunReport:
        return self.installation.engine.run(delta=delta, connectors=connectors, progress=silent)

    def entries(self, *names: str) -> dict[str, dict[str, list[str]]]:
        """What `ldapsearch` sees, by the number of the person."""
        found = self.branch.entries(*(("employeeNumber", *names) if names else ()))
        by_number = {one["employeeNumber"][0]: one for one in found.values() if "employeeNumber" in one}
        assert len(by_number) == len(found), "an account without a number, or a duplicate"
        return by_number


@contextlib.contextmanager
def firm(folder: Path, branch: Branch, edit: Callable[[str], str] = str, *, url: str | None = None) -> Iterator[Firm]:
    """A fresh installation with this definition applied; nobody is in HR."""
    (folder / "ca.pem").write_bytes(branch.server.authority.file.read_bytes())
    with contextlib.closing(sqlite3.connect(folder / "hr.db")) as connection, connection:
        connection.execute("CREATE TABLE employees (id text, name text)")
    initialise(folder, None, lambda _: None)
    with open_installation(folder) as installation:
        installation.secrets.put(parse("secret://ldap/bind"), Secret(branch.password), actor="tester")
        made = Firm(folder, branch, installation)
        made.apply(edit(definition(branch, url)))
        yield made


def definition(branch: Branch, url: str | None = None) -> str:
    return DEFINITION.format(url=url or branch.server.tls_url, bind_dn=branch.bind_dn, base=branch.people)
