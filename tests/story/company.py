"""The company of the example definition: HR, a file of contractors, a directory, a CRM and badges, all of them real.

Everything that it asserts about a server it asks there, with other clients than the product's.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from identitymesh.composition import initialise, open_installation
from identitymesh.installation import Installation
from identitymesh.redaction import Secret
from identitymesh.runs.reports import RunReport, TargetReport
from identitymesh.secrets.references import parse
from tests.house_rules.repository import ROOT
from tests.servers.postgresql import PostgresDatabase
from tests.servers.scim import ScimServer
from tests.servers.slapd import SlapdServer

PEOPLE = "ou=people,dc=example,dc=org"
TODAY = datetime.now(UTC).date()


def silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


@dataclass
class Company:
    folder: Path
    hr_database: PostgresDatabase
    directory: SlapdServer
    crm: ScimServer
    day: int = 0
    contractors: dict[str, tuple[str, str]] = field(default_factory=dict)
    text: str = ""

    def prepare(self) -> None:
        """Servers as they are before the product comes."""
        self.hr(
            "CREATE TABLE employees (employee_id text PRIMARY KEY, first_name text, last_name text, department text, "
            "status text, end_date date, updated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        with self.badges_database() as badges:
            badges.execute("CREATE TABLE badge_holder (person_no TEXT PRIMARY KEY, full_name TEXT NOT NULL)")
        shutil.copy(self.directory.authority.file, self.folder / "ca.pem")
        self.text = (ROOT / "examples/mesh.yaml").read_text()
        for ours, theirs in (
            ("postgresql+psycopg://hr_reader@db.example.org/hr", self.hr_database.url),
            ("ldaps://ldap.example.org", self.directory.tls_url),
            ("https://crm.example.org/scim/v2", self.crm.base_url),
        ):
            assert self.text.count(ours) == 1
            self.text = self.text.replace(ours, theirs)
        initialise(self.folder, None, lambda _: None)
        with self.opened() as installation:
            for ref, value in (
                ("secret://hr/reader", self.hr_database.password),
                ("secret://ldap/bind", self.directory.password),
                ("secret://crm/scim-token", self.crm.token),
            ):
                installation.secrets.put(parse(ref), Secret(value), actor="tester")

    # -- what happens there --------------------------------------------------------

    def hr(self, statement: str, *values: Any) -> None:
        with self.hr_database.connect() as connection:
            connection.execute(statement, values)

    def hire(self, number: str, first: str, last: str, department: str = "IT") -> None:
        self.hr(
            "INSERT INTO employees VALUES (%s, %s, %s, %s, 'active', NULL, clock_timestamp())",
            *(number, first, last, department),
        )

    def change(self, number: str, **values: Any) -> None:
        for name, value in values.items():
            self.hr(
                f"UPDATE employees SET {name} = %s, updated_at = clock_timestamp() WHERE employee_id = %s",
                *(value, number),
            )

    def write_contractors(self) -> None:
        lines = ["id,forename,surname", *(f"{one},{first},{last}" for one, (first, last) in self.contractors.items())]
        (self.folder / "contractors.csv").write_text("\n".join(lines) + "\n")

    # -- the product ----------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[Installation]:
        with open_installation(self.folder, actor="tester", clock=self.clock) as installation:
            yield installation

    def clock(self) -> datetime:
        """Noon of the day of the story."""
        return datetime.combine(self.date(), datetime.min.time(), UTC) + timedelta(hours=12)

    def date(self, days: int = 0) -> date:
        return TODAY + timedelta(days=self.day + days)

    def apply(self, *, release: bool = False) -> Any:
        with self.opened() as installation:
            return installation.engine.apply(
                self.text, source="mesh.yaml", base=None, replace=False, release=release, allow_audience=()
            )

    def run(self, *, delta: bool = False, connectors: tuple[str, ...] = ()) -> RunReport:
        with self.opened() as installation:
            return installation.engine.run(delta=delta, connectors=connectors, progress=silent)

    def approve(self, run: RunReport) -> RunReport:
        """A person looks at what was held, and lets it go."""
        with self.opened() as installation:
            installation.engine.approve(run.run_id, connectors=())
        return self.run()

    # -- what the servers have -------------------------------------------------------

    def people(self) -> dict[str, dict[str, list[str]]]:
        """Entries of the directory by uid, as `ldapsearch` finds them."""
        names = ("uid", "employeeNumber", "cn", "sn", "givenName", "mail", "departmentNumber", "employeeType")
        found = self.directory.entries(PEOPLE, "(objectClass=inetOrgPerson)", *names)
        return {entry["uid"][0]: entry for entry in found.values()}

    def users(self) -> dict[str, dict[str, Any]]:
        """Users of the CRM by externalId, over plain HTTP."""
        url = f"{self.crm.base_url}/Users?count=500"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.crm.token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  loopback
            return {one["externalId"]: one for one in json.load(answer)["Resources"]}

    @contextmanager
    def badges_database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.folder / "badges.db")) as connection, connection:
            yield connection

    def badges(self) -> dict[str, str]:
        with self.badges_database() as connection:
            return dict(connection.execute("SELECT person_no, full_name FROM badge_holder"))

    def password(self, number: str) -> str:
        with self.opened() as installation:
            ref = parse(f"secret://initial/directory/{number}")
            return installation.secrets.reveal(ref, actor="helpdesk").reveal_text()


def target(report: RunReport, name: str) -> TargetReport:
    return next(one for one in report.targets if one.connector == name)


def codes(report: RunReport) -> list[tuple[str, str, str]]:
    return sorted((one.connector, one.subject, one.code) for one in report.issues)
