"""Two simulated weeks of scheduled runs with steady changes: ``python -m bench.weeks`` (`make soak-weeks`).

One process makes all runs, through the real scheduler, under a clock that is put forward a quarter of an hour at a
time; a service would have a new process for each run, so what stays in memory here is the worst there is. HR is a table
of PostgreSQL; targets are slapd, scim2-server (who works in Sales) and a table of badges. At the end everything is
compared: HR, the mesh, the known images, and what the servers hold. Exits 1 when memory grows, anything differs, a run
did not end well, or a table grows that only holds what is.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from tests.chaos import clock
from tests.memory import resident
from tests.servers.authority import Authority
from tests.servers.postgresql import PostgresDatabase, PostgresServer
from tests.servers.scim import ScimServer
from tests.servers.slapd import SlapdServer

from bench.workforce import BASE, Workforce, badges, definition, entries
from identitymesh.composition import initialise, open_installation
from identitymesh.installation import Installation
from identitymesh.redaction import Secret
from identitymesh.runs.scheduler import Scheduler
from identitymesh.runs.schedules import Due, Outcome
from identitymesh.secrets.references import parse
from identitymesh.serving import Planned, carry_out
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.tables import every_table

STEP = timedelta(minutes=15)
BEGIN = datetime(2026, 3, 1, 1, 45, tzinfo=UTC)  # the first night, with its complete imports, lies in the first hours
SETTLED = timedelta(hours=2)  # that much later everything was done once: memory and tables are compared with then
NIGHT = timedelta(hours=1, minutes=30)
GROWTH = 1.05
# Tables that grow with what happens; all others hold what is, and grow with the number of people alone.
HISTORY = ("audit", "run", "run_issue", "plan", "plan_target", "plan_row", "released")


@dataclass(slots=True)
class Here:
    """An ``Executor`` that carries out what is due at once, in this process."""

    installation: Installation
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    runs: int = 0
    bad: list[str] = field(default_factory=list)

    def room(self) -> bool:
        return True

    def start(self, due: Due) -> None:
        outcome = carry_out(lambda: nullcontext(self.installation), due.connector, due.mode, due.name)
        self.outcomes[due.name] = outcome
        self.runs += 1
        if outcome.state != "done":
            self.bad.append(f"{due.name}: {outcome.state} {outcome.code} {outcome.error}")

    def ended(self) -> Mapping[str, Outcome]:
        told = dict(self.outcomes)
        self.outcomes.clear()
        return told

    def stop(self, patience: float) -> Mapping[str, Outcome]:
        del patience
        return self.ended()


@dataclass(frozen=True, slots=True)
class Servers:
    postgres: PostgresServer
    slapd: SlapdServer
    crm: ScimServer
    outside: PostgresDatabase

    @classmethod
    @contextmanager
    def running(cls, place: Path) -> Iterator[Servers]:
        with ExitStack() as stack:
            postgres = PostgresServer.start()
            stack.callback(postgres.stop)
            (place / "authority").mkdir()
            slapd = SlapdServer.start(Authority.create(place / "authority"))
            stack.callback(slapd.stop)
            crm = ScimServer.start()
            stack.callback(crm.stop)
            yield cls(postgres, slapd, crm, postgres.create())

    def users(self) -> dict[str, dict[str, Any]]:
        """Of the SCIM service, by person, over plain HTTP."""
        found: dict[str, dict[str, Any]] = {}
        start, total = 1, 1
        while start <= total:
            url = f"{self.crm.base_url}/Users?startIndex={start}&count=200"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.crm.token}"})  # noqa: S310
            with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
                page = json.load(answer)
            total = page["totalResults"]
            for one in page.get("Resources", []):
                if one["externalId"] in found:
                    raise RuntimeError(f"two users of {one['externalId']}")
                values = {"family": one["name"]["familyName"], "title": one["title"], "active": one["active"]}
                found[one["externalId"]] = values
                start += 1
        return found

    def contents(self) -> dict[str, dict[str, dict[str, Any]]]:
        names = ("employeeNumber", "cn", "sn", "title", "departmentNumber", "employeeType")
        found = self.slapd.entries(BASE, "(objectClass=inetOrgPerson)", *names)
        return {"directory": entries(list(found.values())), "crm": self.users(), "badges": badges(self.outside)}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes, with indexes, and rows of each table of the product."""

    bytes: Mapping[str, int]
    rows: Mapping[str, int]

    @classmethod
    def of(cls, database: Database) -> Sizes:
        names = sorted(every_table().tables)
        with database.read() as connection:
            if database.dialect == "sqlite":  # its pages would stay in memory, for growth that is not the product's
                connection.execute(text("PRAGMA cache_size = -1024"))
            rows = {name: int(connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0) for name in names}  # noqa: S608
            if database.dialect == "postgresql":
                query = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
            else:
                query = "SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema m USING (name) GROUP BY 1"
            sizes = {name: int(size) for name, size in connection.execute(text(query)) if name in rows}
        return cls(sizes, rows)


