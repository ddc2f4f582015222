"""What goes wrong, on real databases: named, nothing lost, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from identitymesh.columns import EncryptedColumn, EncryptedSetting, rewriting, service, sweeping
from identitymesh.columns.keys import create_key, load_key
from identitymesh.columns.opening import open_plan
from identitymesh.columns.places import State
from identitymesh.columns.postgresql_columns import PostgresColumn
from identitymesh.columns.rows import KeyValueRow
from identitymesh.columns.sqlite import SqliteColumn
from identitymesh.errors import (
    ColumnKeyMissing,
    ColumnKeyWrong,
    ColumnsBusy,
    ColumnsForbidden,
    ColumnsUnfinished,
    ColumnsUnfit,
    DatabaseUnreachable,
    DiskFull,
)
from tests.columns.conftest import Application
from tests.columns.test_encrypting import WRITTEN, opened
from tests.servers.postgresql import PostgresDatabase, PostgresServer
from tests.servers.process import private_folder

# Keys


def commands(app: Application, new_key: Path) -> dict[str, Callable[[], object]]:
    return {
        "encrypt": app.encrypt,
        "encrypt --drop-plaintext": lambda: app.encrypt(drop_plaintext=True),
        "status": lambda: service.status(app.plan),
        "verify": app.verify,
        "decrypt": lambda: service.decrypt(app.plan),
        "rotate-key": lambda: service.rotate_key(app.plan, new_key),
        "upgrade": lambda: service.upgrade(app.plan),
    }


def test_with_the_key_missing_or_wrong_every_command_stops_and_says_which(app: Application) -> None:
    app.fill()
    app.encrypt()
    cells, kept, right = app.cells(), app.key_file.read_bytes(), app.key.id
    new_key, other = app.folder / "new.key", app.folder / "other.key"
    create_key(new_key)
    create_key(other)
    app.key_file.unlink()
    for name, command in commands(app, new_key).items():
        with pytest.raises(ColumnKeyMissing, match=r"no key file .*app\.key") as missing:
            command()
        assert "backup of keys" in missing.value.hint, name
    other.rename(app.key_file)
    for command in commands(app, new_key).values():
        with pytest.raises(ColumnKeyWrong, match="wrong key") as wrong:
            command()
        assert load_key(app.key_file).id in wrong.value.message
        assert right in wrong.value.message
    assert app.cells() == cells
    assert not list(app.folder.glob("*.new"))
    app.key_file.write_bytes(kept)
    assert app.verify().verified == 4


def test_a_key_that_opens_nothing_of_what_another_program_wrote_is_wrong(app: Application) -> None:
    app.fill()
    other = app.folder / "other.key"
    create_key(other)
    kind = "BLOB" if app.dialect == "sqlite" else "bytea"
    for name in ("totp_secret_encrypted", "totp_secret_nonce"):
        app.execute(f"ALTER TABLE users ADD COLUMN {name} {kind}")
    cells = EncryptedColumn("users.totp_secret", load_key(other)).write("secret")
    app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 1", list(cells.values()))
    with pytest.raises(ColumnKeyWrong, match="opens none"):
        app.encrypt()


def test_a_rotation_names_its_keys_until_it_has_ended(app: Application) -> None:
    app.fill()
    app.encrypt()
    first, second = app.key.id, app.folder / "second.key"
    create_key(second)
    service.rotate_key(app.plan, second)
    with pytest.raises(ColumnKeyWrong, match=f"key {first}, from which users.totp_secret was rotated") as raised:
        app.verify()
    assert "new key file" in raised.value.hint
    with pytest.raises(ColumnKeyWrong, match="holds the key that the plan names"):
        service.rotate_key(app.plan, app.key_file)


# Values


@pytest.mark.parametrize(
    "damage", ["ciphertext edited", "nonce edited", "swapped", "ciphertext cut", "nonce cut", "half"]
)
@pytest.mark.parametrize("form", ["compatible", "sealed"])
def test_damaged_values_are_found_and_their_rows_named(app: Application, damage: str, form: str) -> None:
    if form == "sealed" and damage.startswith("nonce"):
        damage = "ciphertext edited"
    app.fill()
    app.settings["format"] = form
    app.encrypt(drop_plaintext=True)
    cells = app.cells()
    value, nonce = (cells[1][0] or b""), cells[1][1]
    flipped = value[:-1] + bytes([value[-1] ^ 1])
    damaged: dict[str, tuple[bytes | None, bytes | None]] = {
        "ciphertext edited": (flipped, nonce),
        "nonce edited": (value, bytes(12)),
        "swapped": (cells[2][0], nonce),
        "ciphertext cut": (value[:-1], nonce),
        "nonce cut": (value, (nonce or b"")[:11]),
        "half": (None, bytes(12)),
    }
    app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 1", list(damaged[damage]))

    report = app.verify()

    assert (report.broken, report.verified) == (1, 3)
    assert [(one.row, "does not open" in one.problem) for one in report.findings] == [("1", True)]


def test_text_that_is_not_utf_8_is_named_and_the_others_go_on(app: Application) -> None:
    app.fill()
    if app.dialect == "sqlite":
        app.execute("UPDATE users SET totp_secret = CAST(x'ff00fe' AS TEXT) WHERE id = 2")
    else:
        app.execute("ALTER TABLE users ALTER COLUMN totp_secret TYPE bytea USING convert_to(totp_secret, 'UTF8')")
        app.execute("UPDATE users SET totp_secret = '\\xff00fe' WHERE id = 2")

    report = app.encrypt()

    assert (report.written, report.refused, report.broken) == (3, 1, 0)
    assert [one.row for one in report.findings] == ["2"]
    assert "not UTF-8" in report.findings[0].problem
    with pytest.raises(ColumnsUnfinished, match="nothing was dropped"):
        app.encrypt(drop_plaintext=True)
    assert "totp_secret" in app.columns()


def test_a_server_whose_text_has_no_encoding(pg: Application, postgres_server: PostgresServer) -> None:
    name = f"ascii_{os.getpid()}"
    with postgres_server.database().connect() as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    pg.database = postgres_server.database(name)
    pg.execute("SET client_encoding = 'SQL_ASCII'")
    with psycopg.connect(
        host=pg.database.host, port=pg.database.port, user=pg.database.user, password=pg.database.password, dbname=name,
        autocommit=True, client_encoding="SQL_ASCII",
    ) as connection:  # fmt: skip
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'a', 'plain'), (2, 'b', convert_from('\\xff', 'SQL_ASCII'))")
    try:
        report = pg.encrypt()
        assert (report.written, report.refused) == (1, 1)
        assert [one.row for one in report.findings] == ["2"]
    finally:
        postgres_server.drop(pg.database)


def test_binary_columns_keep_any_bytes_when_sealed(app: Application) -> None:
    kind = "BLOB" if app.dialect == "sqlite" else "bytea"
    app.execute(f"CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret {kind})")
    app.execute("INSERT INTO users VALUES (1, ?), (2, ?)", (b"\xff\x00\xfe", b""))
    app.settings["format"] = "sealed"
    assert app.encrypt(drop_plaintext=True).verified == 1
    service.decrypt(app.plan)
    rows = dict(app.execute("SELECT id, totp_secret FROM users"))
    assert rows[1] == b"\xff\x00\xfe"


def test_a_value_too_large_to_be_sealed_is_named(app: Application) -> None:
    app.fill({1: "x" * 16_384, 2: "x" * 16_385})
    app.settings["format"] = "sealed"
    report = app.encrypt()
    assert (report.written, report.refused, report.findings[0].row) == (1, 1, "2")
    app.settings["format"] = "compatible"


# Somebody else writes


def between(monkeypatch: pytest.MonkeyPatch, app: Application, action: Callable[[], None]) -> None:
    """Once, after rows were read and before they are written."""
    kind: Any = SqliteColumn if app.dialect == "sqlite" else PostgresColumn
    real = kind.write
    done: list[bool] = []

    def write(self: Any, *arguments: Any) -> int:
        if not done:
            done.append(True)
            action()
        return int(real(self, *arguments))

    monkeypatch.setattr(kind, "write", write)


def test_a_row_that_changes_while_it_is_encrypted_keeps_the_newer_value(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.fill()

    def change() -> None:
        app.execute("UPDATE users SET totp_secret = 'NEWER' WHERE id = 1")
        app.execute("UPDATE users SET totp_secret = NULL WHERE id = 2")
        app.execute("DELETE FROM users WHERE id = 3")
        app.execute("INSERT INTO users (id, totp_secret) VALUES (9, 'NINE')")

    between(monkeypatch, app, change)

    report = app.encrypt()

    assert (report.verified, report.pending, report.broken) == (3, 0, 0)
    assert opened(app) == {1: "NEWER", 6: "x", 9: "NINE"}


def test_a_row_that_changes_while_it_is_rotated_or_upgraded_keeps_the_newer_value(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.fill()
    app.encrypt(drop_plaintext=True)
    writer = EncryptedColumn("users.totp_secret", app.key)

    def change() -> None:
        cells = list(writer.write("NEWER").values())
        app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 1", cells)

    between(monkeypatch, app, change)
    service.upgrade(app.plan)
    assert opened(app) == WRITTEN | {1: "NEWER"}


def before_the_drop(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Once, after everything was decrypted and before the encrypted values go."""
    real = rewriting.drop
    done: list[bool] = []

    def drop(*arguments: Any) -> None:
        if not done:
            done.append(True)
            action()
        real(*arguments)

    monkeypatch.setattr(rewriting, "drop", drop)


