"""Installations to measure: HR as a table, a SCIM service or a directory; with files: `identitymesh.benchmark`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from identitymesh.benchmark.company import COLUMNS, RULES, person
from identitymesh.composition import initialise, open_installation
from identitymesh.installation import Installation
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse

__all__ = ["COLUMNS", "company", "definition_of_directory", "installed", "person", "silent"]

CONNECTORS = """
version: 1
connectors:
  hr:
    type: sql
    url: sqlite:///hr.db
    objects: {user: {table: employees, key: id, watermark: changed}}
"""
PEOPLE_IN_CRM = """
    - name: people
      connector: crm
      object: user
      create: true
      correlate: externalId
      attributes:
        externalId: "[employeeId]"
        userName: "[mail]"
        displayName: "[displayName]"
        name.givenName: "[givenName]"
        name.familyName: "[sn]"
        title: "[title]"
        active: "[active]"
"""


@contextmanager
def company(
    folder: Path, people: int, crm: str, token: str, *, database_url: str | None = None
) -> Iterator[Installation]:
    """A fresh installation with this many people in HR and a SCIM service, nobody synchronised yet."""
    secret = ("crm/token", token)
    with installed(folder, people, definition_of_a_service(crm), secret, database_url=database_url) as installation:
        yield installation


@contextmanager
def installed(
    folder: Path, people: int, definition: str, secret: tuple[str, str], *, database_url: str | None = None
) -> Iterator[Installation]:
    """The same with another definition; ``secret`` is the path and the value of what it needs."""
    with sqlite3.connect(folder / "hr.db") as connection:
        connection.execute(f"CREATE TABLE employees ({', '.join(f'{name} TEXT' for name in COLUMNS)})")
        connection.executemany(
            f"INSERT INTO employees VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608  names of ours
            (person(number) for number in range(people)),
        )
    connection.close()
    initialise(folder, database_url, lambda _: None)
    with open_installation(folder) as installation:
        path, value = secret
        installation.secrets.put(parse(f"secret://{path}"), Secret(value), actor="bench")
        installation.engine.apply(
            definition, source="bench", base=None, replace=False, release=False, allow_audience=()
        )
        yield installation


def definition_of_a_service(url: str) -> str:
    return f"""{CONNECTORS.rstrip()}
  crm:
    type: scim
    url: {url}
    token: secret://crm/token
    objects: {{user: {{resource: User}}}}
{RULES.strip()}{PEOPLE_IN_CRM}"""


def definition_of_directory(url: str, bind_dn: str, base: str) -> str:
    """The same people, to a directory over a connection in clear."""
    return f"""{CONNECTORS.rstrip()}
  directory:
    type: ldap
    url: {url}
    allow_cleartext: true
    bind_dn: {bind_dn}
    bind_password: secret://ldap/bind
    objects: {{user: {{base: "{base}"}}}}
{RULES.strip()}
    - name: people
      connector: directory
      object: user
      create: true
      correlate: employeeNumber
      attributes:
        dn: 'Concat("uid=", EscapeDN([employeeId]), ",{base}")'
        objectClass: 'List("inetOrgPerson")'
        uid: "[employeeId]"
        employeeNumber: "[employeeId]"
        givenName: "[givenName]"
        sn: "[sn]"
        cn: "[displayName]"
        mail: "[mail]"
        title: "[title]"
"""


def silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""
