"""The lines about many people: from a file, through ten flow rules, up to the planned rows of one target.

Each pass runs in a process of its own (`identitymesh.benchmark`). ``BENCH_SCALE`` makes the crowds smaller while
somebody works on one of the lines; the figures that count are those of 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from tests.servers.postgresql import PostgresServer

from bench.lines import folder
from identitymesh.benchmark.bare import insert_again
from identitymesh.benchmark.company import company_of_files, take_exports_as_done, write_people
from identitymesh.cli.measuring import Line, Pass, carry_out

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
MANY = round(200_000 * SCALE)
FEW = round(100_000 * SCALE)
CROWD = round(1_000_000 * SCALE)
RESIDENT = 400  # MB


def run(place: Path, name: str) -> Pass:
    """One pass of :mod:`identitymesh.benchmark` over an installation."""
    command = [sys.executable, "-m", "identitymesh.benchmark", str(place), name]
    return Pass(**carry_out(command, dict(os.environ)))


def two_hundred_thousand_people() -> list[Line]:
    """First full sync on SQLite and on PostgreSQL, and a change of rules after it."""
    with folder() as place:
        company_of_files(place, MANY)
        first = run(place, "first")
        bare = insert_again(place / "identitymesh.db", place)
        rules = run(place, "rules")
    with folder() as place, postgresql(place) as url:
        company_of_files(place, MANY, database_url=url)
        postgres = run(place, "first")
    rate = MANY / first.seconds
    sqlite = f"SQLite {rate:,.0f} people/s"
    return [
        Line(
            "first full sync up to planned rows / bare inserts of the same rows",
            bare / first.seconds,
            f"{sqlite}, bare inserts {MANY / bare:,.0f} people/s, {MANY:,} people from CSV, {first.resident:.0f} MB",
            least=0.5,
        ),
        Line(
            "first full sync on PostgreSQL / on SQLite",
            first.seconds / postgres.seconds,
            f"{MANY / postgres.seconds:,.0f} people/s, {sqlite}, {MANY:,} people",
            least=0.6,
        ),
        Line(
            "rule change that touches everybody, no import / their first full sync",
            rules.seconds / first.seconds,
            f"{rules.seconds:.1f} s, first {first.seconds:.1f} s, {MANY:,} people, SQLite",
            most=0.6,
        ),
    ]


def fastest(passes: Iterable[Pass]) -> Pass:
    return min(passes, key=lambda one: one.seconds)


def before_and_after(place: Path, changed: int, more: int) -> tuple[Pass, Pass]:
    """A pass over the same file once more, and one over a file in which so many ``more`` have changed.

    Both files have just been written: such a one reads slower than one that was read before, whatever is in it.
    """
    write_people(place, CROWD, changed)
    same = run(place, "unchanged")
    write_people(place, CROWD, changed + more)
    return same, run(place, "unchanged")


def a_tenth_of_them() -> Pass:
    with folder() as place:
        company_of_files(place, FEW)
        return run(place, "first")


def a_million_people() -> list[Line]:
    """Growth from a tenth of them, a pass that finds nothing changed, and one that finds a thousandth changed.

    The tenth is measured on both sides of the crowd: what else the machine has to do changes within two minutes.
    """
    before = a_tenth_of_them()
    with folder() as place:
        company_of_files(place, CROWD)
        crowd = run(place, "first")
        after = a_tenth_of_them()
        take_exports_as_done(place)
        reads, unchanged = zip(*[(run(place, "read"), run(place, "unchanged")) for _ in range(2)], strict=True)
        least, same = fastest(reads).seconds, fastest(unchanged)
        moved = CROWD // 1000
        written, some = zip(*[before_and_after(place, moved * turn, moved) for turn in range(2)], strict=True)
    quiet, busy = fastest(written).seconds, fastest(some).seconds
    few = fmean((before.seconds, after.seconds))
    return [
        Line(
            "growth of time / growth of people, first full sync",
            (crowd.seconds / few) / (CROWD / FEW),
            f"{FEW:,}: {few:.1f} s, {CROWD:,}: {crowd.seconds:.1f} s, {crowd.resident:.0f} MB",
            most=1.15,
        ),
        Line(
            "no-change pass / reading both sides",
            same.seconds / least,
            f"{same.seconds:.1f} s, only reading the file and the stored hashes {least:.1f} s, {CROWD:,} people",
            most=3,
        ),
        Line(
            "no-change pass, resident memory in MB",
            same.resident,
            f"{same.resident:.0f} MB, only reading both sides {max(one.resident for one in reads):.0f} MB",
            most=RESIDENT,
        ),
        Line(
            "0.1 % changed / no-change pass",
            busy / quiet,
            f"{busy:.1f} s, nothing changed {quiet:.1f} s, both read as just written; {moved:,} of {CROWD:,} people",
            most=1.2,
        ),
    ]


@contextmanager
def postgresql(place: Path) -> Iterator[str]:
    """The URL of a fresh database with fsync on; the password is where the settings look for it."""
    server = PostgresServer.start(durable=True)
    name = "IDENTITYMESH_DATABASE__PASSWORD_FILE"
    try:
        database = server.create()
        password = place / "password"
        password.write_text(database.password)
        password.chmod(0o400)
        os.environ[name] = str(password)
        yield database.url
    finally:
        os.environ.pop(name, None)
        server.stop()
