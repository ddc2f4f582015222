"""Tables that are written: types, constraints, triggers, views, rights, and answers that are lost."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identitymesh.connectors.contract import Modification
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.kinds.sql import snapshots
from identitymesh.connectors.kinds.sql.settings import SqlSettings
from identitymesh.connectors.kinds.sql.target import SqlTarget
from identitymesh.connectors.outcomes import Verdict
from identitymesh.errors import (
    ConnectionLost,
    ConnectorMisconfigured,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    ObjectRefused,
    PermissionDenied,
    Throttled,
)
from identitymesh.model.attributes import Attributes
from tests.connectors.doubles import Credentials, facade
from tests.servers.postgresql import PostgresDatabase
from tests.servers.proxy import Proxy


class Table:
    """A table of either database, a connector on it, and a way past the connector."""

    def __init__(self, execute: Callable[..., list[tuple[Any, ...]]], settings: dict[str, Any], password: str) -> None:
        self.sql = execute
        self.settings = settings
        self.password = password
        self._open = contextlib.ExitStack()

    def facade(self, **user: Any) -> Facade:
        settings = {**self.settings, "objects": {"user": {"table": "badge", "key": "no", **user}}}
        return self._open.enter_context(facade(settings, Credentials(password=self.password)))

    def close(self) -> None:
        self._open.close()

    @property
    def postgres(self) -> bool:
        return "password" in self.settings


@contextlib.contextmanager
def sqlite_table(path: Path) -> Iterator[Table]:
    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    execute("SELECT 1")
    path.touch()
    table = Table(execute, {"type": "sql", "url": f"sqlite:///{path}", "timeout": 3}, "")
    yield table
    table.close()


@contextlib.contextmanager
def postgres_table(database: PostgresDatabase, **settings: Any) -> Iterator[Table]:
    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            done = connection.execute(statement.encode(), values)
            return done.fetchall() if done.description else []

    url = {"type": "sql", "url": database.url, "password": "secret://badges/writer", "timeout": 20}
    table = Table(execute, {**url, **settings}, database.password)
    yield table
    table.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Table]:
    with sqlite_table(tmp_path / "badges.db") as table:
        yield table


@pytest.fixture
def postgres(postgres_url: PostgresDatabase) -> Iterator[Table]:
    with postgres_table(postgres_url) as table:
        yield table


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest) -> Table:
    found: Table = request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgres")
    return found


def change(opened: Facade, key: str, old: Attributes, new: Attributes) -> Any:
    return opened.write("user", key, Modification(new), expected=old, desired={**old, **new})


# -- what cannot be read is there ------------------------------------------------------


def test_a_row_that_cannot_be_taken_over_is_not_said_to_be_absent(table: Table) -> None:
    """Who is told that there is none makes another one."""
    table.sql("CREATE TABLE badge (no text, mail text)")
    table.sql("INSERT INTO badge VALUES (NULL, 'ann@example.com')")
    with pytest.raises(ObjectRefused, match="a row of badge cannot be taken over: the key is empty"):
        table.facade().lookup("user", "mail", "ann@example.com")


def test_nor_is_one_that_is_asked_for_by_its_key(postgres: Table) -> None:
    postgres.sql("CREATE TABLE badge (no text, tags text[])")
    postgres.sql("INSERT INTO badge VALUES ('1', '{{a},{b}}')")
    opened = postgres.facade()
    with pytest.raises(ObjectRefused, match="column tags has the type array of arrays"):
        opened.get("user", "1")
    with pytest.raises(ObjectRefused, match="column tags has the type array of arrays"):
        change(opened, "1", {"tags": "a"}, {"tags": "b"})


# -- types ----------------------------------------------------------------------------


def test_every_type_of_postgresql_takes_its_text(postgres: Table) -> None:
    postgres.sql(
        "CREATE TABLE badge (no uuid PRIMARY KEY DEFAULT gen_random_uuid(), born date, seen timestamptz,"
        " until timestamp, at time, span interval, flag boolean, small int2, big int8, ratio float8, single float4,"
        " pay numeric(10,2), photo bytea, tags text[], counts int[], photos bytea[], extra jsonb, plain json,"
        " place inet, fixed char(5), mood text)"
    )
    person: Attributes = {
        "born": "1990-02-28", "seen": "2026-11-22T08:30:00.123456Z", "until": "2026-12-31T00:00:00Z", "at": "08:30:00",
        "span": "PT90S", "flag": False, "small": 7, "big": 2**62, "ratio": 0.1, "single": 0.1, "pay": "10.50",
        "photo": b"\x00\xff", "tags": ['a "quoted" one', "back\\slash", "{},NULL", ""], "counts": [1, 2],
        "photos": [b"\x00", b"\xff\\"], "extra": '{"a":1}', "plain": '{"b":[1,2]}', "place": "10.0.0.1",
        "fixed": "abc  ", "mood": "NULL",
    }  # fmt: skip
    opened = postgres.facade()
    made = opened.create("user", person)
    assert made.attributes == person
    got = opened.get("user", made.key, list(person))
    assert got is not None
    assert got.attributes == person
    ((born, seen, flag, pay, tags),) = postgres.sql("SELECT born, seen, flag, pay::text, tags FROM badge")
    assert (str(born), flag, pay, tags) == ("1990-02-28", False, "10.50", person["tags"])
    assert seen == datetime(2026, 11, 22, 8, 30, 0, 123456, tzinfo=UTC)
    # and every one of them is guarded by the value that was read
    assert change(opened, made.key, person, {"mood": "new"}).verdict is Verdict.WRITTEN
    assert change(opened, made.key, {**person, "mood": "new"}, {"tags": "one"}).verdict is Verdict.WRITTEN
    assert postgres.sql("SELECT tags FROM badge") == [(["one"],)]


def test_a_time_without_a_zone_is_utc(postgres: Table) -> None:
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY, seen timestamptz)")
    postgres.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET timezone = %%L', current_database(),"
                 " 'Asia/Tokyo'); END $$")  # fmt: skip
    made = postgres.facade().create("user", {"no": "1", "seen": "2026-11-22T08:30:00"})
    assert made.attributes["seen"] == "2026-11-22T08:30:00Z"


def test_sqlite_keeps_what_it_is_given(sqlite: Table) -> None:
    sqlite.sql(
        "CREATE TABLE badge (no INTEGER PRIMARY KEY, flag BOOLEAN, said TEXT, pay NUMERIC, photo BLOB, born DATE)"
    )
    opened = sqlite.facade()
    made = opened.create("user", {"flag": True, "said": True, "pay": "10.5", "photo": b"\0", "born": "1990-02-28"})
    assert made.key == "1"
    assert made.attributes == {"flag": 1, "said": "true", "pay": 10.5, "photo": b"\0", "born": "1990-02-28"}
    assert sqlite.sql("SELECT flag, said, pay, photo, born FROM badge") == [(1, "true", 10.5, b"\0", "1990-02-28")]
    with pytest.raises(ObjectRefused, match="64 bits"):
        opened.create("user", {"flag": 2**63})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("not a number", "invalid input syntax"),
        (True, "invalid input syntax"),
        (2**70, "out of range"),
        ("", "invalid"),
    ],
)
def test_a_value_that_the_column_cannot_have_is_refused_for_this_row(postgres: Table, value: Any, why: str) -> None:
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY, floor int)")
    opened = postgres.facade()
    with pytest.raises(ObjectRefused, match=why):
        opened.create("user", {"no": "1", "floor": value})
    assert opened.create("user", {"no": "1", "floor": 3}).attributes["floor"] == 3


def test_bytes_and_lists_need_their_columns(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name varchar(5))")
    opened = table.facade()
    with pytest.raises(ObjectRefused, match="takes one value; there are 2"):
        opened.create("user", {"no": "1", "name": ["a", "b"]})
    if table.postgres:
        for value, why in ((b"\0", "takes no bytes"), ("sixsix", "too long"), ("n\0l", "NUL")):
            with pytest.raises(ObjectRefused, match=why):
                opened.create("user", {"no": "1", "name": value})
    assert table.sql("SELECT * FROM badge") == []


def test_absent_is_null_and_empty_is_empty(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text, room text DEFAULT 'lobby')")
    opened = table.facade()
    assert opened.create("user", {"no": "1", "name": ""}).attributes == {"no": 1, "name": ""}
    assert table.sql("SELECT * FROM badge") == [(1, "", "lobby")]
    outcome = opened.write("user", "1", Modification({}, ["name", "room"]), expected={"name": ""}, desired={})
    assert outcome.verdict is Verdict.STALE, "the room was set by somebody else"
    outcome = opened.write(
        "user", "1", Modification({}, ["name", "room"]), expected={"name": "", "room": "lobby"}, desired={}
    )
    assert outcome.verdict is Verdict.WRITTEN
    assert table.sql("SELECT * FROM badge") == [(1, None, None)]


def test_a_row_of_defaults_alone(table: Table) -> None:
    serial = "serial" if table.postgres else "INTEGER"
    table.sql(f"CREATE TABLE badge (no {serial} PRIMARY KEY, name text DEFAULT 'x')")
    assert table.facade().create("user", {}).key == "1"


# -- only the row that was read ---------------------------------------------------------


def test_a_key_that_several_rows_have_touches_none(table: Table) -> None:
    table.sql("CREATE TABLE badge (no text, name text)")
    table.sql("INSERT INTO badge VALUES ('1', 'a'), ('1', 'a'), ('2', 'b')")
    opened = table.facade()
    for call in (
        lambda: change(opened, "1", {"name": "a"}, {"name": "new"}),
        lambda: opened.remove("user", "1", expected={"name": "a"}),
    ):
        with pytest.raises((ObjectRefused, ConnectorMisconfigured), match="same no"):
            call()
    with pytest.raises(ObjectExists):
        opened.create("user", {"no": "2", "name": "second"})
    assert sorted(table.sql("SELECT * FROM badge")) == [("1", "a"), ("1", "a"), ("2", "b")]


def test_a_second_row_between_look_and_change_touches_none(table: Table) -> None:
    """The connector itself is asked, past the facade's own look."""
    table.sql("CREATE TABLE badge (no text, name text)")
    table.sql("INSERT INTO badge VALUES ('1', 'a')")
    target = connector(table)
    current = target.get("user", "1", ["name"])
    assert current is not None
    table.sql("INSERT INTO badge VALUES ('1', 'a')")
    with pytest.raises(ObjectRefused, match="2 rows"):
        target.update("user", current, Modification({"name": "new"}))
    with pytest.raises(ObjectRefused, match="2 rows"):
        target.delete("user", current)
    target.close()
    assert table.sql("SELECT * FROM badge") == [("1", "a"), ("1", "a")]


