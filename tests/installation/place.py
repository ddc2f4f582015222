"""One installation in a folder, worked with through the real program."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import Programs
from tests.servers.scim import ScimServer

DEFINITION = """\
version: 1
connectors:
  hr:
    type: sql
    url: {hr_url}
{hr_password}    objects:
      user: {{table: employees, key: id, watermark: changed}}
  crm:
    type: scim
    url: {crm_url}
    token: secret://crm/token
    objects: {{user: {{resource: User}}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {{name: employeeId, type: string}}
      - {{name: displayName, type: string}}
      - {{name: mail, type: string}}
      - {{name: active, type: boolean}}
rules:
  join:
    - {{name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}}
  flow:
    - {{name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}}
    - {{name: hr-name, connector: hr, object: user, target: displayName, value: "[name]", confidence: 90}}
    - {{name: hr-mail, connector: hr, object: user, target: mail, confidence: 90, value: 'Concat([id], "@x.org")'}}
    - {{name: hr-active, connector: hr, object: user, target: active, value: 'True', confidence: 90}}
  project:
    - name: people
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {{active: "False"}}
      attributes:
        userName: "[mail]"
        externalId: "[employeeId]"
        displayName: "[displayName]"
        active: "[active]"
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program said. ``json`` is its standard output, read as such."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class Place:
    """A folder with an installation, an HR database and a SCIM service."""

    def __init__(self, folder: Path, crm: ScimServer, programs: Programs) -> None:
        self.folder = folder
        self._programs = programs
        self.crm = crm
        self.hr = folder / "hr.db"
        self.environment: dict[str, str] = {}
        with self.sql() as connection:
            connection.execute("CREATE TABLE employees (id TEXT, name TEXT, changed TEXT)")

    def __call__(self, *arguments: str, given: str | bytes | None = None, program: str = "identitymesh") -> Answer:
        """Run the program in the folder."""
        content = given.encode() if isinstance(given, str) else given
        environment = {**os.environ, **self.environment}
        return Answer(*self._programs(program, *arguments, folder=self.folder, environment=environment, given=content))

    def sql(self) -> sqlite3.Connection:
        return sqlite3.connect(self.hr)

    def hire(self, *people: str, name: str = "Ann", changed: str = "2026-01-01") -> None:
        with self.sql() as connection:
            connection.executemany("INSERT INTO employees VALUES (?, ?, ?)", [(one, name, changed) for one in people])

    def execute(self, statement: str, *values: object) -> None:
        with self.sql() as connection:
            connection.execute(statement, values)

    def definition(self, *, hr_url: str = "sqlite:///hr.db", hr_password: str = "", crm_url: str | None = None) -> str:
        password = f"    password: {hr_password}\n" if hr_password else ""
        return DEFINITION.format(hr_url=hr_url, hr_password=password, crm_url=crm_url or self.crm.base_url)

    def set_up(self, **parts: Any) -> None:
        """Initialise, store the token, apply."""
        assert self("init").code == 0
        self.prepare(**parts)

    def prepare(self, **parts: Any) -> None:
        """Store the token, apply."""
        assert self("secrets", "set", "secret://crm/token", given=self.crm.token).code == 0
        self.apply(**parts)

    def apply(self, *options: str, **parts: Any) -> Answer:
        (self.folder / "mesh.yaml").write_text(self.definition(**parts))
        answer = self("apply", "mesh.yaml", *options, "--json")
        assert answer.code == 0, answer
        return answer

    def accounts(self) -> dict[str, dict[str, Any]]:
        """What the SCIM service holds, by external id; asked by a client of our own."""
        import urllib.request

        found: dict[str, dict[str, Any]] = {}
        start = 1
        while True:
            url = f"{self.crm.base_url}/Users?startIndex={start}&count=100"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.crm.token}"})  # noqa: S310
            with urllib.request.urlopen(request) as response:  # noqa: S310
                page = json.load(response)
            for one in page.get("Resources", []):
                assert one["externalId"] not in found, "a duplicate"
                found[one["externalId"]] = one
            start += max(1, len(page.get("Resources", [])))
            if start > page["totalResults"]:
                return found
