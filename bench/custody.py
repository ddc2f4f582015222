"""What custody of secrets must reach: moving, recovering, rotating under load. Programs are run as a person does."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.house_rules.repository import ROOT

from bench.installations import make, postgres, ref_of, request_for, value_of
from bench.lines import folder, seconds
from identitymesh.cli.measuring import Line
from identitymesh.redaction import Secret
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import open_database
from identitymesh.storage.secrets import SqlSecretRows

PROGRAM = Path(sys.executable).with_name("identitymesh")
MOVED = 10_000
MANY = 100_000
WORKERS = 4
USUAL_SECONDS = 20.0


def call(home: Path, *arguments: str, typed: Secret | None = None, more: Mapping[str, str] | None = None) -> str:
    """Run the program; answers its standard output."""
    done = subprocess.run(
        [PROGRAM, "--home", home, *arguments],
        input=typed.reveal_text() + "\n" if typed is not None else "",
        env={**os.environ, **(more or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr}")
    return done.stdout


def join_a_new_host() -> Line:
    with folder() as place, postgres(place) as (url, password, variables), patch.dict(os.environ, variables):
        recovery = make(place / "old", MOVED, url, password)
        new = place / "new"
        new.mkdir()
        (new / "identitymesh.toml").write_text((place / "old" / "identitymesh.toml").read_text())
        spent = seconds(lambda: call(new, "keys", "join", typed=recovery))
        ref = ref_of(MOVED // 2)
        if call(new, "secrets", "get", ref, "--force") != value_of(MOVED // 2).reveal_text():
            raise RuntimeError("the new host opens another value")
    figures = f"{spent:.1f} s, {MOVED:,} secrets opened once, 1 command, 0 values typed, PostgreSQL"
    return Line("seconds to join a new host with 10,000 secrets", spent, figures, most=10)


def restore_on_a_new_host() -> Line:
    with folder() as place:
        recovery = make(place / "old", MOVED)
        archive = str(place / "backup")
        call(place / "old", "backup", "create", "--to", archive)
        new = place / "new"
        new.mkdir()
        spent = seconds(lambda: call(new, "backup", "restore", archive, typed=recovery))
        ref = ref_of(MOVED // 2)
        if call(new, "secrets", "get", ref, "--force") != value_of(MOVED // 2).reveal_text():
            raise RuntimeError("the new host opens another value")
    figures = f"{spent:.1f} s, {MOVED:,} secrets, 1 command, 0 values typed, SQLite"
    return Line("seconds to restore a backup of 10,000 secrets on a new host", spent, figures, most=10)


def drill() -> Line:
    with folder() as place:
        recovery = make(place / "here", MANY)
        archive = str(place / "backup")
        backup = seconds(lambda: call(place / "here", "backup", "create", "--to", archive))
        began = time.perf_counter()
        told = json.loads(call(place / "here", "drill", "--json", typed=recovery))
        spent = time.perf_counter() - began
        if told["secrets"] != MANY or told["problems"]:
            raise RuntimeError(f"the drill opened {told['secrets']} secrets: {told['problems'][:3]}")
    figures = f"{spent:.0f} s, {MANY:,} secrets opened; the backup itself {backup:.0f} s"
    return Line("seconds to drill with 100,000 secrets", spent, figures, most=300)


@dataclass(frozen=True, slots=True)
class Worked:
    """What the processes say: openings as (moment, duration), what each stored last, and failures in words."""

    opened: list[tuple[float, float]]
    last: dict[str, str]
    stored: int
    failed: list[str]


def start_workers(url: str, password: str, host: Path, stop: Path) -> list[subprocess.Popen[str]]:
    order = {"url": url, "password": password, "host": str(host), "stop": str(stop), "secrets": MANY}
    workers = []
    for number in range(WORKERS):
        worker = subprocess.Popen(
            [sys.executable, "-m", "bench.at_work"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if worker.stdin is None:
            raise RuntimeError("no standard input")
        worker.stdin.write(json.dumps(order | {"number": number}))
        worker.stdin.close()
        worker.stdin = None
        workers.append(worker)
    return workers


def ended(workers: list[subprocess.Popen[str]]) -> Worked:
    found = Worked([], {}, 0, [])
    stored = 0
    for worker in workers:
        told = json.loads(worker.communicate(timeout=120)[0])
        found.opened.extend((moment, spent) for moment, spent in told["opened"])
        found.last.update(told["last"])
        found.failed.extend(told["failed"])
        stored += told["stored"]
    return Worked(found.opened, found.last, stored, found.failed)


def rotate_under_load() -> list[Line]:
    with folder() as place, postgres(place) as (url, password, variables), patch.dict(os.environ, variables):
        home = place / "here"
        make(home, MANY, url, password)
        stop = place / "stop"
        workers = start_workers(url, password, home / "host", stop)
        try:
            time.sleep(5 + USUAL_SECONDS)
            began = time.time()
            call(home, "keys", "rotate", "connectors")
            until = time.time()
        finally:
            stop.touch()
        worked = ended(workers)
        database = open_database(url, password=Secret(password))
        store = SecretStore(SqlSecretRows(database), home / "host")
        lost = [ref for ref, text in worked.last.items() if store.open(request_for(ref), actor="b") != Secret(text)]
        lost += [problem for one in store.verify(actor="bench") for problem in one.problems]
        database.close()
    usual = [spent for moment, spent in worked.opened if began - USUAL_SECONDS < moment < began]
    during = [spent for moment, spent in worked.opened if began < moment < until]
    medians = [statistics.median(times) * 1000 for times in (usual, during)]
    figures = f"{until - began:.0f} s for {MANY:,} secrets, {WORKERS} processes, PostgreSQL"
    slower = f"{medians[1]:.1f} ms, usually {medians[0]:.1f} ms; {len(during):,} and {len(usual):,} openings; {figures}"
    whole = f"{worked.stored:,} stored, {len(worked.opened):,} opened; {figures}"
    return [
        Line("failed operations and lost writes while data keys rotate", len(worked.failed) + len(lost), whole, most=0),
        Line("median opening while data keys rotate / usually", medians[1] / medians[0], slower, most=2),
    ]