def connector(table: Table) -> SqlTarget:
    settings = SqlSettings.model_validate({**table.settings, "objects": {"user": {"table": "badge", "key": "no"}}})
    return SqlTarget(settings, Credentials(password=table.password))


@pytest.mark.parametrize("meanwhile", ["UPDATE badge SET name = 'b'", "UPDATE badge SET room = 'new'"])
def test_what_changed_after_the_look_is_left_alone(table: Table, meanwhile: str) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text, room text, other text)")
    table.sql("INSERT INTO badge (no, name) VALUES (1, 'a')")
    target = connector(table)
    current = target.get("user", "1", ["name", "room"])
    assert current is not None
    table.sql(meanwhile)
    for call in (
        lambda: target.update("user", current, Modification({"name": "new"})),
        lambda: target.delete("user", current),
    ):
        with pytest.raises(ObjectChanged):
            call()
    table.sql("DELETE FROM badge")
    with pytest.raises(ObjectMissing):
        target.update("user", current, Modification({"name": "new"}))
    target.close()


def test_other_columns_may_change_meanwhile(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text, other text)")
    table.sql("INSERT INTO badge (no, name) VALUES (1, 'a')")
    target = connector(table)
    current = target.get("user", "1", ["name"])
    assert current is not None
    table.sql("UPDATE badge SET other = 'theirs'")
    assert target.update("user", current, Modification({"name": "new"})).attributes == {"name": "new"}
    target.close()
    assert table.sql("SELECT * FROM badge") == [(1, "new", "theirs")]