@dataclass(slots=True)
class Found:
    """What the soak found. Memory in MB."""

    people: int
    days: float
    runs: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    settled: float = 0.0
    most: float = 0.0
    last: float = 0.0
    growth: dict[str, tuple[int, int]] = field(default_factory=dict)  # by table: rows and bytes more than when settled
    problems: list[str] = field(default_factory=list)
    first_seconds: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0


class Weeks:
    def __init__(self, servers: Servers, people: int, installation: Installation, database: Database) -> None:
        self.servers = servers
        self.workforce = Workforce(servers.outside, people, BEGIN)
        self.installation = installation
        self.database = database
        self.here = Here(installation)
        parts = installation.running
        self.scheduler = Scheduler(
            parts.schedules, parts.leases, self.here, Planned(parts.definitions), clock=clock.now, stagger=timedelta()
        )
        self.found = Found(people, 0.0)

    def first(self) -> None:
        """Everybody is new: one run, released by naming its plan where a limit asks for that."""
        begun = time.perf_counter()
        report = self.installation.engine.run(delta=False, connectors=(), progress=_shown)
        if report.state != "done":
            raise RuntimeError(f"the first run: {report.state} {report.error} {report.issues[:3]}")
        self.found.first_seconds = time.perf_counter() - begun

    def go(self, days: float, minutes: float) -> Found:
        moment, quiet = BEGIN, BEGIN + timedelta(days=days)
        before = Sizes({}, {})
        begun, cpu = time.perf_counter(), time.process_time()
        while moment < _morning_after(quiet):
            moment += STEP
            clock.stand(moment)
            if moment < quiet and time.perf_counter() - begun > minutes * 60:
                quiet = moment
            if moment < quiet:
                self.workforce.quarter(moment)
            self._tick()
            if moment == BEGIN + SETTLED:
                self.found.settled = resident()
                before = Sizes.of(self.database)
            if moment > BEGIN + SETTLED:
                self.found.most = max(self.found.most, resident())
            if moment.hour == 0 and moment.minute == 0:
                _shown("day", f"{moment:%Y-%m-%d}, {self.here.runs} runs, {resident():.0f} MB", 0, None)
        self.found.seconds, self.found.cpu = time.perf_counter() - begun, time.process_time() - cpu
        self.found.last, self.found.days = resident(), (quiet - BEGIN) / timedelta(days=1)
        self.found.runs, self.found.events = self.here.runs, self.workforce.events
        self._judge(before)
        return self.found

    def _tick(self) -> None:
        """Until nothing is due any more."""
        while True:
            runs = self.here.runs
            self.scheduler.tick()
            if self.here.runs == runs and not self.here.outcomes:
                return

    def _judge(self, before: Sizes) -> None:
        found = self.found
        found.problems += self.here.bad[:10]
        if found.most > found.settled * GROWTH:
            found.problems.append(f"memory grew from {found.settled:.0f} to {found.most:.0f} MB")
        now = Sizes.of(self.database)
        came = self.workforce.events["came"]
        for name in sorted(now.rows):
            more = now.rows[name] - before.rows[name], now.bytes.get(name, 0) - before.bytes.get(name, 0)
            if more != (0, 0):
                found.growth[name] = more
            if name not in HISTORY and more[0] > 4 * came + 10:
                found.problems.append(f"{name} has {more[0]} rows more, for {came} people who came")
        found.problems += self._drift()

    # -- the whole comparison --------------------------------------------------------

    def _drift(self) -> list[str]:
        held = self.servers.contents()
        told = [one for place, accounts in held.items() for one in self.workforce.differences(place, accounts)]
        told += self._mesh()
        told += [
            f"{place}: {len(known)} are known and {len(held[place])} are there" for place, known in self._known(held)
        ]
        return told[:20]

    def _mesh(self) -> Iterator[str]:
        with self.database.read() as connection:
            rows = connection.execute(text("SELECT anchor, present, document FROM identity")).all()
        stored = {row.anchor: (bool(row.present), json.loads(row.document)) for row in rows}
        for key, (first, last, title, department) in self.workforce.people.items():
            present, document = stored.pop(key, (False, {}))
            values = {name: one[0] for name, one in document.items()}
            wanted = {"employeeId": key, "givenName": first, "sn": last, "title": title, "department": department}
            if not present or values != wanted:
                yield f"mesh, {key}: {values} instead of {wanted}"
        for key, (present, _) in stored.items():
            if present or key not in self.workforce.former:
                yield f"mesh, {key}: is present, and left"

    def _known(self, held: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Known images that are not what the rules want, or of which the server has more or fewer."""
        query = "SELECT a.*, i.anchor FROM account a JOIN identity i ON i.id = a.identity_id"
        known: dict[str, dict[str, Any]] = {place: {} for place in held}
        with self.database.read() as connection:
            for row in connection.execute(text(query)):
                if row.kind is not None or row.known != row.desired:
                    self.found.problems.append(f"{row.connector}, {row.anchor}: {row.kind} is left to do")
                if row.known is not None:
                    known[row.connector][row.anchor] = json.loads(row.known)
        for place, images in known.items():
            for key, image in images.items():
                there = held[place].get(key, {})
                shared = {name: there[name] for name in image if name in there}
                if any(image[name] != value for name, value in shared.items()):
                    self.found.problems.append(f"{place}, {key}: known as {image}, and is {there}")
            if set(images) != set(held[place]):
                yield place, images


def _morning_after(quiet: datetime) -> datetime:
    """The end of the night after the last change: its complete imports show who left."""
    nights = -((BEGIN - quiet) // timedelta(days=1))
    return BEGIN + nights * timedelta(days=1) + NIGHT


def _shown(phase: str, subject: str, done: int, total: int | None) -> None:
    if phase == "day" or (done and done % 10_000 == 0):
        sys.stdout.write(f"{phase} {subject} {done or ''}\n")
        sys.stdout.flush()
    del total


def soak(place: Path, people: int, days: float, kind: str, minutes: float = math.inf) -> Found:
    """All of it, in an empty folder."""
    with Servers.running(place) as servers:
        folder = place / "installation"
        folder.mkdir()
        if kind == "postgresql":
            mesh = servers.postgres.create()
            url = mesh.url.replace("postgresql+psycopg", "postgresql")
            (folder / "identitymesh.toml").write_text(f'[database]\nurl = "{url}"\npassword_file = "password"\n')
            (folder / "password").touch(mode=0o600)
            (folder / "password").write_text(mesh.password)
            database = open_database(mesh.url, password=Secret(mesh.password))
        else:
            database = open_database(f"sqlite:///{folder / 'identitymesh.db'}")
        clock.import_all()
        clock.install()
        clock.stand(BEGIN)
        initialise(folder, None, lambda _: None)
        with open_installation(folder, actor="soak", clock=clock.now) as installation:
            for ref, value in (
                ("secret://outside/reader", servers.outside.password),
                ("secret://directory/sync", servers.slapd.password),
                ("secret://crm/token", servers.crm.token),
            ):
                installation.secrets.put(parse(ref), Secret(value), actor="soak")
            installation.engine.apply(
                definition(servers.outside, servers.slapd.url, servers.crm.base_url),
                source="soak",
                base=None,
                replace=False,
                release=False,
                allow_audience=("secret://outside/reader",),
            )
            weeks = Weeks(servers, people, installation, database)
            weeks.first()
            gc.collect()
            found = weeks.go(days, minutes)
        database.close()
        return found


def told(found: Found, kind: str) -> str:
    events = ", ".join(f"{number:,} {what}" for what, number in found.events.items())
    lines = [
        f"{found.people:,} people, {found.days:.3g} days, {kind}: {found.runs:,} runs, {events}",
        f"first run {found.first_seconds:.0f} s; the days {found.seconds:.0f} s, {found.cpu:.0f} s of processor",
        f"memory: {found.settled:.0f} MB settled, at most {found.most:.0f} MB after, {found.last:.0f} MB at the end",
    ]
    for name, (rows, size) in sorted(found.growth.items(), key=lambda one: -one[1][1]):
        lines.append(f"  {name}: {rows:+,} rows, {size / 1e6:+,.1f} MB")
    lines += [f"PROBLEM {one}" for one in found.problems]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak-weeks", description=__doc__)
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--days", type=float, default=14)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no more changes after so many of real time")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weeks-") as place:
        found = soak(Path(place), chosen.people, chosen.days, chosen.database, chosen.minutes)
    sys.stdout.write(told(found, chosen.database))
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
