"""`identitymesh serve` as processes of a test, watched through the database that they share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from identitymesh.redaction import Secret
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.tables import runs as r
from identitymesh.storage.tables import schedules as t
from tests.installation.place import Place

PATIENCE = 120.0  # seconds; the machine may be busy with other tests


@dataclass
class Services:
    """Services of one installation. Every process that was started is gone at the end."""

    place: Place
    database: Database
    going: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, folder: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """A new service, that looks after what is due already."""
        log = (self.place.folder / f"serve-{len(self.going)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-c", "from identitymesh.composition import main; main()", "serve"],
                cwd=folder or self.place.folder,
                env={**os.environ, **self.place.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.going.append(process)
        self.until(lambda: process.pid in self.living() or process.poll() is not None)
        return process

    def log(self, number: int = 0) -> str:
        return (self.place.folder / f"serve-{number}.log").read_text()

    def living(self) -> list[int]:
        """Processes of the services that have not said that they stop."""
        with self.database.read() as connection:
            return list(connection.scalars(select(t.service.c.pid).where(t.service.c.ended_at.is_(None))))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until it holds; what it answered."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if answer := condition():
                return answer
            time.sleep(0.1)
        logs = "\n".join(self.log(number) for number in range(len(self.going)))
        raise AssertionError(f"it did not happen\n{self.runs()}\n{self.schedules()}\n{logs}")

    def runs(self) -> list[tuple[int, str, str | None]]:
        """Number, state and due moment of all runs that a schedule asked for, oldest first."""
        query = select(r.run.c.id, r.run.c.state, r.run.c.due).where(r.run.c.actor.startswith("schedule@"))
        with self.database.read() as connection:
            return [(row.id, row.state, row.due) for row in connection.execute(query.order_by(r.run.c.id))]

    def states(self) -> list[str]:
        return [state for _, state, _ in self.runs()]

    def schedules(self) -> dict[tuple[str, str], Any]:
        with self.database.read() as connection:
            return {(row.connector, row.mode): row for row in connection.execute(select(t.schedule))}

    def lease(self, name: str) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(r.lease).where(r.lease.c.name == name)).one_or_none()

    def child(self) -> int:
        """The process of the run that goes on: known when its run is recorded and reads."""
        running = self.until(lambda: [run for run, state, _ in self.runs() if state == "running"])
        return int(self.until(lambda: self.lease(f"run:{running[-1]}")).pid)

    def settled(self, connector: str = "hr") -> Callable[[], bool]:
        """Whether what was asked for of a connector is done with."""

        def look() -> bool:
            row = self.schedules().get((connector, "full"))
            return row is not None and row.asked_at is None and row.last_state is not None

        return look

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(PATIENCE)


@contextmanager
def services(place: Place, url: str | None = None, password: str | None = None) -> Iterator[Services]:
    opened = open_database(
        url or f"sqlite:///{place.folder / 'identitymesh.db'}", password=Secret(password) if password else None
    )
    made = Services(place, opened)
    place.crm.spent = True  # runs are killed while it is asked
    try:
        yield made
    finally:
        if place.crm.process.child is not None and place.crm.process.child.poll() is None:
            os.kill(place.crm.pid, signal.SIGCONT)  # a stopped server does not end
        for process in made.going:
            made.kill(process)
        opened.close()


def exists(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