def test_a_transaction_that_was_first_wins(postgres: Table, postgres_url: PostgresDatabase) -> None:
    """The other one changes the row after our look inside the transaction: the WHERE alone can see that."""
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    postgres.sql("INSERT INTO badge VALUES (1, 'a')")
    target = connector(postgres)
    current = target.get("user", "1", ["name"])
    assert current is not None
    for theirs in ("UPDATE badge SET name = 'theirs'", "DELETE FROM badge"):
        with postgres_url.connect(autocommit=False) as other:
            other.execute(theirs.encode())
            raised: list[BaseException] = []

            def write() -> None:
                try:
                    target.update("user", current, Modification({"name": "ours"}))
                except ObjectChanged as error:
                    raised.append(error)  # noqa: B023  one thread at a time

            writer = threading.Thread(target=write)
            writer.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            end = time.monotonic() + 20
            while postgres.sql(waiting) == [(0,)] and time.monotonic() < end:
                time.sleep(0.01)
            other.commit()
            writer.join()
        assert len(raised) == 1, theirs
        postgres.sql("DELETE FROM badge")
        postgres.sql("INSERT INTO badge VALUES (1, 'a')")
    target.close()


def test_the_key_itself_can_change(table: Table) -> None:
    table.sql("CREATE TABLE badge (no text PRIMARY KEY, name text)")
    table.sql("INSERT INTO badge VALUES ('1', 'a'), ('2', 'b')")
    opened = table.facade()
    outcome = change(opened, "1", {"no": "1", "name": "a"}, {"no": "3"})
    assert outcome.verdict is Verdict.WRITTEN
    assert outcome.entry.key == "3"
    with pytest.raises(ObjectRefused, match=r"(?i)unique"):
        change(opened, "3", {"no": "3"}, {"no": "2"})
    assert sorted(table.sql("SELECT * FROM badge")) == [("2", "b"), ("3", "a")]


