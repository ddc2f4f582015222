"""Encrypted columns: a million rows of PostgreSQL, encrypted and verified beside a writer, as one program does it.

The least that could do it is one UPDATE of the same rows that puts constant bytes of the same lengths there, beside the
same writer, on a copy of the same table, in the same run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.memory import resident
from tests.servers.postgresql import PostgresDatabase, PostgresServer

from bench.lines import folder, seconds
from identitymesh.cli.measuring import Line
from identitymesh.columns.keys import create_key

ROWS = 1_000_000
LENGTHS = {"compatible": (48, 12), "sealed": (172, None)}  # bytes of the value and of the nonce, for 32 characters
LEAST = {"compatible": 0.4, "sealed": 0.15}
MEGABYTES = 200


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the program: how it ended, how long it took, and what its processes had resident at most (MB).

    Pages that they share count for each of them.
    """

    code: int
    seconds: float
    megabytes: float


def fill(database: PostgresDatabase) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE users (id bigint PRIMARY KEY, name text, totp_secret text)")
        connection.execute(
            "INSERT INTO users SELECT n, 'user ' || n, upper(md5(n::text)) FROM generate_series(1, %s) n", (ROWS,)
        )
        connection.execute("VACUUM ANALYZE users")


@contextmanager
def writing(database: PostgresDatabase) -> Iterator[None]:
    """An application that changes a secret fifty times a second."""
    stop = threading.Event()

    def write() -> None:
        chance = random.Random(1)  # noqa: S311 - which rows change is no secret
        with database.connect() as connection:
            while not stop.wait(0.02):
                row = (f"CHANGED{chance.randrange(10**9)}", chance.randint(1, ROWS))
                connection.execute("UPDATE users SET totp_secret = %s WHERE id = %s", row)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def start(plan: Path, *arguments: str, kill_after: float | None = None) -> Run:
    program = Path(sys.executable).with_name("identitymesh")
    begun = time.perf_counter()
    process = subprocess.Popen(
        [program, "columns", "encrypt", "--plan", plan, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    most = 0.0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, family(process.pid))
        if kill_after is not None and time.perf_counter() - begun > kill_after:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    most = max(most, usage.ru_maxrss / 1024)
    return Run(os.waitstatus_to_exitcode(status), time.perf_counter() - begun, most)


def family(pid: int) -> float:
    """MB of a process and of its children, now."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return resident(pid) + sum(family(int(child)) for child in children)
    except OSError:
        return 0.0


def plan_for(place: Path, database: PostgresDatabase, form: str) -> Path:
    for name in ("app.key", "password"):
        (place / name).unlink(missing_ok=True)
    create_key(place / "app.key")
    (place / "password").touch(0o600)
    (place / "password").write_text(database.password)
    plan = place / "plan.yaml"
    plan.write_text(
        f"version: 1\ndatabase: {database.url}\npassword_file: {place}/password\nkey: {place}/app.key\n"
        f"format: {form}\nplaces: [{{column: users.totp_secret}}]\n"
    )
    return plan


@contextmanager
def copy(server: PostgresServer, template: str) -> Iterator[PostgresDatabase]:
    database = server.create(template=template)
    try:
        with database.connect() as connection:
            connection.execute("CHECKPOINT")
        yield database
    finally:
        server.drop(database)


def bare_update(database: PostgresDatabase, form: str) -> float:
    value, nonce = LENGTHS[form]
    with database.connect() as connection:
        connection.execute("ALTER TABLE users ADD totp_secret_encrypted bytea, ADD totp_secret_nonce bytea")
        setting = f"decode(repeat('ab', {value}), 'hex')"
        other = "NULL" if nonce is None else f"decode(repeat('ab', {nonce}), 'hex')"
        statement = f"UPDATE users SET totp_secret_encrypted = {setting}, totp_secret_nonce = {other}"  # noqa: S608
        with writing(database):
            return seconds(lambda: connection.execute(statement.encode()))


def left_over(database: PostgresDatabase) -> int:
    """Rows that a last run, with the writer gone, has not encrypted."""
    with database.connect() as connection:
        found = connection.execute("SELECT count(*) FROM users WHERE totp_secret_encrypted IS NOT NULL").fetchone()
    return ROWS - (found[0] if found else 0)


def lines_of(server: PostgresServer, template: str, form: str) -> list[Line]:
    with copy(server, template) as database:
        bare = bare_update(database, form)
    with folder() as place, copy(server, template) as database:
        plan = plan_for(place, database, form)
        with writing(database):
            run = start(plan)
        if run.code or start(plan, "--drop-plaintext").code or left_over(database):
            raise RuntimeError(f"{form}: not every row was encrypted")
    figures = (
        f"{run.seconds:.1f} s, bare {bare:.1f} s; {ROWS:,} rows, PostgreSQL, start of the program and columns included"
    )
    return [
        Line(f"columns encrypt and verify, {form} / bare UPDATE", bare / run.seconds, figures, least=LEAST[form]),
        Line(f"columns encrypt, {form}: MB resident", run.megabytes, f"at most, {ROWS:,} rows", most=MEGABYTES),
    ]


def killed(server: PostgresServer, template: str) -> Line:
    chance = random.Random(2)  # noqa: S311 - when it is killed is no secret
    with folder() as place, copy(server, template) as database:
        plan = plan_for(place, database, "compatible")
        with writing(database):
            moments = [chance.uniform(2, 12) for _ in range(3)]
            ended = [start(plan, kill_after=moment).code for moment in moments]
        last = start(plan)
        left = left_over(database)
    if last.code:
        raise RuntimeError("the run after the kills did not end")
    how = ", ".join(f"{moment:.1f} s" for moment, code in zip(moments, ended, strict=True) if code)
    return Line("rows left after kill -9 and another start", left, f"{ROWS:,} rows, killed after {how}", most=0)


@contextmanager
def filled() -> Iterator[tuple[PostgresServer, str]]:
    """A server of its own that keeps what it commits, and the name of the table's template."""
    server = PostgresServer.start(durable=True)
    try:
        yield server, server.template("users", fill)
    finally:
        server.stop()


def columns_compatible() -> list[Line]:
    with filled() as (server, template):
        return lines_of(server, template, "compatible")


def columns_sealed() -> list[Line]:
    with filled() as (server, template):
        return lines_of(server, template, "sealed")


def columns_killed() -> Line:
    with filled() as (server, template):
        return killed(server, template)
