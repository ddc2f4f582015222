import os
import signal
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from tests.servers.postgresql import PostgresDatabase, PostgresServer


def test_url_opens_the_database_with_the_password_beside_it(postgres_url: PostgresDatabase) -> None:
    assert make_url(postgres_url.url).password is None
    assert postgres_url.password not in repr(postgres_url)
    engine = create_engine(make_url(postgres_url.url).set(password=postgres_url.password))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == postgres_url.name
    engine.dispose()


def test_wrong_password_is_refused(postgres_url: PostgresDatabase) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            host=postgres_url.host, port=postgres_url.port, user=postgres_url.user, password="wrong", dbname="postgres"
        )


def test_each_database_starts_empty_and_copies_of_a_template_do_not(postgres_server: PostgresServer) -> None:
    def build(database: PostgresDatabase) -> None:
        with database.connect() as connection:
            connection.execute("CREATE TABLE person (id int)")

    built = postgres_server.template("person", build)
    for template, tables in (("template1", 0), (built, 1), (postgres_server.template("person", build), 1)):
        database = postgres_server.create(template=template)
        with database.connect() as connection:
            count = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
            postgres_server.drop(database)  # with this session still open
        assert count == (tables,)


def test_a_durable_server_survives_a_kill(tmp_path: Path) -> None:
    server = PostgresServer.start(durable=True)
    try:
        with server.database().connect() as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            connection.execute("CREATE TABLE kept (id int)")
        os.kill(server.process.pid, signal.SIGKILL)
        assert server.process.child is not None
        server.process.child.wait()
        (server.folder / "data" / "postmaster.pid").unlink()
        server.process.start(server._answers)
        with server.database().connect() as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        server.stop()
    assert not server.folder.exists()
