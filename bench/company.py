"""An installation to measure: an HR table, a SCIM service, and the definition between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from identitymesh.composition import Installation, initialise, open_installation
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse

DEFINITION = """
version: 1
connectors:
  hr:
    type: sql
    url: sqlite:///hr.db
    objects: {{user: {{table: employees, key: id, watermark: changed}}}}
  crm:
    type: scim
    url: {crm}
    token: secret://crm/token
    objects: {{user: {{resource: User}}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: givenName, type: string}}
      - {{name: sn, type: string}}
      - {{name: displayName, type: string}}
      - {{name: mail, type: string}}
      - {{name: title, type: string}}
      - {{name: department, type: string}}
      - {{name: phone, type: string}}
      - {{name: city, type: string}}
      - {{name: active, type: boolean}}
rules:
  join:
    - {{name: by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
  flow:
    - {{name: f0, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 90}}
    - {{name: f1, connector: hr, object: user, target: givenName, value: "Trim([first])", confidence: 90}}
    - {{name: f2, connector: hr, object: user, target: sn, value: "Trim([last])", confidence: 90}}
    - {{name: f3, connector: hr, object: user, target: displayName, confidence: 90,
       value: 'Concat([first], " ", [last])'}}
    - {{name: f4, connector: hr, object: user, target: mail, confidence: 90,
       value: 'ToLower(Concat([first], ".", [last], "@example.org"))'}}
    - {{name: f5, connector: hr, object: user, target: title, value: "[title]", confidence: 90}}
    - {{name: f6, connector: hr, object: user, target: department, value: "ToUpper([department])", confidence: 90}}
    - {{name: f7, connector: hr, object: user, target: phone, value: 'Replace([phone], " ", "")', confidence: 90}}
    - {{name: f8, connector: hr, object: user, target: city, value: 'Coalesce([city], "Berlin")', confidence: 90}}
    - {{name: f9, connector: hr, object: user, target: active, value: '[status] == "active"', confidence: 90}}
  project:
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
COLUMNS = ("id", "first", "last", "title", "department", "phone", "city", "status", "changed")


def person(number: int) -> tuple[str, ...]:
    """One row of HR."""
    return (
        f"e{number:07}", f"First{number}", f"Last{number}", "Engineer", f"dept {number % 40}",
        f"+49 30 {number:07}", f"City {number % 90}", "active", "2026-01-01T00:00:00Z",
    )  # fmt: skip


@contextmanager
def company(
    folder: Path, people: int, crm: str, token: str, *, database_url: str | None = None
) -> Iterator[Installation]:
    """A fresh installation with this many people in HR, nobody synchronised yet."""
    with sqlite3.connect(folder / "hr.db") as connection:
        connection.execute(f"CREATE TABLE employees ({', '.join(f'{name} TEXT' for name in COLUMNS)})")
        connection.executemany(
            f"INSERT INTO employees VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608  names of ours
            (person(number) for number in range(people)),
        )
    connection.close()
    initialise(folder, database_url, lambda _: None)
    with open_installation(folder) as installation:
        installation.secrets.put(parse("secret://crm/token"), Secret(token), actor="bench")
        installation.engine.apply(
            DEFINITION.format(crm=crm), source="bench", base=None, replace=False, release=False, allow_audience=()
        )
        yield installation


def silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""
