"""A real PostgreSQL: one server for a session, one fresh database for a test.

PostgreSQL refuses to run as root. Then it runs as the user `postgres`, who must be able to reach its folder: that is
why the folder is directly below the temporary directory, and not below pytest's own, which only root can enter.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg import sql

from tests.servers.process import ServerFailed, ServerProcess, free_port, need, private_folder

HOST = "127.0.0.1"
OWNER = "app"
# Speed and little space, because nothing here outlives the session. A test of crashes starts a server of its own,
# with durable=True.
CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=256MB")
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """Where a database is. The URL has no password, as a settings file must not have one either."""

    url: str
    password: str = field(repr=False)
    host: str
    port: int
    user: str
    name: str

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection past the product, to look at what it wrote."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.name,
            autocommit=autocommit,
            connect_timeout=10,
        )


@dataclass(slots=True)
class PostgresServer:
    process: ServerProcess
    folder: Path
    port: int
    password: str = field(repr=False)
    templates: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, *, durable: bool = False) -> Self:
        initdb = need("initdb", "postgresql", places=_debian_places())
        as_owner = _as_postgres_user()
        folder = private_folder("pg")
        password = secrets.token_urlsafe(18)
        try:
            _make_cluster(initdb, as_owner, folder, password)
            program = Path(initdb).with_name("postgres")
            options = () if durable else CARELESS
            return cls._start_on_a_free_port([*as_owner, str(program)], options, folder, password)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def _start_on_a_free_port(cls, command: list[str], options: Sequence[str], folder: Path, password: str) -> Self:
        for attempt in range(1, START_ATTEMPTS + 1):
            port = free_port()
            fixed = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", "shared_buffers=64MB")
            argv = [*command, "-D", str(folder / "data")]
            for option in (*fixed, *options):
                argv += ["-c", option]
            # SIGINT is PostgreSQL's "fast" stop: it closes the sessions instead of waiting for them.
            process = ServerProcess(argv, folder / "log", environment=_environment(), signal_to_stop=signal.SIGINT)
            server = cls(process, folder, port, password)
            try:
                process.start(server._answers)
            except ServerFailed as failure:  # somebody else may have taken the port since it was free
                if attempt == START_ATTEMPTS or "Address already in use" not in str(failure):
                    raise
                continue
            return server
        raise AssertionError

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, name: str = "postgres") -> PostgresDatabase:
        return PostgresDatabase(
            url=f"postgresql+psycopg://{OWNER}@{HOST}:{self.port}/{name}",
            password=self.password,
            host=HOST,
            port=self.port,
            user=OWNER,
            name=name,
        )

    def create(self, *, template: str = "template1") -> PostgresDatabase:
        name = f"test_{secrets.token_hex(6)}"
        with self.database().connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.database(name)

    def drop(self, database: PostgresDatabase) -> None:
        """Also while sessions are open in it."""
        with self.database().connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def template(self, name: str, build: Callable[[PostgresDatabase], None]) -> str:
        """The name of a database that `build` filled once in this session; `create(template=…)` copies it in 50 ms.

        `build` must have closed its connections when it returns: a database in use cannot be copied.
        """
        if name not in self.templates:
            database = self.create()
            build(database)
            self.templates[name] = database.name
        return self.templates[name]

    def _answers(self) -> bool:
        try:
            with self.database().connect() as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False


def _debian_places() -> list[str]:
    """Debian keeps the server's programs off PATH, one folder for each major version; newest first."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    return [str(path) for path in sorted(versions, key=lambda path: int(path.parent.name), reverse=True)]


def _as_postgres_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres to run the server as, and root may not (Debian package postgresql)")
    setpriv = need("setpriv", "util-linux")
    # The change of user clears the parent-death signal, so it is set again here.
    return [setpriv, "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "INT"]


def _environment() -> dict[str, str]:
    """Nothing of the caller's: PGPORT, PGDATA and the like would change what the server does."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _make_cluster(initdb: str, as_owner: list[str], folder: Path, password: str) -> None:
    password_file = folder / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if as_owner:
        owner = pwd.getpwnam("postgres")
        for path in (folder, password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    done = subprocess.run(
        [
            *(*as_owner, initdb, "-D", str(folder / "data"), "-U", OWNER, "-E", "UTF8", "--no-sync"),
            *("-A", "scram-sha-256", f"--pwfile={password_file}"),
        ],
        env=_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    password_file.unlink()
    if done.returncode != 0:
        msg = f"initdb ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise ServerFailed(msg)
