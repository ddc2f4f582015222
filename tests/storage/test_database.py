"""Opening the database, and its errors in words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from identitymesh.errors import DatabaseLocked, DatabaseUnreachable, SettingsError, StorageError
from identitymesh.redaction import Secret
from identitymesh.storage.database import Database, _is_local, check_url, open_database
from tests.servers.postgresql import PostgresDatabase


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://app:hunter2@db/mesh", "carries a password"),
        ("mysql://db/mesh", "runs on sqlite and postgresql"),
        ("not a url", "is not a database URL"),
        ("postgresql://app@db/mesh?password=hunter2", "carries a password"),
        ("postgresql://app@db/mesh?sslmode=disable", "'sslmode' after its"),
        ("postgresql://app@db/mesh?passfile=/tmp/x", "'passfile' after its"),
        ("sqlite:///mesh.db?mode=ro", "'mode' after its"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        open_database(url)

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("db.example.org", False), ("10.0.0.5", False)],
)
def test_another_host_must_prove_who_it_is(host: str, local: bool) -> None:
    assert _is_local(check_url(f"postgresql://app@{host}/mesh")) is local


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    database = open_database(f"postgresql+psycopg://app@/mesh?host={tmp_path}")

    with pytest.raises(DatabaseUnreachable), database.read() as connection:
        connection.execute(text("SELECT 1"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'missing' / 'mesh.db'}")

    with pytest.raises(DatabaseUnreachable, match="unable to open"), database.read():
        pass


def test_a_wrong_password_names_the_database_and_not_the_password(postgres_url: object) -> None:
    url = postgres_url.url  # type: ignore[attr-defined]
    database = open_database(url, password=Secret("a-wrong-one"))

    with pytest.raises(DatabaseUnreachable, match="password authentication failed") as raised, database.read():
        pass

    assert "a-wrong-one" not in str(raised.value) + repr(raised.value.__cause__) + repr(raised.value.__context__)


def test_a_refused_statement_shows_no_parameters(database: Database) -> None:
    def twice() -> None:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE one (id INTEGER PRIMARY KEY)"))
            connection.execute(text("INSERT INTO one VALUES (:a)"), [{"a": 4711}, {"a": 4711}])

    with pytest.raises(StorageError) as raised:
        twice()

    assert "4711" not in str(raised.value)


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE one (id INTEGER PRIMARY KEY)"))

    def fail() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO one VALUES (1)"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM one")) == 0


def test_the_connection_to_sqlite_that_was_used_last_is_used_next(tmp_path: Path) -> None:
    """In turn, each would fill a page cache of its own with the same pages."""
    database = open_database(f"sqlite:///{tmp_path / 'mesh.db'}")

    def one() -> object:
        with database.read() as connection:
            return connection.connection.dbapi_connection

    with closing(database):
        with database.read(), database.read(), database.read():
            pass  # three are open from now on

        assert len({id(one()) for _ in range(6)}) == 1


def test_who_stands_still_in_a_transaction_lets_go_of_its_rows(
    postgres_url: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("identitymesh.storage.database.STILL_SECONDS", 1)
    opened = open_database(postgres_url.url, password=Secret(postgres_url.password))
    with opened.write() as connection:
        connection.exec_driver_sql("CREATE TABLE held (id integer)")
        connection.exec_driver_sql("INSERT INTO held VALUES (1)")

    def take() -> None:
        with opened.write() as connection:
            connection.exec_driver_sql("SELECT id FROM held FOR UPDATE")
            connection.exec_driver_sql("UPDATE held SET id = 2")

    def stand_still(pool: ThreadPoolExecutor) -> None:
        with opened.write() as connection:
            connection.exec_driver_sql("SELECT id FROM held FOR UPDATE")
            pool.submit(take).result(timeout=60)
            connection.exec_driver_sql("UPDATE held SET id = 3")

    with closing(opened), ThreadPoolExecutor() as pool:
        with pytest.raises(DatabaseUnreachable, match="idle-in-transaction"):
            stand_still(pool)
        with opened.read() as connection:
            assert connection.exec_driver_sql("SELECT id FROM held").scalar() == 2


def test_nobody_waits_for_ever_for_a_row(postgres_url: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identitymesh.storage.database.LOCK_SECONDS", 1)
    opened = open_database(postgres_url.url, password=Secret(postgres_url.password))
    with opened.write() as connection:
        connection.exec_driver_sql("CREATE TABLE held (id integer)")
        connection.exec_driver_sql("INSERT INTO held VALUES (1)")

    with closing(opened), opened.write() as holder:
        holder.exec_driver_sql("SELECT id FROM held FOR UPDATE")
        with pytest.raises(DatabaseLocked, match="locked by another program"), opened.write() as connection:
            connection.exec_driver_sql("SELECT id FROM held FOR UPDATE")
