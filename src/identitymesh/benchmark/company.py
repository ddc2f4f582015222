"""Made-up people in a file, rules for them, and a table of badges: what is measured, and nothing of anybody's own."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path

from identitymesh.composition import initialise, open_installation

RULES = """
mesh:
  user:
    anchor: employeeId
    attributes:
      - {name: employeeId, type: string}
      - {name: givenName, type: string}
      - {name: sn, type: string}
      - {name: displayName, type: string}
      - {name: mail, type: string}
      - {name: title, type: string}
      - {name: department, type: string}
      - {name: phone, type: string}
      - {name: city, type: string}
      - {name: active, type: boolean}
rules:
  join:
    - {name: by-id, connector: hr, object: user, source: id, target: employeeId, create: true}
  flow:
    - {name: f0, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 90}
    - {name: f1, connector: hr, object: user, target: givenName, value: "Trim([first])", confidence: 90}
    - {name: f2, connector: hr, object: user, target: sn, value: "Trim([last])", confidence: 90}
    - {name: f3, connector: hr, object: user, target: displayName, confidence: 90,
       value: 'Concat([first], " ", [last])'}
    - {name: f4, connector: hr, object: user, target: mail, confidence: 90,
       value: 'ToLower(Concat([first], ".", [last], "@example.org"))'}
    - {name: f5, connector: hr, object: user, target: title, value: "[title]", confidence: 90}
    - {name: f6, connector: hr, object: user, target: department, value: "ToUpper([department])", confidence: 90}
    - {name: f7, connector: hr, object: user, target: phone, value: 'Replace([phone], " ", "")', confidence: 90}
    - {name: f8, connector: hr, object: user, target: city, value: 'Coalesce([city], "Berlin")', confidence: 90}
    - {name: f9, connector: hr, object: user, target: active, value: '[status] == "active"', confidence: 90}
  project:"""
BADGES = """
    - name: people
      connector: badges
      object: user
      create: true
      correlate: person_no
      attributes:
        person_no: "[employeeId]"
        login: "[mail]"
        display_name: "[displayName]"
        given_name: "[givenName]"
        family_name: "[sn]"
        title: "[title]"
        active: "[active]"
"""
FILE = "people.csv"
COLUMNS = ("id", "first", "last", "title", "department", "phone", "city", "status", "changed")


def person(number: int) -> tuple[str, ...]:
    """One row of HR."""
    return (
        f"e{number:07}", f"First{number}", f"Last{number}", "Engineer", f"dept {number % 40}",
        f"+49 30 {number:07}", f"City {number % 90}", "active", "2026-01-01T00:00:00Z",
    )  # fmt: skip


def definition() -> str:
    """From a file to a table of badges."""
    return f"""
version: 1
connectors:
  hr: {{type: csv, objects: {{user: {{path: {FILE}, key: id, expect: {{trailer: END}}}}}}}}
  badges: {{type: sql, url: 'sqlite:///badges.db', objects: {{user: {{table: badge, key: person_no}}}}}}
{RULES.strip()}{BADGES}"""


def write_people(folder: Path, people: int, moved: int = 0) -> None:
    """The file of HR; every so many-th person, ``moved`` in all, has another title."""
    step = people // moved if moved else people + 1
    with (folder / FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(people):
            row = person(number)
            writer.writerow((*row[:3], "Head", *row[4:]) if number % step == step - 1 else row)
        writer.writerow(("END", people))


def company_of_files(folder: Path, people: int, *, database_url: str | None = None) -> None:
    """A fresh installation with this many people in a file and nobody in the table of badges."""
    write_people(folder, people)
    with sqlite3.connect(folder / "badges.db") as connection:
        connection.execute(
            "CREATE TABLE badge (person_no TEXT PRIMARY KEY, login TEXT, display_name TEXT, given_name TEXT,"
            " family_name TEXT, title TEXT, active INTEGER)"
        )
    connection.close()
    initialise(folder, database_url, lambda _: None)
    with open_installation(folder) as installation:
        installation.engine.apply(
            definition(), source="bench", base=None, replace=False, release=False, allow_audience=()
        )


def take_exports_as_done(folder: Path) -> None:
    """The accounts hold what they should, as after an export that nobody wants to wait for here."""
    with sqlite3.connect(folder / "identitymesh.db") as connection:
        connection.execute(
            "UPDATE account SET known = desired, key = correlate, kind = NULL, row_digest = NULL, released = NULL"
        )
    connection.close()
