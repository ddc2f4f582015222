"""One small company: an HR source, one target, an engine on a real database, and words to move them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from identitymesh.connectors.catalogue import kinds
from identitymesh.model.attributes import Attributes, Value
from identitymesh.runs.cycle import Parts
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.engine import Engine
from identitymesh.runs.reports import ApplyReport, RunReport, TargetReport
from identitymesh.secrets.initial import InitialPasswords
from identitymesh.secrets.store import SecretStore
from identitymesh.storage import schema
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.exports import SqlExports
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.mesh import SqlMesh
from identitymesh.storage.people import SqlPeople
from identitymesh.storage.plans import SqlPlans
from identitymesh.storage.reviews import SqlReviews
from identitymesh.storage.runs import SqlDefinitions, SqlRuns
from identitymesh.storage.scratch import scratch
from identitymesh.storage.secrets import SqlSecretRows
from tests.prepared import migrated_file

from .directory import Directory, memory_kind

DEFINITION = """
version: 1
connectors:
  hr: {type: memory, base: hr, objects: {user: {}}}
  crm: {type: memory, base: crm, objects: {user: {}}}
mesh:
  user:
    anchor: employeeId
    attributes:
      - {name: employeeId, type: string}
      - {name: givenName, type: string}
      - {name: sn, type: string}
      - {name: mail, type: string}
      - {name: active, type: boolean}
      - {name: department, type: string}
      - {name: phone, type: string, many: true}
rules:
  join:
    - {name: hr-by-id, connector: hr, object: user, source: id, target: employeeId, create: true}
  flow:
    - {name: hr-id, connector: hr, object: user, target: employeeId, value: "[id]", confidence: 100}
    - {name: hr-given, connector: hr, object: user, target: givenName, value: "Trim([first])", confidence: 90}
    - {name: hr-sn, connector: hr, object: user, target: sn, value: "Trim([last])", confidence: 90}
    - {name: hr-mail, connector: hr, object: user, target: mail, confidence: 60,
       value: 'ToLower(Concat([first], ".", [last], "@example.org"))'}
    - {name: hr-active, connector: hr, object: user, target: active, value: '[status] == "active"', confidence: 90}
    - {name: hr-department, connector: hr, object: user, target: department, value: "[department]", confidence: 90}
    - {name: hr-phone, connector: hr, object: user, target: phone, value: "[phone]", confidence: 90}
  project:
    - name: people-in-crm
      connector: crm
      object: user
      create: true
      correlate: externalId
      on_leave: disable
      disable: {active: "False", note: '"left"'}
      attributes:
        externalId: "[employeeId]"
        userName: "[mail]"
        givenName: "[givenName]"
        familyName: "[sn]"
        active: "[active]"
        department: "[department]"
        phone: "[phone]"
"""


def silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


class World:
    """Use in a ``with``. ``clock`` may be moved by tests."""

    def __init__(self, folder: Path, *, url: str | None = None, password: Any = None, lease: float = 15.0) -> None:
        self.folder = folder
        self.hr = Directory()
        self.crm = Directory()
        self.directories = {"hr": self.hr, "crm": self.crm}
        self.ahead = timedelta()
        if url is None and not (folder / "mesh.db").exists():
            migrated_file(folder / "mesh.db")
        self.database: Database = open_database(url or f"sqlite:///{folder / 'mesh.db'}", password=password)
        if schema.current(self.database) is None:
            schema.upgrade(self.database)
        self._lease = lease
        self.engine = self.another_engine()
        self.text = DEFINITION

    def another_engine(self) -> Engine:
        """As another process would have it: other leases, the same database."""
        database = self.database
        secrets = SecretStore(SqlSecretRows(database), self.folder / "host")
        parts = Parts(
            mesh=SqlMesh(database),
            plans=SqlPlans(database),
            exports=SqlExports(database),
            runs=SqlRuns(database),
            leases=SqlLeases(database, seconds=self._lease),
            secrets=secrets,
            passwords=InitialPasswords(SqlSecretRows(database), secrets, "tester", timedelta(days=14), self.clock),
            reviews=SqlReviews(database),
            kinds={**kinds(), "memory": memory_kind(self.directories)},
            folder=self.folder,
            actor="tester",
            clock=self.clock,
        )
        definitions = Definitions(
            SqlDefinitions(database), parts.kinds, parts.secrets.audience, actor="tester", clock=parts.clock
        )
        return Engine(parts, definitions, SqlPeople(database), lambda: scratch(database, self.folder), database.rest)

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    # -- the company -------------------------------------------------------------

    def hire(self, person: str, first: str = "Ann", last: str = "Lee", **more: Value) -> None:
        self.hr.objects[person] = {"id": person, "first": first, "last": last, "status": "active", **more}

    def hire_many(self, count: int, start: int = 0) -> None:
        for number in range(start, start + count):
            self.hire(f"p{number:04}", f"First{number}", f"Last{number}")

    def change(self, person: str, **values: Value | None) -> None:
        attributes = self.hr.objects[person]
        for name, value in values.items():
            if value is None:
                attributes.pop(name, None)
            else:
                attributes[name] = value

    def fire(self, *people: str) -> dict[str, Attributes]:
        return {person: self.hr.objects.pop(person) for person in people}

    # -- commands ----------------------------------------------------------------

    def apply(self, change: Callable[[str], str] | None = None, **options: Any) -> ApplyReport:
        """Apply the definition, with an edit of its text kept for the next time."""
        if change is not None:
            edited = change(self.text)
            assert edited != self.text, "the edit changed nothing"
            self.text = edited
        given = {"base": None, "replace": False, "release": False, "allow_audience": (), **options}
        return self.engine.apply(self.text, source="mesh.yaml", **given)

    def run(self, *, delta: bool = False, connectors: Sequence[str] = ()) -> RunReport:
        return self.engine.run(delta=delta, connectors=connectors, progress=silent)

    def plan(self, *, delta: bool = False, connectors: Sequence[str] = ()) -> RunReport:
        return self.engine.plan(delta=delta, connectors=connectors, progress=silent)

    def release(self, plan: int) -> RunReport:
        return self.engine.release(plan, progress=silent)

    def approve(self, run: int) -> None:
        self.engine.approve(run, connectors=())

    # -- what became of it -------------------------------------------------------

    def accounts(self) -> dict[Value, Attributes]:
        """Accounts of the target by person."""
        return self.crm.by("externalId")


def target(report: RunReport, name: str = "crm") -> TargetReport:
    """What a plan says of one target."""
    return next(one for one in report.targets if one.connector == name)
