"""Rotation of one credential at a real PostgreSQL server, on both databases of the product."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from identitymesh import composition
from identitymesh.errors import ConnectionLost, ConnectorError, ExitCode, LeaseLost, TimedOut
from identitymesh.lease import Lease
from tests.custody.conftest import CONNECTOR, Home
from tests.custody.killed import Ended, program
from tests.kill_points import points
from tests.servers.postgresql import PostgresDatabase, PostgresServer

REF = "secret://hr/reader"
OLD, NEW = "the old password", "the new passwörd"


@dataclass
class Hr:
    """An HR database with a login of its own."""

    database: PostgresDatabase
    role: str

    @property
    def connector(self) -> str:
        url = f"postgresql+psycopg://{self.role}@{self.database.host}:{self.database.port}/{self.database.name}"
        return CONNECTOR.format(url=url)

    def accepts(self, password: str) -> bool:
        try:
            psycopg.connect(
                host=self.database.host,
                port=self.database.port,
                user=self.role,
                password=password,
                dbname=self.database.name,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def set(self, password: str) -> None:
        self("ALTER ROLE {} PASSWORD {}", sql.Identifier(self.role), sql.Literal(password))

    def __call__(self, statement: str, *names: sql.Composable) -> None:
        with self.database.connect() as connection:
            connection.execute(sql.SQL(statement).format(*names))


@pytest.fixture
def hr(postgres_server: PostgresServer) -> Hr:
    made = Hr(postgres_server.create(), f"hr_{secrets.token_hex(4)}")
    role = sql.Identifier(made.role)
    made("CREATE ROLE {} LOGIN PASSWORD {}", role, sql.Literal(OLD))
    made("CREATE TABLE people (id text PRIMARY KEY)")
    made("INSERT INTO people VALUES ('1'), ('2')")
    made("GRANT SELECT ON people TO {}", role)
    return made


def ready(home: Home, hr: Hr) -> Home:
    home.store(REF, OLD)
    home.ok("apply", str(home.define(hr.connector)))
    home.ok("connectors", "test", "hr")
    return home


def secret(home: Home) -> dict[str, object]:
    found: dict[str, object] = home.ok("secrets", "show", REF, "--json").document["secret"]
    return found


def current(home: Home) -> str:
    return home.ok("secrets", "get", REF, "--force").out


def test_a_value_is_current_only_after_its_connector_logged_in_with_it(home: Home, hr: Hr) -> None:
    ready(home, hr)
    hr.set(NEW)
    done = home.ok("secrets", "rotate", REF, "--json", stdin=NEW).document
    assert (done["old_version"], done["new_version"], done["resumed"]) == ("1", "2", False)
    assert list(done["probed"]) == ["hr"]
    assert current(home) == NEW
    home.ok("connectors", "test", "hr")
    opened = [stored.record.payload["version"] for stored in home.audit("secret.open")]
    assert opened[0] == "2"  # uses record the version
    steps = [stored.record.action for stored in home.audit("secret.*") if "rotate" in stored.record.action]
    assert steps == ["secret.rotate", "secret.rotate-begin"]


def test_a_refused_value_leaves_the_old_one_in_use(home: Home, hr: Hr) -> None:
    ready(home, hr)
    refused = home("secrets", "rotate", REF, stdin=NEW)  # nobody told the server
    assert refused.code == 4
    assert "was tried and refused, the old one stays in use: hr:" in refused.err
    assert "--at-server" in refused.err
    assert NEW not in refused.err
    assert current(home) == OLD
    assert secret(home)["pending_version"] is None
    assert home.sql("SELECT version FROM secret") == [(1,)]
    home.ok("connectors", "test", "hr")


def test_the_engine_sets_the_new_password_itself_and_no_log_has_it(home: Home, hr: Hr) -> None:
    ready(home, hr)
    hr("ALTER ROLE {} SET log_statement = 'none'", sql.Identifier(hr.role))
    answer = home.ok("secrets", "rotate", REF, "--at-server", "--generate", "40")
    assert "rotated to version 2, here and at the server" in answer.out
    value = current(home)
    assert len(value) == 40
    assert value not in answer.out + answer.err
    assert hr.accepts(value)
    assert not hr.accepts(OLD)
    home.ok("connectors", "test", "hr")


def test_the_server_is_sent_a_verifier_and_never_the_password(
    embedded: Home, postgres_server: PostgresServer, hr: Hr
) -> None:
    ready(embedded, hr)
    with hr.database.connect() as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    try:
        embedded.ok("secrets", "rotate", REF, "--at-server", "--generate", "40")
    finally:
        with hr.database.connect() as connection:
            connection.execute("ALTER SYSTEM RESET log_statement")
            connection.execute("SELECT pg_reload_conf()")
    log = "".join(path.read_text(errors="replace") for path in postgres_server.folder.rglob("log*") if path.is_file())
    assert f'ALTER ROLE "{hr.role}" PASSWORD \'SCRAM-SHA-256$' in log
    assert current(embedded) not in log


def test_the_old_value_is_destroyed_when_its_time_has_come(home: Home, hr: Hr) -> None:
    ready(home, hr)
    home.ok("secrets", "rotate", REF, "--at-server", "--generate", "24", "--retire-after", "3")
    assert "nothing is due" in home.ok("secrets", "retire").out
    assert home.sql("SELECT count(*) FROM secret") == [(2,)]
    home.ok("secrets", "rotate", REF, "--at-server", "--generate", "24", "--retire-after", "0")
    retired = home.ok("secrets", "retire", "--json").document["retired"]
    assert retired == [{"ref": REF, "versions": ["1", "2"]}]
    assert home.sql("SELECT version FROM secret") == [(3,)]
    home.ok("connectors", "test", "hr")
    home.store(REF, current(home))
    assert "1 old version destroyed" in home.ok("secrets", "retire", REF).out


def test_a_server_that_does_not_answer_decides_nothing(home: Home, hr: Hr, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(home, hr)
    hr.set(NEW)
    monkeypatch.setattr("identitymesh.connectors.patience.FIRST_PAUSE", 0.01)
    connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]

    def down(kind: type[Any], /, *arguments: object, **named: object) -> object:
        if named.get("user") == hr.role:
            raise psycopg.OperationalError("connection refused")
        return connect(kind, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "connect", classmethod(down))
        unknown = home("secrets", "rotate", REF, "--json", stdin=NEW)
    assert (unknown.code, unknown.error["code"], unknown.error["retryable"]) == (4, "rotation-unfinished", True)
    assert secret(home)["pending_version"] == "2"
    done = home.ok("secrets", "rotate", REF, "--json", stdin="something else").document
    assert done["resumed"]
    assert current(home) == NEW


def test_an_open_rotation_can_be_given_up(home: Home, hr: Hr, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(home, hr)
    monkeypatch.setattr("identitymesh.connectors.patience.FIRST_PAUSE", 0.01)
    kill_after_alter(home, hr)
    assert secret(home)["pending_version"] == "2"
    home.ok("secrets", "rotate", REF, "--abandon")
    assert current(home) == OLD
    assert hr.accepts(OLD)  # it was set back
    assert secret(home)["pending_version"] is None
    assert home("secrets", "rotate", REF, "--abandon").code == 2


def kill_after_alter(home: Home, hr: Hr) -> None:
    """The command dies between the server's change and its own next step."""
    from identitymesh.connectors.facade import Facade

    change = Facade.change_password

    def dies(self: Facade, name: str, new: object) -> None:
        change(self, name, new)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with home.monkeypatch.context() as patched:
        patched.setattr(Facade, "change_password", dies)
        assert home("secrets", "rotate", REF, "--at-server", stdin=NEW).code == 130
    assert hr.accepts(NEW)


