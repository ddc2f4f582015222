"""After the statements that `--drop-plaintext` prints, no page of either database holds a plain value."""

from __future__ import annotations

from pathlib import Path

from identitymesh.columns import service
from tests.columns.conftest import Application
from tests.servers.postgresql import PostgresServer

CANARY = "CANARYCANARYCANARY"


def filled(app: Application) -> None:
    app.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT)")
    for number in range(200):
        app.execute("INSERT INTO users VALUES (?, 'a', ?)", (number, f"{CANARY}{number % 3}"))


def holding(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_postgresql(pg: Application, postgres_server: PostgresServer) -> None:
    filled(pg)
    pg.execute("ANALYZE users")  # statistics hold samples of a column
    pg.execute("CHECKPOINT")
    ((number,),) = pg.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
    pages = postgres_server.folder / "data" / "base" / str(number)
    assert holding(pages), "the test sees what is there"

    outcome = service.encrypt(pg.plan, drop_plaintext=True)

    said = "\n".join(outcome.hints)
    pg.execute("CHECKPOINT")
    assert holding(pages), "dropping alone leaves them in the pages"
    for statement in ("VACUUM FULL users", "VACUUM FULL pg_statistic", "CHECKPOINT"):
        assert statement in said
        pg.execute(statement)
    assert holding(pages) == []


def test_sqlite(tmp_path: Path) -> None:
    app = Application(tmp_path)
    filled(app)
    app.execute("PRAGMA journal_mode = WAL")
    assert holding(tmp_path)

    outcome = service.encrypt(app.plan, drop_plaintext=True)

    said = "\n".join(outcome.hints)
    for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        assert statement in said
        app.execute(statement)
    assert holding(tmp_path) == []
