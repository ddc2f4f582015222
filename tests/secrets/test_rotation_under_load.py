"""Four processes store and open secrets while their keys are rotated, on PostgreSQL: nothing fails, nothing is lost."""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from identitymesh.redaction import Secret
from identitymesh.secrets.custody.rotation import RotationReport, rotate
from identitymesh.secrets.custody.station import Station
from identitymesh.secrets.openings import OpenRequest
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from tests.house_rules.repository import ROOT
from tests.secrets.conftest import ACTOR, make_installation
from tests.servers.postgresql import PostgresDatabase

WORKERS = 4
SECRETS = 400
ROTATIONS = 3


def work(url: str, password: str, host: str, number: int, stop: str) -> dict[str, Any]:
    """Store and open in turn, until told to stop; answers what was stored last, and how long openings took."""
    with closing(open_database(url, password=Secret(password))) as database:
        return _work(SecretStore(SqlSecretRows(database), Path(host)), number, Path(stop))


def _work(store: SecretStore, number: int, stop: Path) -> dict[str, Any]:
    last: dict[str, str] = {}
    times: list[float] = []
    count = 0
    while not stop.exists():
        ref = f"secret://w{number}/{count % 10}"
        last[ref] = f"value {number} {count}"
        store.put(parse(ref), Secret(last[ref]), actor=ACTOR)
        began = time.perf_counter()
        request = OpenRequest(parse(f"secret://s/{(count * 7 + number) % SECRETS}"), "hr", ("db.example:5432",))
        assert store.open(request, actor=ACTOR) == Secret("shared")
        times.append(time.perf_counter() - began)
        assert store.reveal(parse(ref), actor=ACTOR) == Secret(last[ref])
        count += 1
        Path(f"{stop}.{number}").touch()  # at work
    return {"last": last, "count": count, "median": statistics.median(times)}


def _wait_for(files: list[Path], workers: list["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert all(worker.poll() is None for worker in workers), "a process ended early"
        assert time.monotonic() < deadline, "the processes did not come to work"
        time.sleep(0.05)


def test_nothing_fails_and_nothing_is_lost_while_keys_are_rotated(
    postgres_url: PostgresDatabase, tmp_path: Path
) -> None:
    with closing(open_database(postgres_url.url, password=Secret(postgres_url.password))) as database:
        _rotate_under_load(database, postgres_url, tmp_path)


def _rotate_under_load(database: Database, postgres_url: PostgresDatabase, tmp_path: Path) -> None:
    mesh = make_installation(database, tmp_path / "host")
    for number in range(SECRETS):
        mesh.allow(mesh.put(f"secret://s/{number}", "shared"))
    stop = tmp_path / "stop"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    arguments = [postgres_url.url, postgres_url.password, str(mesh.host)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.secrets.test_rotation_under_load", *arguments, str(number), str(stop)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WORKERS)
    ]
    station = Station(SqlCustodyRows(database), mesh.host, ACTOR, "here")
    reports: list[RotationReport] = []
    try:
        _wait_for([Path(f"{stop}.{number}") for number in range(WORKERS)], workers)
        reports += [rotate(station, "connectors", batch=100) for _ in range(ROTATIONS)]
    finally:
        stop.touch()
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "an operation failed"
    results = [json.loads(output) for output in outputs]
    assert sum(result["count"] for result in results) > WORKERS
    for result in results:
        for ref, value in result["last"].items():
            assert mesh.store.reveal(parse(ref), actor=ACTOR) == Secret(value), "a write was lost"
    assert all(result.ok for result in mesh.store.verify(actor=ACTOR))
    primary = station.open("connectors").data_keys[-1].id
    assert {row[0] for row in mesh.sql("SELECT DISTINCT key_id FROM secret")} == {primary}
    stored, seconds = sum(result["count"] for result in results), sum(report.seconds for report in reports)
    sys.stderr.write(
        f"{WORKERS} processes: {stored} stored and opened twice; {ROTATIONS} rotations in {seconds:.1f} s\n"
    )


if __name__ == "__main__":
    _program, given_url, given_password, given_host, given_number, given_stop = sys.argv
    answer = work(given_url, given_password, given_host, int(given_number), given_stop)
    print(json.dumps(answer))  # noqa: T201 - the answer to the test