def test_an_encrypted_value_that_is_written_after_its_place_was_decrypted_is_not_dropped(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.fill()
    app.encrypt(drop_plaintext=True)
    monkeypatch.setattr(sweeping, "FIRST_BATCH", 2)
    monkeypatch.setattr(sweeping, "LARGEST_BATCH", 2)
    writer = EncryptedColumn("users.totp_secret", app.key)

    def change() -> None:
        cells = list(writer.write("NEWER").values())
        app.execute("UPDATE users SET totp_secret_encrypted = ?, totp_secret_nonce = ? WHERE id = 6", cells)

    before_the_drop(monkeypatch, change)
    with pytest.raises(ColumnsUnfinished, match=r"users\.totp_secret: encrypted values are being written") as raised:
        service.decrypt(app.plan, drop_encrypted=True)

    assert "write plain values again" in raised.value.hint
    assert opened(app) == WRITTEN | {6: "NEWER"}
    service.decrypt(app.plan, drop_encrypted=True)
    assert app.columns() == {"id", "name", "totp_secret"}
    plain = dict(app.execute("SELECT id, totp_secret FROM users"))
    assert {number: seed for number, seed in plain.items() if seed} == WRITTEN | {6: "NEWER"}


@pytest.mark.parametrize("before", ["", "stored"])
def test_encrypted_values_of_all_places_go_or_none(
    app: Application, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    app.fill()
    app.execute("CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT)")
    if before:
        app.execute("INSERT INTO config VALUES ('smtp', ?)", (before,))
    app.places.append({"row": "smtp", "table": "config", "key_column": "name", "value_column": "value"})
    service.encrypt(app.plan, drop_plaintext=True)
    newer = EncryptedSetting("config", "smtp", app.key).write("NEWER")

    def change() -> None:
        app.execute("DELETE FROM config")
        for name, value in newer.items():
            app.execute("INSERT INTO config VALUES (?, ?)", (name, value))

    before_the_drop(monkeypatch, change)
    with pytest.raises(ColumnsUnfinished, match=r"config\[smtp\]: encrypted values are being written"):
        service.decrypt(app.plan, drop_encrypted=True)

    assert opened(app) == WRITTEN
    assert dict(app.execute("SELECT name, value FROM config WHERE name <> 'smtp'")) == newer
    service.decrypt(app.plan, drop_encrypted=True)
    assert app.columns() == {"id", "name", "totp_secret"}
    assert app.execute("SELECT name, value FROM config") == [("smtp", "NEWER")]


def test_nobody_writes_a_key_value_table_while_its_encrypted_rows_go(
    pg: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    pg.execute("CREATE TABLE config (name TEXT PRIMARY KEY, value TEXT)")
    pg.execute("INSERT INTO config VALUES ('smtp', 'stored')")
    pg.places[:] = [{"row": "smtp", "table": "config", "key_column": "name", "value_column": "value"}]
    pg.encrypt(drop_plaintext=True)
    real, tried = KeyValueRow.drop_cells, []

    def drop_cells(self: KeyValueRow, state: State) -> None:
        assert pg.database is not None
        with pg.database.connect() as connection:
            connection.execute("SET lock_timeout = '100ms'")
            tried.append(connection.execute("SELECT value FROM config").fetchall())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute("INSERT INTO config VALUES ('smtp_other', 'x')")
        real(self, state)

    monkeypatch.setattr(KeyValueRow, "drop_cells", drop_cells)
    service.decrypt(pg.plan, drop_encrypted=True)
    assert len(tried) == 1, "reading goes on"


def test_beside_a_writer_that_never_rests(pg: Application) -> None:
    seeds = {number: f"SEED{number}" for number in range(1, 3001)}
    pg.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT)")
    pg.execute("INSERT INTO users SELECT n, 'user', 'SEED' || n FROM generate_series(1, 3000) n")
    stop, newest = threading.Event(), dict(seeds)

    def write() -> None:
        assert pg.database is not None
        with pg.database.connect() as connection:
            turn = 0
            while not stop.is_set():
                turn += 1
                number = turn * 37 % 3000 + 1
                connection.execute("UPDATE users SET totp_secret = %s WHERE id = %s", (f"TURN{turn}", number))
                newest[number] = f"TURN{turn}"

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pg.encrypt()
    finally:
        stop.set()
        writer.join()

    report = pg.encrypt(drop_plaintext=True)

    assert report.verified == 3000
    assert opened(pg) == newest


def test_two_runs_at_once(app: Application) -> None:
    app.fill()
    with open_plan(app.plan) as work, work.session.alone():
        for command in (app.encrypt, lambda: service.decrypt(app.plan), lambda: service.upgrade(app.plan)):
            with pytest.raises(ColumnsBusy, match="another command") as raised:
                command()
            assert "columns status" in raised.value.hint
        assert service.status(app.plan)[2][0].state == "not begun"
    assert app.encrypt().written == 4


# Structure


def test_a_view_on_the_column_stops_the_drop_before_anything_is_done(app: Application) -> None:
    app.fill()
    app.execute("CREATE VIEW enrolled AS SELECT id, totp_secret FROM users")
    with pytest.raises(ColumnsUnfit, match="enrolled") as raised:
        app.encrypt(drop_plaintext=True)
    assert "nothing was dropped" in raised.value.hint
    assert app.columns() == {"id", "name", "totp_secret"}
    assert app.encrypt().verified == 4, "encrypting beside a view is no matter"
    app.execute("DROP VIEW enrolled")
    assert app.encrypt(drop_plaintext=True).dropped


def test_a_constraint_over_two_columns_stops_the_drop(app: Application) -> None:
    app.execute(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, totp_secret TEXT, "
        "CONSTRAINT named CHECK (name IS NOT NULL OR totp_secret IS NOT NULL))"
    )
    app.execute("INSERT INTO users VALUES (1, 'a', 'secret')")
    with pytest.raises(ColumnsUnfit, match=r"named|totp_secret"):
        app.encrypt(drop_plaintext=True)
    assert app.encrypt().verified == 1


def test_a_constraint_of_the_column_alone_goes_with_it_and_is_named(pg: Application) -> None:
    pg.execute(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, "
        "totp_secret TEXT CONSTRAINT long_enough CHECK (length(totp_secret) > 3) UNIQUE)"
    )
    pg.execute("INSERT INTO users VALUES (1, 'a', 'secret')")
    report = pg.encrypt(drop_plaintext=True)
    assert any("long_enough" in text for text in report.also_dropped)


def test_an_index_on_the_column_stops_the_drop_in_sqlite_and_is_named(tmp_path: Path) -> None:
    app = Application(tmp_path)
    app.fill()
    app.execute("CREATE INDEX by_secret ON users (totp_secret)")
    with pytest.raises(ColumnsUnfit, match="by_secret"):
        app.encrypt(drop_plaintext=True)


def test_a_trigger_whose_function_names_the_column_stops_the_drop(pg: Application) -> None:
    pg.fill()
    pg.execute(
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.totp_secret IS NULL THEN NEW.name := 'none'; END IF; RETURN NEW; END $$"
    )
    pg.execute("CREATE TRIGGER watching BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION watch()")
    with pytest.raises(ColumnsUnfit, match="watching"):
        pg.encrypt(drop_plaintext=True)


NOTE = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ {} $$".format(
    "BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NEW; END"
)
AUDITED = (
    "CREATE TABLE audit (what TEXT)",
    NOTE,
    "CREATE TRIGGER noting AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION note()",
)


def test_triggers_of_the_application_do_not_fire(pg: Application) -> None:
    pg.fill()
    for statement in AUDITED:
        pg.execute(statement)

    report = pg.encrypt(drop_plaintext=True)

    assert report.triggers_bypassed == ("noting",)
    assert pg.execute("SELECT count(*) FROM audit") == [(0,)]
    pg.execute("UPDATE users SET name = 'x' WHERE id = 1")
    assert pg.execute("SELECT count(*) FROM audit") == [(1,)], "its own changes do"


def test_triggers_fire_when_the_plan_says_so(app: Application) -> None:
    app.fill()
    app.execute("CREATE TABLE audit (what TEXT)")
    if app.dialect == "sqlite":
        app.execute("CREATE TRIGGER noting AFTER UPDATE ON users BEGIN INSERT INTO audit VALUES ('UPDATE'); END")
        with pytest.raises(ColumnsUnfit, match="noting"):
            app.encrypt()
    else:
        for statement in AUDITED[1:]:
            app.execute(statement)
    app.settings["triggers"] = "fire"
    assert app.encrypt().written == 4
    assert app.execute("SELECT count(*) FROM audit") == [(4,)]


@pytest.fixture
def stranger(pg: Application) -> Iterator[Application]:
    """The same database, for a login that owns nothing."""
    assert pg.database is not None
    pg.fill()
    role = f"stranger_{os.getpid()}"
    pg.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'stranger'")
    pg.execute(f"GRANT SELECT, UPDATE ON users TO {role}")
    owner = pg.database
    (pg.folder / "password").chmod(0o600)
    (pg.folder / "password").write_text("stranger")
    pg.database = PostgresDatabase(
        owner.url.replace("app@", f"{role}@"), "stranger", owner.host, owner.port, role, owner.name
    )
    yield pg
    pg.database = owner
    pg.execute(f"REASSIGN OWNED BY {role} TO app")
    pg.execute(f"DROP OWNED BY {role}")
    pg.execute(f"DROP ROLE {role}")


def as_owner(app: Application, postgres_server: PostgresServer, *statements: str) -> None:
    assert app.database is not None
    with postgres_server.database(app.database.name).connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_without_permission_to_alter_nothing_is_changed(stranger: Application, postgres_server: PostgresServer) -> None:
    assert stranger.database is not None
    role = stranger.database.user
    with pytest.raises(ColumnsForbidden, match=f"{role} may not alter users: it belongs to app") as raised:
        stranger.encrypt()
    assert "Run this as app" in raised.value.hint
    assert stranger.columns() == {"id", "name", "totp_secret"}

    as_owner(stranger, postgres_server, f"ALTER TABLE users OWNER TO {role}")
    with pytest.raises(ColumnsForbidden, match="may not make the table identitymesh_columns") as raised:
        stranger.encrypt()
    assert f"GRANT CREATE ON SCHEMA public TO {role}" in raised.value.hint

    as_owner(stranger, postgres_server, f"GRANT CREATE ON SCHEMA public TO {role}")
    assert stranger.encrypt().verified == 4


def test_a_login_that_may_not_bypass_triggers_is_told(stranger: Application, postgres_server: PostgresServer) -> None:
    assert stranger.database is not None
    role = stranger.database.user
    as_owner(stranger, postgres_server, *AUDITED, f"ALTER TABLE users OWNER TO {role}",
             f"GRANT CREATE ON SCHEMA public TO {role}")  # fmt: skip
    with pytest.raises(ColumnsForbidden, match="noting") as raised:
        stranger.encrypt()
    assert "triggers: fire" in raised.value.hint
    as_owner(stranger, postgres_server, f"GRANT SET ON PARAMETER session_replication_role TO {role}")
    assert stranger.encrypt().verified == 4


def test_rows_that_row_security_hides_are_not_left_out_in_silence(
    stranger: Application, postgres_server: PostgresServer
) -> None:
    as_owner(stranger, postgres_server, "ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    with pytest.raises(ColumnsForbidden, match="row security hides"):
        service.status(stranger.plan)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("SELECT 1", "no table users"),
        ("CREATE TABLE users (id INTEGER, totp_secret TEXT)", "no primary key"),
        ("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", "no column totp_secret"),
        ("CREATE VIEW users AS SELECT 1 AS id, 'x' AS totp_secret", "no ordinary table|no table users"),
    ],
)
def test_a_plan_that_does_not_fit_the_database(app: Application, made: str, told: str) -> None:
    app.execute(made)
    with pytest.raises(ColumnsUnfit, match=told):
        app.encrypt()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret INTEGER)", "text and bytea are encrypted"),
        ("CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT, totp_secret_encrypted TEXT)", "exists already"),
        ("CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT) PARTITION BY HASH (id)", "partitioned"),
    ],
)
def test_tables_of_postgresql_that_do_not_fit(pg: Application, made: str, told: str) -> None:
    pg.execute(made)
    with pytest.raises(ColumnsUnfit, match=told):
        pg.encrypt()


