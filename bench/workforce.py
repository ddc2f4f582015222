"""A workforce in PostgreSQL that changes all the time, and what three targets should hold of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tests.servers.postgresql import PostgresDatabase

SUFFIX = "dc=example,dc=org"
BASE = f"ou=people,{SUFFIX}"
DEPARTMENTS = 25
SALES = "Department 7"
TABLES = """
CREATE TABLE person (id text PRIMARY KEY, first text, last text, title text, department text,
                     changed timestamptz NOT NULL);
CREATE INDEX person_changed ON person (changed);
CREATE TABLE badge (person_no text PRIMARY KEY, full_name text, title text);
"""
DEFINITION = """
version: 1
connectors:
  hr:
    type: sql
    url: {outside}
    password: secret://outside/reader
    objects: {{user: {{table: person, key: id, watermark: changed}}}}
    schedule: "*/15 * * * *"
    full_schedule: "0 2 * * *"
  directory:
    type: ldap
    url: {directory}
    allow_cleartext: true
    bind_dn: cn=sync,{suffix}
    bind_password: secret://directory/sync
    objects: {{user: {{base: "{base}", filter: "(objectClass=inetOrgPerson)"}}}}
    full_schedule: "15 2 * * *"
  crm:
    type: scim
    url: {crm}
    token: secret://crm/token
    objects: {{user: {{resource: User}}}}
    full_schedule: "30 2 * * *"
  badges:
    type: sql
    url: {outside}
    password: secret://outside/reader
    objects: {{user: {{table: badge, key: person_no}}}}
    full_schedule: "45 2 * * *"
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: givenName, type: string}}
      - {{name: sn, type: string}}
      - {{name: title, type: string}}
      - {{name: department, type: string}}
