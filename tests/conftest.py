"""Fixtures that every test may ask for, and the switch that lets no test be left out."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.openings import Openings
from tests.servers.authority import Authority
from tests.servers.postgresql import PostgresDatabase, PostgresServer
from tests.servers.scim import ScimServer

if TYPE_CHECKING:  # needs python-ldap, which not every test does
    from tests.servers.slapd import Branch, SlapdServer

REQUIRE_ALL = "TESTS_REQUIRE_ALL"
# How long an example takes says what else the machine does, and nothing of the code: figures are those of `make bench`.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# Who starts the suite in the background may have it ignore Ctrl-C, and its programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Real servers that the suite may use, by what their names have after IDENTITYMESH_TEST_. The product would refuse these
# as unknown settings, so they are kept under another name, where the workers of pytest-xdist find them, too.
_ASKED, _KEPT = "IDENTITYMESH_TEST_", "TESTS_OUTSIDE_"
for _name in [name for name in os.environ if name.startswith(_ASKED)]:
    os.environ[_KEPT + _name.removeprefix(_ASKED)] = os.environ.pop(_name)
OUTSIDE = {name.removeprefix(_KEPT): value for name, value in os.environ.items() if name.startswith(_KEPT)}


def _fail_if_skipped(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Where everything must be there, a skip is a failure with the skip's reason. An expected failure is no skip."""
    if os.environ.get(REQUIRE_ALL) != "1" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} was left out, but {REQUIRE_ALL}=1 allows no skip. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture(autouse=True)
def _little_work_for_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that keeps thieves busy would keep the tests busy; `test_age_scrypt.py` does it in full, once."""
    monkeypatch.setattr("identitymesh.secrets.slots.passphrase.WORK_FACTOR", 10)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder for what refuses to be in memory, where `tmp_path` may be."""
    with tempfile.TemporaryDirectory(prefix="im-on-disk-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the session (with pytest-xdist: for each worker)."""
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A fresh, empty database for this test."""
    database = postgres_server.create()
    yield database
    postgres_server.drop(database)


@pytest.fixture
def migrated_postgres(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A fresh database for this test, with the schema and nothing in it."""
    from tests.prepared import migrate

    database = postgres_server.create(template=postgres_server.template("schema", migrate))
    yield database
    postgres_server.drop(database)


@pytest.fixture
def start_scim_server() -> Iterator[Callable[..., ScimServer]]:
    """A function that starts one more SCIM server; takes the arguments of `ScimServer.start`."""
    with ExitStack() as running:

        def start(*, options: tuple[str, ...] = ()) -> ScimServer:
            server = ScimServer.start(options=options)
            running.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def forked_openings() -> Iterator[Openings]:
    """For packages that make installations, add slots and rotate in nearly every test."""
    made = Openings()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def spare_scim_servers() -> Iterator[list[ScimServer]]:
    """Servers that tests have left, empty again."""
    spare: list[ScimServer] = []
    yield spare
    for server in spare:
        server.stop()


@pytest.fixture
def scim_server(spare_scim_servers: list[ScimServer]) -> Iterator[ScimServer]:
    """An empty SCIM server for this test."""
    server = spare_scim_servers.pop() if spare_scim_servers else ScimServer.start()
    yield server
    if server.process.running and not server.spent:
        server.empty()
        spare_scim_servers.append(server)
    else:
        server.stop()


@pytest.fixture(scope="module")
def module_scim_server() -> Iterator[ScimServer]:
    """One SCIM server for all tests of a module, which see what the others wrote."""
    server = ScimServer.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of this session; `file` is its certificate, for `ca_file`."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def slapd_server(authority: Authority) -> Iterator[SlapdServer]:
    """One directory for the session (with pytest-xdist: for each worker); tests take a branch of it."""
    from tests.servers.slapd import SlapdServer

    server = SlapdServer.start(authority)
    yield server
    server.stop()


@pytest.fixture
def branch(slapd_server: SlapdServer) -> Branch:
    """A part of the directory for this test, with `ou=people` and a login of its own."""
    return slapd_server.branch()


@pytest.fixture
def start_slapd(authority: Authority) -> Iterator[Callable[..., SlapdServer]]:
    """A function that starts a directory of the test's own; takes the arguments of `SlapdServer.start`."""
    from tests.servers.slapd import SlapdServer

    with ExitStack() as running:

        def start(**options: Any) -> SlapdServer:
            server = SlapdServer.start(authority, **options)
            running.callback(server.stop)
            return server

        yield start