@pytest.mark.parametrize("error", [OSError, ConnectorError, ConnectionLost, TimedOut])
def test_a_change_of_unknown_outcome_is_found_out(embedded: Home, hr: Hr, error: type[Exception]) -> None:
    """Whatever fails after the server has the new password: it is not dropped before somebody tried to log in."""
    from identitymesh.connectors.kinds.sql.passwords import password_changer

    ready(embedded, hr)

    def then_fails(*given: Any) -> Callable[[str, Any], None]:
        change = password_changer(*given)

        def changed(name: str, new: Any) -> None:
            change(name, new)
            raise error("broken")

        return changed

    embedded.monkeypatch.setattr("identitymesh.connectors.kinds.sql.source.password_changer", then_fails)
    embedded.ok("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert hr.accepts(NEW)
    assert current(embedded) == NEW


def during_the_change(home: Home, happens: Callable[[], object]) -> None:
    """Once, when everything is ready and the server is about to be told."""
    from identitymesh.connectors.facade import Facade

    change, once = Facade.change_password, [happens]

    def late(self: Facade, name: str, new: object) -> None:
        if once:
            once.pop()()
        change(self, name, new)  # type: ignore[arg-type]

    home.monkeypatch.setattr(Facade, "change_password", late)


@pytest.mark.parametrize("other", ["--abandon", "--at-server"])
def test_what_one_command_sets_at_the_server_no_other_one_gives_up(home: Home, hr: Hr, other: str) -> None:
    ready(home, hr)
    seen: list[tuple[int, str]] = []

    def another() -> None:
        answer = home("secrets", "rotate", REF, other, stdin=NEW)
        seen.append((answer.code, answer.err))

    during_the_change(home, another)
    rotated = home("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert hr.accepts(current(home))
    assert (rotated.code, current(home)) == (0, NEW)
    ((code, said),) = seen
    assert code == ExitCode.BUSY
    assert f"{REF}: another command is rotating it" in " ".join(said.split())
    assert home.sql("SELECT name FROM lease WHERE name LIKE 'rotate:%'") == []


def test_who_lost_the_lease_tells_the_server_nothing(embedded: Home, hr: Hr) -> None:
    ready(embedded, hr)
    with embedded.monkeypatch.context() as patched:
        patched.setattr(Lease, "assert_live", lost)
        answer = embedded("secrets", "rotate", REF, "--at-server", "--json", stdin=NEW)
    assert answer.error["code"] == "lease-lost"
    assert hr.accepts(OLD)
    assert embedded.ok("secrets", "rotate", REF, "--json").document["resumed"]
    assert hr.accepts(current(embedded))
    assert current(embedded) == NEW


def lost(self: Lease) -> None:
    raise LeaseLost(f"this run could not renew its lease on {self.name} in time", hint="Run it again.")


def test_a_rotation_whose_holder_was_taken_over_leaves_the_other_ones_lease(embedded: Home, hr: Hr) -> None:
    ready(embedded, hr)
    during_the_change(embedded, lambda: embedded.sql("UPDATE lease SET fence = fence + 1"))
    embedded("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert len(embedded.sql("SELECT name FROM lease WHERE name LIKE 'rotate:%'")) == 1


def test_what_the_server_was_told_is_set_back_when_another_connector_refuses_it(home: Home, hr: Hr) -> None:
    ready(home, hr)
    second = hr.connector.replace("  hr:", "  twin:", 1).replace("table: people", "table: nowhere")
    home.ok("apply", str(home.define(hr.connector + second)), "--allow-audience", REF)
    refused = home("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert refused.code == 4
    assert "twin:" in refused.err
    assert hr.accepts(OLD)
    assert current(home) == OLD
    home.ok("connectors", "test", "hr")


def test_a_value_that_was_set_meanwhile_is_not_overwritten(embedded: Home, hr: Hr) -> None:
    ready(embedded, hr)
    kill_after_alter(embedded, hr)
    embedded.store(REF, "a third one")
    refused = embedded("secrets", "rotate", REF, "--at-server")
    assert refused.code == 4
    assert "another value was stored while it was rotated" in refused.err
    assert current(embedded) == "a third one"
    embedded.ok("secrets", "rotate", REF, "--abandon")
    assert hr.accepts("a third one")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("secrets", "rotate", "secret://no/such"), "no connector of the definition uses secret://no/such"),
        (("secrets", "rotate", REF, "hunter2hunter2"), "it is not repeated here"),
        (("secrets", "rotate", REF, "--generate", "8"), "16"),
        (("secrets", "rotate", REF, "--abandon"), "no rotation is open"),
    ],
)
def test_calls_that_are_wrong(embedded: Home, hr: Hr, arguments: tuple[str, ...], text: str) -> None:
    ready(embedded, hr)
    refused = embedded(*arguments, stdin=NEW)
    assert refused.code == 2
    assert text in refused.err
    assert "hunter2hunter2" not in refused.err
    assert home_is_unchanged(embedded)


def home_is_unchanged(home: Home) -> bool:
    return home.sql("SELECT version FROM secret") == [(1,)] and home.sql("SELECT * FROM secret_rotation") == []


def test_the_value_that_is_stored_already_is_no_rotation(embedded: Home, hr: Hr) -> None:
    ready(embedded, hr)
    refused = embedded("secrets", "rotate", REF, stdin=OLD)
    assert refused.code == 4
    assert "the new value is the one that is stored" in refused.err
    assert home_is_unchanged(embedded)


def test_a_file_has_no_password_to_be_set(embedded: Home) -> None:
    embedded.store(REF, OLD)
    scim = "  hr: {type: scim, url: https://crm.example.org/v2, token: secret://hr/reader, objects: {user: {}}}\n"
    answer = embedded("apply", str(embedded.define(scim)))
    if answer.code != 0:
        pytest.fail(answer.err)
    refused = embedded("secrets", "rotate", REF, "--at-server", stdin=NEW)
    assert refused.code == 2
    assert "can change a password at its server" in refused.err


def test_nothing_fails_while_a_password_is_rotated_at_its_server(embedded: Home, hr: Hr) -> None:
    """Connections are made all the time, with credentials that were prepared before or in the middle of it."""
    ready(embedded, hr)
    stop = threading.Event()
    failures: list[ConnectorError] = []
    made: list[int] = []

    def connect_all_the_time() -> None:
        from identitymesh.runs.cycle import RunSecrets

        with composition.open_installation(embedded.folder) as installation:
            parts = installation.engine._parts
            (connector,) = installation.engine.connectors()
            while not stop.is_set():
                with RunSecrets(parts, 1) as credentials:
                    credentials.prepare([connector])
                    try:
                        with credentials.open(connector) as facade:
                            facade.test()
                        made.append(1)
                    except ConnectorError as error:
                        failures.append(error)

    thread = threading.Thread(target=connect_all_the_time)
    thread.start()
    try:
        with composition.open_installation(embedded.folder) as installation:
            from identitymesh.redaction import Secret
            from identitymesh.secrets.references import parse

            for number in range(10):
                value = Secret(f"password number {number}")
                installation.rotation.rotate(parse(REF), lambda value=value: value, at_server=True, retire_days=0)  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(made) >= 3


def test_killed_at_every_sampled_step_nothing_is_lost(home: Home, hr: Hr) -> None:
    ready(home, hr)
    with program() as forks:

        def rotate(point: int, value: str) -> Ended:
            arguments = ["--home", str(home.folder), "secrets", "rotate", REF, "--at-server"]
            return forks(point, arguments, value, home.environment)

        whole = rotate(0, NEW)
        assert whole.returncode == 0, whole.stderr
        for point in points(f"secrets rotate ({'PostgreSQL' if home.url else 'SQLite'})", whole.steps):
            old, new = current(home), f"password at {point}"
            died = rotate(point, new)
            # What a resumed rotation left to retire makes the next one a few steps longer or shorter.
            assert died.returncode in (-signal.SIGKILL, 0), died.stderr
            assert {one[0] for one in home.sql("SELECT version FROM secret")}, "a value was lost"
            assert hr.accepts(old) or hr.accepts(new)
            again = rotate(0, new)
            assert again.returncode == 0 or "is the one that is stored" in again.stderr, again.stderr
            assert current(home) == new, point
            assert hr.accepts(new), point
            home.ok("connectors", "test", "hr")