def test_a_sealed_value_is_bound_to_keys_that_every_program_writes_alike(pg: Application) -> None:
    pg.execute("CREATE TABLE users (id TIMESTAMPTZ PRIMARY KEY, totp_secret TEXT)")
    pg.execute("INSERT INTO users VALUES ('2026-01-01 00:00:00+01', 'secret')")
    pg.settings["format"] = "sealed"
    with pytest.raises(ColumnsUnfit, match="timestamp with time zone") as raised:
        pg.encrypt()
    assert "format: compatible" in raised.value.hint
    pg.settings.clear()
    assert pg.encrypt().verified == 1


# Machines


def test_a_table_that_somebody_holds_is_named_as_locked(pg: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    from identitymesh.columns import postgresql_columns
    from identitymesh.errors import DatabaseLocked

    pg.fill()
    monkeypatch.setattr(postgresql_columns, "_TRIES", 1)
    assert pg.database is not None
    with pg.database.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseLocked, match="locked by another session"):
            pg.encrypt()
    assert pg.encrypt().verified == 4


def test_a_server_that_goes_away(pg: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    pg.fill()
    real = PostgresColumn.write

    def write(self: Any, *arguments: Any) -> int:
        pg.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'identitymesh columns'"
        )
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(PostgresColumn, "write", write)
        with pytest.raises(DatabaseUnreachable) as raised:
            pg.encrypt()
    assert "run the same command again" in raised.value.hint
    assert pg.encrypt().verified == 4


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder that 24 MB fill."""
    place = private_folder("small")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("only root on a machine that lets it can mount a small disk (mount -t tmpfs)")
    yield place
    subprocess.run(["umount", str(place)], check=False)
    place.rmdir()


def test_a_full_disk_of_postgresql(pg: Application, small_disk: Path) -> None:
    place = small_disk / "space"
    place.mkdir()
    os.chown(place, *_postgres_user())
    pg.execute(f"CREATE TABLESPACE small_{os.getpid()} LOCATION '{place}'")
    try:
        pg.execute(f"CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT) TABLESPACE small_{os.getpid()}")
        pg.execute("INSERT INTO users SELECT n, repeat('x', 200) || n FROM generate_series(1, 40000) n")
        with pytest.raises(DiskFull, match="disk is full") as raised:
            pg.encrypt()
        assert "run the same command again" in raised.value.hint
        assert 0 < pg.execute("SELECT count(*) FROM users WHERE totp_secret_encrypted IS NOT NULL")[0][0] < 40000

        pg.execute("ALTER TABLE users SET TABLESPACE pg_default")

        report = pg.encrypt()
        assert (report.verified, report.pending) == (40000, 0)
    finally:
        pg.execute("DROP TABLE users")
        pg.execute(f"DROP TABLESPACE small_{os.getpid()}")


def _postgres_user() -> tuple[int, int]:
    import pwd

    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    found = pwd.getpwnam("postgres")
    return found.pw_uid, found.pw_gid


def test_a_full_disk_of_sqlite(tmp_path: Path, small_disk: Path) -> None:
    app = Application(tmp_path)
    app.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, totp_secret TEXT)")
    app.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) "
        "INSERT INTO users SELECT i, printf('%0300d', i) FROM n"
    )
    real = tmp_path / "app.db"
    there = small_disk / "app.db"
    there.write_bytes(real.read_bytes())
    real.unlink()
    real.symlink_to(there)

    with pytest.raises(DiskFull, match="disk is full"):
        app.encrypt()

    kept = there.read_bytes()
    real.unlink()
    real.write_bytes(kept)
    report = app.encrypt()
    assert (report.verified, report.pending) == (60000, 0)


def test_time_passes(app: Application) -> None:
    """The report that is kept says who, when and how many; never a value."""
    app.fill()
    app.encrypt()
    rows = app.execute("SELECT * FROM identitymesh_columns")
    assert len(rows) == 1
    text = str(rows)
    assert '"verified": 4' in text
    assert time.strftime("%Y-") in text
    for seed in WRITTEN.values():
        if len(seed) > 1:
            assert seed not in text