# -- what the database does by itself ---------------------------------------------------


def test_a_trigger_that_changes_what_was_written_is_answered(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    if table.postgres:
        table.sql(
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN UPDATE badge SET name = upper(name) WHERE no = NEW.no AND name <> upper(name);"
            " RETURN NULL; END $$"
        )
        table.sql("CREATE TRIGGER loud AFTER INSERT OR UPDATE ON badge FOR EACH ROW EXECUTE FUNCTION loud()")
    else:
        for event in ("INSERT", "UPDATE"):
            table.sql(
                f"CREATE TRIGGER loud_{event} AFTER {event} ON badge"
                " BEGIN UPDATE badge SET name = upper(name) WHERE no = NEW.no AND name <> upper(name); END"
            )
    opened = table.facade()
    assert opened.create("user", {"no": "1", "name": "ann"}).attributes["name"] == "ANN"
    outcome = change(opened, "1", {"name": "ANN"}, {"name": "eve"})
    assert outcome.verdict is Verdict.WRITTEN
    assert outcome.entry.attributes["name"] == "EVE"


def test_a_trigger_that_keeps_the_row_is_told(postgres: Table) -> None:
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    postgres.sql("INSERT INTO badge VALUES (1, 'a')")
    postgres.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    postgres.sql("CREATE TRIGGER no BEFORE INSERT OR UPDATE OR DELETE ON badge FOR EACH ROW EXECUTE FUNCTION no()")
    opened = postgres.facade()
    for call in (
        lambda: opened.create("user", {"no": "2", "name": "b"}),
        lambda: change(opened, "1", {"name": "a"}, {"name": "new"}),
        lambda: opened.remove("user", "1", expected={"name": "a"}),
    ):
        with pytest.raises(ObjectRefused, match="did not take"):
            call()


def test_a_trigger_that_refuses_says_why(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    if table.postgres:
        table.sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
                  " $$ BEGIN RAISE EXCEPTION 'no badges on Sundays'; END $$")  # fmt: skip
        table.sql("CREATE TRIGGER no BEFORE INSERT ON badge FOR EACH ROW EXECUTE FUNCTION no()")
    else:
        table.sql("CREATE TRIGGER no BEFORE INSERT ON badge BEGIN SELECT RAISE(ABORT, 'no badges on Sundays'); END")
    with pytest.raises(ObjectRefused, match="no badges on Sundays"):
        table.facade().create("user", {"no": "1"})


def test_constraints_speak_for_their_row(table: Table) -> None:
    table.sql("CREATE TABLE room (no int PRIMARY KEY)")
    table.sql(
        "CREATE TABLE badge (no int PRIMARY KEY, name text NOT NULL CHECK (name <> 'x'), mail text UNIQUE,"
        " room int REFERENCES room)"
    )
    opened = table.facade()
    opened.create("user", {"no": "1", "name": "a", "mail": "a@example.org"})
    refused: list[tuple[Attributes, type[Exception]]] = [
        ({"no": "2"}, ObjectRefused),
        ({"no": "2", "name": "x"}, ObjectRefused),
        ({"no": "2", "name": "b", "room": 5}, ObjectRefused),
        ({"no": "2", "name": "b", "mail": "a@example.org"}, ObjectExists),
        ({"no": "1", "name": "b"}, ObjectExists),
    ]
    for attributes, kind in refused:
        with pytest.raises(kind):
            opened.create("user", attributes)
    with pytest.raises(ObjectRefused, match=r"(?i)null"):
        opened.write("user", "1", Modification({}, ["name"]), expected={"name": "a"}, desired={})
    assert table.sql("SELECT no, name FROM badge") == [(1, "a")]


def test_a_row_that_others_refer_to_stays(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    table.sql("CREATE TABLE door (badge int REFERENCES badge)")
    table.sql("INSERT INTO badge VALUES (1, 'a')")
    table.sql("INSERT INTO door VALUES (1)")
    with pytest.raises(ObjectRefused, match=r"(?i)foreign key"):
        table.facade().remove("user", "1", expected={"name": "a"})
    assert table.sql("SELECT * FROM badge") == [(1, "a")]


# -- views, columns, rights ---------------------------------------------------------------


def test_a_view_that_cannot_be_written_is_named(table: Table) -> None:
    table.sql("CREATE TABLE real (no int PRIMARY KEY, name text)")
    table.sql("INSERT INTO real VALUES (1, 'a')")
    table.sql("CREATE VIEW badge AS SELECT no, max(name) AS name FROM real GROUP BY no")
    opened = table.facade()
    for call in (
        lambda: opened.create("user", {"no": "2", "name": "b"}),
        lambda: change(opened, "1", {"name": "a"}, {"name": "b"}),
        lambda: opened.remove("user", "1", expected={"name": "a"}),
    ):
        with pytest.raises(ConnectorMisconfigured, match="view"):
            call()


def test_a_view_with_triggers_is_written(table: Table) -> None:
    table.sql("CREATE TABLE real (no int PRIMARY KEY, name text, gone int)")
    table.sql("CREATE VIEW badge AS SELECT no, name FROM real WHERE gone IS NULL")
    if not table.postgres:  # PostgreSQL writes through such a view by itself
        table.sql(
            "CREATE TRIGGER i INSTEAD OF INSERT ON badge BEGIN INSERT INTO real VALUES (NEW.no, NEW.name, NULL); END"
        )
        table.sql(
            "CREATE TRIGGER u INSTEAD OF UPDATE ON badge BEGIN UPDATE real SET name = NEW.name WHERE no = OLD.no; END"
        )
        table.sql("CREATE TRIGGER d INSTEAD OF DELETE ON badge BEGIN UPDATE real SET gone = 1 WHERE no = OLD.no; END")
    opened = table.facade()
    assert opened.create("user", {"no": 1, "name": "a"}).key == "1"
    if not table.postgres:
        with pytest.raises(ObjectRefused, match="key"):
            opened.create("user", {"name": "nobody"})
    assert change(opened, "1", {"name": "a"}, {"name": "b"}).verdict is Verdict.WRITTEN
    assert opened.remove("user", "1", expected={"name": "b"}).verdict is Verdict.WRITTEN
    assert opened.get("user", "1") is None


def test_a_view_whose_trigger_keeps_the_row_is_told(sqlite: Table) -> None:
    sqlite.sql("CREATE TABLE real (no int PRIMARY KEY, name text)")
    sqlite.sql("INSERT INTO real VALUES (1, 'a')")
    sqlite.sql("CREATE VIEW badge AS SELECT no, name FROM real")
    sqlite.sql("CREATE TRIGGER d INSTEAD OF DELETE ON badge BEGIN SELECT 1; END")
    with pytest.raises(ObjectRefused, match="still in badge"):
        sqlite.facade().remove("user", "1", expected={"name": "a"})


def test_a_column_that_is_gone_is_named(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    opened = table.facade()
    with pytest.raises(ConnectorMisconfigured, match="no column title") as missing:
        opened.create("user", {"no": "1", "title": "x"})
    assert "no, name" in missing.value.hint
    opened.create("user", {"no": "1", "name": "a"})
    table.sql("ALTER TABLE badge RENAME COLUMN name TO full_name")
    for call in (
        lambda: opened.create("user", {"no": "2", "name": "b"}),
        lambda: change(opened, "1", {"name": "a"}, {"name": "b"}),
    ):
        with pytest.raises(ConnectorMisconfigured, match="name"):
            call()


def test_a_generated_column_is_the_databases_own(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text, loud text GENERATED ALWAYS AS (upper(name)) STORED)")
    opened = table.facade()
    assert opened.create("user", {"no": "1", "name": "a"}).key == "1"
    with pytest.raises(ConnectorMisconfigured, match="loud"):
        opened.create("user", {"no": "2", "loud": "B"})


def test_a_table_that_is_gone_is_named(table: Table) -> None:
    with pytest.raises(ConnectorMisconfigured, match="badge"):
        table.facade().create("user", {"no": "1"})


def test_a_query_is_read_only(table: Table) -> None:
    table.sql("CREATE TABLE badge (no int PRIMARY KEY)")
    opened = table.facade(table=None, query="SELECT * FROM badge")
    for call in (
        lambda: opened.create("user", {"no": "1"}),
        lambda: change(opened, "1", {"no": 1}, {"no": "2"}),
    ):
        if not table.sql("SELECT * FROM badge"):
            table.sql("INSERT INTO badge VALUES (1)")
        with pytest.raises(ConnectorMisconfigured, match="cannot be written"):
            call()


def test_who_may_only_read_is_told_what_is_missing(postgres: Table, postgres_url: PostgresDatabase) -> None:
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
    postgres.sql("INSERT INTO badge VALUES (1, 'a')")
    postgres.sql("CREATE ROLE lookup LOGIN PASSWORD 'only reads'")
    postgres.sql("GRANT SELECT ON badge TO lookup")
    url = postgres_url.url.replace(f"//{postgres_url.user}@", "//lookup@")
    settings = {**postgres.settings, "url": url, "objects": {"user": {"table": "badge", "key": "no"}}}
    try:
        with facade(settings, Credentials(password="only reads")) as opened:
            for call in (
                lambda: opened.create("user", {"no": "2", "name": "b"}),
                lambda: change(opened, "1", {"name": "a"}, {"name": "b"}),
                lambda: opened.remove("user", "1", expected={"name": "a"}),
            ):
                with pytest.raises(PermissionDenied, match="permission denied") as denied:
                    call()
                assert "Grant" in denied.value.hint
    finally:
        postgres.sql("DROP OWNED BY lookup")
        postgres.sql("DROP ROLE lookup")


def test_a_server_that_is_read_only_is_told(postgres: Table) -> None:
    postgres.sql("CREATE TABLE badge (no int PRIMARY KEY)")
    postgres.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on',"
                 " current_database()); END $$")  # fmt: skip
    with pytest.raises(PermissionDenied, match="read-only"):
        postgres.facade().create("user", {"no": "1"})


def test_a_file_that_is_read_only_is_told(sqlite: Table, tmp_path: Path) -> None:
    sqlite.sql("CREATE TABLE badge (no int PRIMARY KEY)")
    path = tmp_path / "badges.db"
    raw = path.read_bytes()
    other = tmp_path / "wal"
    other.mkdir()
    (other / "badges.db").write_bytes(raw.replace(b"SQLite format 3\0", b"SQLite format 3\0")[:18] + b"\x63" + raw[19:])
    settings = {**sqlite.settings, "url": f"sqlite:///{other / 'badges.db'}"}
    settings["objects"] = {"user": {"table": "badge", "key": "no"}}
    # A format that this SQLite may read and not write (https://sqlite.org/fileformat.html, offset 18).
    with facade(settings, Credentials()) as opened, pytest.raises(PermissionDenied, match="readonly"):
        opened.create("user", {"no": "1"})


def test_a_target_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with sqlite_table(tmp_path / "x.db") as table:
        (tmp_path / "x.db").unlink()
        with pytest.raises(Exception, match="there is no file"):
            table.facade().create("user", {"no": "1"})
        assert not (tmp_path / "x.db").exists()


def test_a_locked_file_is_waited_for_and_nothing_was_written(sqlite: Table, tmp_path: Path) -> None:
    sqlite.sql("CREATE TABLE badge (no int PRIMARY KEY)")
    sqlite.settings["timeout"] = 0.2
    with contextlib.closing(sqlite3.connect(tmp_path / "badges.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Throttled, match="locked"):
            sqlite.facade().create("user", {"no": "1"})
    assert sqlite.facade().create("user", {"no": "1"}).key == "1"


def test_a_source_is_never_opened_for_writing(sqlite: Table, tmp_path: Path) -> None:
    sqlite.sql("CREATE TABLE badge (no int PRIMARY KEY)")
    (tmp_path / "badges.db").chmod(0o400)
    opened = sqlite.facade()
    opened.test()
    assert list(opened.read("user", ["no"]))[-1].complete is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["badges.db"]


# -- answers that are lost ------------------------------------------------------------------


@pytest.fixture
def proxied(postgres_url: PostgresDatabase) -> Iterator[tuple[Table, Proxy]]:
    with Proxy(postgres_url.port, postgres_url.host) as proxy:
        url = postgres_url.url.replace(f":{postgres_url.port}/", f":{proxy.port}/")
        with postgres_table(postgres_url, url=url) as table:
            table.sql("CREATE TABLE badge (no int PRIMARY KEY, name text)")
            yield table, proxy


@pytest.mark.parametrize("delivered", [True, False])
def test_a_connection_that_is_lost_at_commit(proxied: tuple[Table, Proxy], delivered: bool) -> None:
    table, proxy = proxied
    opened = table.facade()
    opened.create("user", {"no": "1", "name": "a"})
    proxy.cut_at(b"COMMIT", delivered=delivered)
    with pytest.raises(ConnectionLost):
        opened.create("user", {"no": "2", "name": "b"})
    assert proxy.cuts == 1, "a create whose answer was lost is not repeated"
    proxy.open()
    end = time.monotonic() + 20
    while delivered and len(table.sql("SELECT * FROM badge")) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    found = opened.lookup("user", "no", "2", ["no", "name"])
    assert [entry.attributes for entry in found] == ([{"no": 2, "name": "b"}] if delivered else [])


def test_who_stands_still_in_a_write_leaves_no_row_when_it_wakes_up(
    proxied: tuple[Table, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = proxied
    opened = table.facade()
    opened.create("user", {"no": "1", "name": "a"})
    monkeypatch.setattr(snapshots, "STILL", 0.1)
    read_again = SqlTarget._again

    def stands_still(*given: Any) -> Any:
        end = time.monotonic() + 20
        writing = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND starts_with(query, 'INSERT')"
        while table.sql(writing) and time.monotonic() < end:
            time.sleep(0.01)
        return read_again(*given)

    monkeypatch.setattr(SqlTarget, "_again", stands_still)
    with pytest.raises(ConnectionLost):
        opened.create("user", {"no": "2", "name": "b"})
    assert table.sql("SELECT no FROM badge") == [(1,)]
    monkeypatch.undo()
    assert opened.create("user", {"no": "2", "name": "b"}).key == "2"


def test_an_update_whose_answer_was_lost_is_seen_to_be_done(proxied: tuple[Table, Proxy]) -> None:
    table, proxy = proxied
    opened = table.facade()
    opened.create("user", {"no": "1", "name": "a"})
    proxy.cut_at(b"COMMIT", times=1)
    outcome = change(opened, "1", {"name": "a"}, {"name": "b"})
    assert outcome.settled
    assert proxy.cuts == 1
    assert table.sql("SELECT * FROM badge") == [(1, "b")]