rules:
  join:
    - {{name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
  flow:
    - {{name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}}
    - {{name: hr-given, connector: hr, object: user, target: givenName, value: "[first]", confidence: 90}}
    - {{name: hr-sn, connector: hr, object: user, target: sn, value: "[last]", confidence: 90}}
    - {{name: hr-title, connector: hr, object: user, target: title, value: "[title]", confidence: 90}}
    - {{name: hr-department, connector: hr, object: user, target: department, value: "[department]", confidence: 90}}
  project:
    - name: people-in-directory
      connector: directory
      object: user
      create: true
      correlate: employeeNumber
      on_leave: disable
      disable: {{employeeType: '"left"'}}
      attributes:
        dn: 'Concat("uid=", EscapeDN([employeeId]), ",{base}")'
        objectClass: 'List("inetOrgPerson")'
        uid: "[employeeId]"
        employeeNumber: "[employeeId]"
        cn: 'Concat([givenName], " ", [sn])'
        sn: "[sn]"
        title: "[title]"
        departmentNumber: "[department]"
    - name: sales-in-crm
      connector: crm
      object: user
      when: '[department] == "{sales}"'
      create: true
      correlate: externalId
      on_leave: disable
      on_out_of_scope: disable
      disable: {{active: "False"}}
      attributes:
        externalId: "[employeeId]"
        userName: "[employeeId]"
        name.familyName: "[sn]"
        title: "[title]"
        active: "True"
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
    {{delete: {{count: null, percent: 2}}, disable: {{count: null, percent: 10}}, update: {{percent: 50}},
      create: {{percent: 50}}}}
"""

Person = tuple[str, str, str, str]  # first, last, title, department


def definition(outside: PostgresDatabase, directory: str, crm: str) -> str:
    return DEFINITION.format(outside=outside.url, directory=directory, crm=crm, suffix=SUFFIX, base=BASE, sales=SALES)


# Of all people, in a day: one of a hundred changes, and of ten thousand four come and three leave.
CHANGED, CAME, LEFT = 0.01, 0.0004, 0.0003
QUARTERS = 96  # of an hour, in a day


class Workforce:
    """``people`` is what HR says; ``former`` the last that it said of those who left; ``sellers`` whoever was there."""

    def __init__(self, outside: PostgresDatabase, people: int, begin: datetime) -> None:
        self._outside = outside
        self._chance = random.Random("weeks")  # noqa: S311 - the same weeks each time
        self._last = people
        self.people: dict[str, Person] = {f"e{number:06}": self._somebody(number) for number in range(people)}
        self.former: dict[str, Person] = {}
        self.events = {"changed": 0, "came": 0, "left": 0}
        with outside.connect() as connection:
            connection.execute(TABLES)
            with connection.cursor() as cursor, cursor.copy("COPY person FROM STDIN") as copy:
                for key, one in self.people.items():
                    copy.write_row((key, *one, begin))

    def _somebody(self, number: int) -> Person:
        return (f"First{number}", f"Last{number}", f"Title {number % 12}", f"Department {number % DEPARTMENTS}")

    def quarter(self, now: datetime) -> None:
        """A quarter of an hour passes; leavers are few enough to be believed."""
        with self._outside.connect(autocommit=False) as connection:
            for _ in range(self._some(CAME)):
                key = f"e{self._last:06}"
                self.people[key] = self._somebody(self._last)
                self._last += 1
                connection.execute("INSERT INTO person VALUES (%s, %s, %s, %s, %s, %s)", (key, *self.people[key], now))
                self.events["came"] += 1
            changed, left = self._some(CHANGED), self._some(LEFT)
            keys = self._chance.sample(sorted(self.people), changed + left)
            for key in keys[:changed]:
                self.people[key] = self._other(self.people[key])
                values = (*self.people[key], now, key)
                connection.execute(
                    "UPDATE person SET first = %s, last = %s, title = %s, department = %s, changed = %s WHERE id = %s",
                    values,
                )
                self.events["changed"] += 1
            for key in keys[changed:]:
                self.former[key] = self.people.pop(key)
                connection.execute("DELETE FROM person WHERE id = %s", (key,))
                self.events["left"] += 1

    def _some(self, share: float) -> int:
        """How many of them in this quarter: the share of a day, a fraction by chance."""
        mean = len(self.people) * share / QUARTERS
        return int(mean) + (self._chance.random() < mean % 1)

    def _other(self, one: Person) -> Person:
        first, last, title, department = one
        what = self._chance.random()
        if what < 0.6:
            title = f"Title {self._chance.randrange(100, 999)}"
        elif what < 0.9:
            last = f"Name{self._chance.randrange(100_000)}"
        else:
            department = f"Department {self._chance.randrange(DEPARTMENTS)}"
        return first, last, title, department

    # -- what must be there --------------------------------------------------------

    def differences(self, place: str, held: dict[str, dict[str, Any]]) -> Iterator[str]:
        """Where a target does not hold what the rules say of the people as HR has them now."""
        for key in sorted(set(self.people) | set(self.former) | set(held)):
            wanted, here = getattr(self, f"_{place}")(key, held.get(key)), held.get(key)
            if wanted != here:
                yield f"{place}, {key}: {here} instead of {wanted}"

    def _directory(self, key: str, _held: object) -> dict[str, Any] | None:
        one = self.people.get(key) or self.former.get(key)
        if one is None:
            return None
        first, last, title, department = one
        entry = {"cn": f"{first} {last}", "sn": last, "title": title, "departmentNumber": department}
        return entry | ({"employeeType": "left"} if key in self.former else {})

    def _badges(self, key: str, _held: object) -> dict[str, Any] | None:
        one = self.people.get(key)
        return None if one is None else {"full_name": f"{one[0]} {one[1]}", "title": one[2]}

    def _crm(self, key: str, held: dict[str, Any] | None) -> dict[str, Any] | None:
        """Who sells has an active account; who did once keeps a disabled one, with its last values."""
        one = self.people.get(key)
        if one is None or one[3] != SALES:
            return None if held is None else held | {"active": False}
        return {"family": one[1], "title": one[2], "active": True}


def badges(outside: PostgresDatabase) -> dict[str, dict[str, Any]]:
    with outside.connect() as connection:
        rows = connection.execute("SELECT person_no, full_name, title FROM badge").fetchall()
    return {key: {"full_name": name, "title": title} for key, name, title in rows}


def entries(found: Sequence[dict[str, list[str]]]) -> dict[str, dict[str, Any]]:
    """Directory entries by person; nobody has two."""
    held: dict[str, dict[str, Any]] = {}
    for one in found:
        (key,) = one.pop("employeeNumber")
        if key in held:
            raise RuntimeError(f"two entries of {key}")
        held[key] = {name: values[0] for name, values in one.items()}
    return held
