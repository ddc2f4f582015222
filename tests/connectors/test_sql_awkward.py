from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from identitymesh.connectors.facade import Facade
from identitymesh.connectors.kinds.sql import opening
from identitymesh.connectors.kinds.sql.opening import tls_options
from identitymesh.connectors.kinds.sql.settings import PostgresAddress, SqlSettings, endpoints, scope
from identitymesh.connectors.kinds.sql.watermarks import read_watermark, write_watermark
from identitymesh.errors import (
    ConnectionLost,
    ConnectorMisconfigured,
    CredentialRefused,
    PermissionDenied,
    TimedOut,
    Unreachable,
)
from identitymesh.redaction import Secret
from tests.connectors.doubles import Credentials, facade
from tests.connectors.servers import self_signed
from tests.servers.postgresql import PostgresDatabase
from tests.servers.proxy import Proxy

Opener = Callable[..., Facade]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Opener]:
    """Runs a script in a fresh file, then opens a connector on it with ``user`` described as given."""
    path = tmp_path / "hr.db"
    with contextlib.ExitStack() as opened:

        def start(script: str, **user: Any) -> Facade:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.executescript(script)
            settings = {"type": "sql", "url": f"sqlite:///{path}", "timeout": 5, "objects": {"user": user}}
            return opened.enter_context(facade(settings, Credentials()))

        yield start


@pytest.fixture
def postgres(postgres_url: PostgresDatabase) -> Iterator[Opener]:
    with contextlib.ExitStack() as opened:

        def start(script: str, *, password: str | None = None, timeout: float = 20, **user: Any) -> Facade:
            with postgres_url.connect() as connection:
                connection.execute(script.encode())
            settings = {
                "type": "sql",
                "url": postgres_url.url,
                "password": "secret://hr/reader",
                "timeout": timeout,
                "objects": {"user": user},
            }
            credentials = Credentials(password=postgres_url.password if password is None else password)
            return opened.enter_context(facade(settings, credentials))

        yield start


class TestRows:
    SCRIPT = """
        CREATE TABLE p (k TEXT, v TEXT);
        INSERT INTO p VALUES ('a', '1'), ('b', '2'), ('a', '1'), (NULL, '3'), ('', '4'), ('c', '5')
    """

    @pytest.mark.parametrize("system", ["sqlite", "postgres"])
    def test_rows_without_a_key_and_with_the_key_of_another_are_bad(
        self, system: str, request: pytest.FixtureRequest
    ) -> None:
        start: Opener = request.getfixturevalue(system)
        (page,) = start(self.SCRIPT, table="p", key="k").read("user", [])
        assert sorted(entry.key for entry in page.entries) == ["a", "b", "c"]
        assert sorted((bad.key or "", bad.reason.split(":")[0]) for bad in page.bad) == [
            ("", "the key is empty"),
            ("", "the key is empty"),
            ("a", "duplicate key"),
        ]
        assert page.complete is not None
        assert page.complete.proof == "one snapshot, 6 of 6 rows"

    def test_pages_have_250_rows_of_a_thousand_that_are_fetched(self, postgres: Opener) -> None:
        opened = postgres("CREATE TABLE p AS SELECT i AS k FROM generate_series(1, 1300) AS i", table="p", key="k")
        assert [len(page.entries) for page in opened.read("user", [])] == [250, 250, 250, 250, 250, 50]

    def test_every_type_of_postgresql_has_its_form(self, postgres: Opener) -> None:
        opened = postgres(
            """
            SET TimeZone = 'Europe/Zurich';
            CREATE TABLE p AS SELECT 1 AS k, timestamptz '2026-11-22 09:30:00.5+01' AS zoned,
                timestamp '2026-11-22 08:30:00' AS plain, date '2026-11-22' AS day, date 'infinity' AS never,
                numeric '10.50' AS price, numeric '1e20' AS huge, 'NaN'::numeric AS odd, 1.5::float8 AS real,
                '6f9619ff-8b86-d011-b42d-00cf4fc964ff'::uuid AS id, '\\x00ff'::bytea AS photo,
                ARRAY['a', NULL, 'b'] AS several, ARRAY['one'] AS single, ARRAY[]::text[] AS none,
                ARRAY[1, 2] AS numbers, '{"b": 1, "a": [2]}'::jsonb AS document, true AS flag,
                interval '1 day 30 seconds' AS span, time '08:30' AS clock, inet '10.0.0.1' AS address,
                NULL::text AS nothing, '' AS empty
            """,
            table="p",
            key="k",
        )
        got = opened.get("user", "1")
        assert got is not None
        assert got.attributes == {
            "k": 1,
            "zoned": "2026-11-22T08:30:00.500000Z",
            "plain": "2026-11-22T08:30:00Z",
            "day": "2026-11-22",
            "never": "infinity",
            "price": "10.50",
            "huge": "100000000000000000000",
            "odd": "NaN",
            "real": 1.5,
            "id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "photo": b"\x00\xff",
            "several": ["a", "b"],
            "single": "one",
            "numbers": [1, 2],
            "document": '{"a":[2],"b":1}',
            "flag": True,
            "span": "PT86430S",
            "clock": "08:30:00",
            "address": "10.0.0.1",
            "empty": "",
        }
        types = {info.name: (info.type, info.many) for info in opened.schema("user")}
        assert types["zoned"] == ("datetime", False)
        assert types["price"] == ("decimal", False)
        assert types["several"] == ("string", True)
        assert types["numbers"] == ("integer", True)
        assert types["photo"] == ("binary", False)

    def test_a_value_that_has_no_form_spoils_its_row_alone(self, postgres: Opener) -> None:
        opened = postgres(
            "CREATE TABLE p AS SELECT 1 AS k, int4range(1, 2) AS r UNION SELECT 2, NULL", table="p", key="k"
        )
        (page,) = opened.read("user", [])
        assert [entry.key for entry in page.entries] == ["2"]
        assert [(bad.key, "column r" in bad.reason) for bad in page.bad] == [("1", True)]
        (page,) = opened.read("user", ["k"])
        assert len(page.entries) == 2

    def test_text_that_is_not_utf8_spoils_its_row_alone(self, sqlite: Opener) -> None:
        opened = sqlite(
            "CREATE TABLE p (k, v); INSERT INTO p VALUES ('a', CAST(x'ff41' AS TEXT)), ('b', 'fine')",
            table="p",
            key="k",
        )
        (page,) = opened.read("user", [])
        assert [entry.key for entry in page.entries] == ["b"]
        assert [bad.key for bad in page.bad] == ["a"]
        assert page.complete is not None

    @pytest.mark.parametrize("key", ["x'01'", "1.5"])
    def test_a_key_without_one_spelling_is_unreadable(self, sqlite: Opener, key: str) -> None:
        opened = sqlite(f"CREATE TABLE p (k, v); INSERT INTO p VALUES ({key}, 'x')", table="p", key="k")
        (page,) = opened.read("user", [])
        assert [bad.key for bad in page.bad] == [None]

    def test_names_are_quoted(self, postgres: Opener) -> None:
        opened = postgres(
            """CREATE SCHEMA "Odd:1"; CREATE TABLE "Odd:1"."people; --" ("the ""key"":x" text, "%s" text);
            INSERT INTO "Odd:1"."people; --" VALUES ('a', 'b')""",
            table="Odd:1.people; --",
            key='the "key":x',
            watermark="%s",
        )
        assert opened.get("user", "a") is not None
        assert [entry.key for entry in opened.lookup("user", "%s", "b")] == ["a"]
        (page,) = opened.read_since("user", [], "text:b")
        assert len(page.entries) == 1

    def test_a_key_is_found_whatever_its_type(self, sqlite: Opener, postgres: Opener) -> None:
        assert sqlite("CREATE TABLE p (k); INSERT INTO p VALUES (7)", query="SELECT k + 0 AS k FROM p", key="k").get(
            "user", "7"
        )
        opened = postgres("CREATE TABLE p AS SELECT gen_random_uuid() AS k", table="p", key="k")
        (page,) = opened.read("user", [])
        assert opened.get("user", page.entries[0].key) is not None
        assert opened.get("user", "not a uuid") is None

    def test_a_column_twice_is_refused(self, postgres: Opener) -> None:
        opened = postgres("CREATE TABLE p (k text, v text)", query="SELECT a.k, b.k FROM p a, p b", key="k")
        with pytest.raises(ConnectorMisconfigured, match="column k twice"):
            opened.test()

    @pytest.mark.parametrize("role", ["key", "watermark"])
    def test_a_column_that_is_not_there_is_named(self, sqlite: Opener, role: str) -> None:
        opened = sqlite("CREATE TABLE p (k, v)", **{"table": "p", "key": "k", role: "K"})
        with pytest.raises(ConnectorMisconfigured, match=f"no column K to be the {role}") as refused:
            opened.test()
        assert "k, v" in refused.value.hint


class TestOneSnapshot:
    def test_what_changes_while_it_is_read_is_not_half_there(
        self, postgres: Opener, postgres_url: PostgresDatabase
    ) -> None:
        opened = postgres("CREATE TABLE p AS SELECT i AS k FROM generate_series(1, 3000) AS i", table="p", key="k")
        pages = opened.read("user", [])
        first = next(pages)
        with postgres_url.connect() as connection:
            connection.execute("DELETE FROM p WHERE k % 2 = 0")
            connection.execute("INSERT INTO p SELECT i FROM generate_series(5001, 5100) AS i")
        rest = list(pages)
        assert sum(len(page.entries) for page in [first, *rest]) == 3000
        assert rest[-1].complete is not None
        assert rest[-1].complete.count == 3000

    def test_also_in_a_file(self, sqlite: Opener, tmp_path: Path) -> None:
        opened = sqlite(
            """PRAGMA journal_mode = wal; CREATE TABLE p (k);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
            INSERT INTO p SELECT i FROM n""",
            table="p",
            key="k",
        )
        pages = opened.read("user", [])
        first = next(pages)
        with contextlib.closing(sqlite3.connect(tmp_path / "hr.db")) as connection, connection:
            connection.execute("DELETE FROM p WHERE k > 10")
        assert sum(len(page.entries) for page in [first, *pages]) == 3000

    def test_a_query_that_answers_differently_each_time_proves_nothing(self, sqlite: Opener) -> None:
        opened = sqlite(
            """CREATE TABLE p (k); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
            INSERT INTO p SELECT i FROM n""",
            query="SELECT k FROM p WHERE random() % 2 = 0",
            key="k",
        )
        last = list(opened.read("user", []))[-1]
        assert last.complete is None
        assert last.watermark is None
        assert "do not fit their count" in last.incomplete


class TestWatermarks:
    def test_rows_that_share_the_last_value_and_rows_without_one_come_again(self, postgres: Opener) -> None:
        opened = postgres(
            """CREATE TABLE p (k text, w timestamptz);
            INSERT INTO p VALUES ('a', '2026-01-01'), ('b', '2026-01-02 03:04:05.123456'),
                ('c', '2026-01-02 03:04:05.123456'), ('d', NULL)""",
            table="p",
            key="k",
            watermark="w",
        )
        last = list(opened.read("user", []))[-1]
        assert last.watermark == "timestamptz:2026-01-02T03:04:05.123456+00:00"
        (page,) = opened.read_since("user", [], last.watermark)
        assert sorted(entry.key for entry in page.entries) == ["b", "c", "d"]
        assert page.watermark == last.watermark

    def test_the_watermark_of_each_page_is_safe_to_resume_from(self, postgres: Opener) -> None:
        opened = postgres(
            "CREATE TABLE p AS SELECT i AS k, 1301 - i AS w FROM generate_series(1, 1300) AS i",
            table="p",
            key="k",
            watermark="w",
        )
        marks = [page.watermark for page in opened.read_since("user", [], None)]
        assert marks == [f"integer:{last}" for last in (250, 500, 750, 1000, 1250, 1300)]

    def test_an_overlap_reads_back(self, postgres: Opener) -> None:
        opened = postgres(
            """CREATE TABLE p (k text, w timestamp);
            INSERT INTO p VALUES ('a', '2026-01-01 00:00:00'), ('b', '2026-01-01 00:01')""",
            table="p",
            key="k",
            watermark="w",
            overlap=60,
        )
        (page,) = opened.read_since("user", [], "timestamp:2026-01-01T00:01:00")
        assert len(page.entries) == 2

    @pytest.mark.parametrize(
        ("kind", "overlap", "since", "found"),
        [
            ("int", 2, "integer:5", 3),
            ("numeric", 2, "decimal:5", 3),
            ("float8", 1.5, "real:5.0", 2),
            ("text", 9, "text:5", 1),
        ],
    )
    def test_an_overlap_reads_back_numbers_too(
        self, postgres: Opener, kind: str, overlap: float, since: str, found: int
    ) -> None:
        opened = postgres(
            f"CREATE TABLE p AS SELECT i AS k, i::{kind} AS w FROM generate_series(1, 5) AS i",
            table="p", key="k", watermark="w", overlap=overlap,
        )  # fmt: skip
        (page,) = opened.read_since("user", [], since)
        assert len(page.entries) == found

    def test_an_overlap_of_days_reads_whole_days(self, postgres: Opener) -> None:
        opened = postgres(
            "CREATE TABLE p AS SELECT i AS k, date '2026-01-01' + i AS w FROM generate_series(0, 4) AS i",
            table="p", key="k", watermark="w", overlap=60,
        )  # fmt: skip
        (page,) = opened.read_since("user", [], "date:2026-01-05")
        assert sorted(entry.key for entry in page.entries) == ["3", "4"]

    @pytest.mark.parametrize(("overlap", "late"), [(0, []), (3600, ["late"])])
    def test_who_commits_late_is_found_by_an_overlap(
        self, postgres: Opener, postgres_url: PostgresDatabase, overlap: float, late: list[str]
    ) -> None:
        """What the page of the connector says: a row with a time that others have passed, committed after them."""
        opened = postgres(
            "CREATE TABLE p (k text, w timestamptz DEFAULT now())", table="p", key="k", watermark="w", overlap=overlap
        )
        with postgres_url.connect(autocommit=False) as slow:
            slow.execute("INSERT INTO p VALUES ('late')")
            with postgres_url.connect() as other:
                other.execute("INSERT INTO p VALUES ('early')")
            last = list(opened.read("user", []))[-1]
            slow.commit()
        (page,) = opened.read_since("user", [], last.watermark)
        assert sorted(entry.key for entry in page.entries) == ["early", *late]

    def test_an_empty_table_has_none(self, sqlite: Opener) -> None:
        opened = sqlite("CREATE TABLE p (k, w)", table="p", key="k", watermark="w")
        assert [page.watermark for page in opened.read("user", [])] == [None]

    def test_without_a_watermark_there_is_no_delta(self, sqlite: Opener) -> None:
        opened = sqlite("CREATE TABLE p (k)", table="p", key="k")
        with pytest.raises(ConnectorMisconfigured, match="no watermark"):
            list(opened.read_since("user", [], None))

    def test_a_foreign_watermark_is_refused(self, sqlite: Opener) -> None:
        opened = sqlite("CREATE TABLE p (k, w)", table="p", key="k", watermark="w")
        for foreign in ("2026-01-01", "integer:x", "cookie:abc", ""):
            with pytest.raises(ConnectorMisconfigured, match="watermark"):
                list(opened.read_since("user", [], foreign))

    @given(
        st.one_of(
            st.datetimes(),
            st.datetimes(timezones=st.timezones()),
            st.dates(),
            st.integers(),
            st.decimals(allow_nan=False, allow_infinity=False),
            st.floats(allow_nan=False),
            st.text(),
        )
    )
    def test_a_watermark_comes_back_as_what_it_was(self, value: Any) -> None:
        text = write_watermark(value)
        again = read_watermark(text)
        assert type(again) is type(value)
        if getattr(value, "tzinfo", None) is None or text == write_watermark(again):
            assert again == value or text == write_watermark(again)


class TestFailures:
    def test_a_wrong_password(self, postgres: Opener) -> None:
        opened = postgres("CREATE TABLE p (k text)", password="wrong-Passw0rd", table="p", key="k")
        with pytest.raises(CredentialRefused) as refused:
            opened.test()
        assert "wrong-Passw0rd" not in str(refused.value)
        assert refused.value.connector == "crm"

    def test_a_missing_table(self, postgres: Opener, sqlite: Opener) -> None:
        for start in (postgres, sqlite):
            with pytest.raises(ConnectorMisconfigured, match="ghost"):
                start("SELECT 1", table="ghost", key="k").test()

    def test_a_connection_killed_half_way(self, postgres: Opener, postgres_url: PostgresDatabase) -> None:
        opened = postgres("CREATE TABLE p AS SELECT i AS k FROM generate_series(1, 5000) AS i", table="p", key="k")
        pages = opened.read("user", [])
        assert next(pages).complete is None
        with postgres_url.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(ConnectionLost):
            list(pages)
        assert list(opened.read("user", []))[-1].complete is not None  # and the next read has a new connection

    def test_a_slow_query_is_stopped(self, postgres: Opener) -> None:
        opened = postgres("SELECT 1", timeout=0.3, query="SELECT 1 AS k FROM pg_sleep(20)", key="k")
        with pytest.raises(TimedOut):
            opened.get("user", "1")

    def test_a_slow_query_is_stopped_in_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE p (k)")
        query = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT max(k) AS k FROM n"
        settings = {
            "type": "sql",
            "url": f"sqlite:///{path}",
            "timeout": 0.2,
            "objects": {"user": {"query": query, "key": "k"}},
        }
        with facade(settings, Credentials()) as opened, pytest.raises(TimedOut):
            opened.test()

    def test_no_right_to_read(self, postgres: Opener, postgres_url: PostgresDatabase) -> None:
        opened = postgres("CREATE TABLE p (k text)", table="p", key="k")
        with postgres_url.connect() as connection:
            connection.execute("DROP ROLE IF EXISTS nobody_much")
            connection.execute("CREATE ROLE nobody_much LOGIN PASSWORD 'pw'")
        url = postgres_url.url.replace("app@", "nobody_much@")
        settings = {
            "type": "sql",
            "url": url,
            "password": "secret://a/b",
            "objects": {"user": {"table": "p", "key": "k"}},
        }
        with facade(settings, Credentials(password="pw")) as other, pytest.raises(PermissionDenied):
            other.test()
        opened.test()

    def test_nothing_is_written_whatever_the_query(self, postgres: Opener, postgres_url: PostgresDatabase) -> None:
        script = "CREATE SEQUENCE s; CREATE TABLE p (k text); INSERT INTO p VALUES ('a')"
        opened = postgres(script, query="SELECT k, nextval('s') FROM p", key="k")
        with pytest.raises(PermissionDenied):
            opened.test()
        with postgres_url.connect() as connection:
            assert connection.execute("SELECT last_value, is_called FROM s").fetchone() == (1, False)

    def test_a_missing_file_is_not_made(self, tmp_path: Path) -> None:
        path = tmp_path / "missing.db"
        settings = {"type": "sql", "url": f"sqlite:///{path}", "objects": {"user": {"table": "p", "key": "k"}}}
        with facade(settings, Credentials()) as opened, pytest.raises(Unreachable, match="no file"):
            opened.test()
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_database_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "text.db"
        path.write_text("this is no database, only text " * 100)
        settings = {"type": "sql", "url": f"sqlite:///{path}", "objects": {"user": {"table": "p", "key": "k"}}}
        with facade(settings, Credentials()) as opened, pytest.raises(ConnectorMisconfigured):
            opened.test()

    def test_a_server_that_is_not_there(self, postgres_url: PostgresDatabase) -> None:
        url = f"postgresql+psycopg://app@127.0.0.1:1/{postgres_url.name}"
        settings = {"type": "sql", "url": url, "objects": {"user": {"table": "p", "key": "k"}}}
        with facade(settings, Credentials()) as opened, pytest.raises(Unreachable):
            opened.test()

    def test_a_database_that_is_not_there(self, postgres_url: PostgresDatabase) -> None:
        url = postgres_url.url.replace(postgres_url.name, "ghost")
        settings = {
            "type": "sql",
            "url": url,
            "password": "secret://a/b",
            "objects": {"user": {"table": "p", "key": "k"}},
        }
        credentials = Credentials(password=postgres_url.password)
        with facade(settings, credentials) as opened, pytest.raises(ConnectorMisconfigured, match="ghost"):
            opened.test()

    @pytest.mark.parametrize("host", ["db.example.org", "192.0.2.1", "2001:db8::1", "127.0.0.1.example.org"])
    def test_a_server_elsewhere_proves_who_it_is_before_it_gets_the_password(self, host: str) -> None:
        address = PostgresAddress(host, 5432, "hr", "app")
        settings = SqlSettings.model_validate(describe("postgresql://app@db.example.org/hr", password="secret://a/b"))
        assert tls_options(address, settings) == {"sslmode": "verify-full", "sslrootcert": "system"}
        named = settings.model_copy(update={"ca_file": "ca.pem"})
        assert tls_options(address, named) == {"sslmode": "verify-full", "sslrootcert": "ca.pem"}
        assert tls_options(address, settings.model_copy(update={"allow_cleartext": True})) == {"sslmode": "prefer"}

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "/var/run/postgresql"])
    def test_a_server_here_needs_no_certificate(self, host: str) -> None:
        settings = SqlSettings.model_validate(describe("postgresql://app@localhost/hr"))
        assert tls_options(PostgresAddress(host, 5432, "hr", "app"), settings) == {"sslmode": "prefer"}

    def test_a_server_without_tls_is_refused_where_tls_is_wanted(
        self, postgres_url: PostgresDatabase, tmp_path: Path
    ) -> None:
        _, certificate = self_signed(tmp_path)
        settings = describe(postgres_url.url, password="secret://a/b", ca_file=str(certificate))
        credentials = Credentials(password=postgres_url.password)
        with facade(settings, credentials) as opened, pytest.raises(Unreachable, match="SSL"):
            opened.test()

    def test_two_threads_one_after_the_other(self, sqlite: Opener) -> None:
        opened = sqlite("CREATE TABLE p (k); INSERT INTO p VALUES (1)", table="p", key="k")
        opened.test()
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(opened.get("user", "1")))
        thread.start()
        thread.join()
        assert found[0] is not None


def describe(url: str = "sqlite:///hr.db", **changes: Any) -> dict[str, Any]:
    user = changes.pop("user", {"table": "p", "key": "k"})
    return {"type": "sql", "url": url, "objects": {"user": user}, **changes}


class TestSettings:
    @pytest.mark.parametrize(
        "query",
        [
            "select 1",
            "SELECT 1;",
            "  -- why\n/* what */ (select 1) union (select 2) ; -- end",
            "with x as (select 1) select * from x",
            "select 'a;b', \"c;d\", $$e;f$$, $tag$g;$$;h$tag$, E'i\\';j'",
        ],
    )
    def test_one_select_is_accepted(self, query: str) -> None:
        SqlSettings.model_validate(describe(user={"query": query, "key": "k"}))

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "-- nothing",
            "delete from p",
            "select 1; drop table p",
            "select 1;; select 2",
            "update p set k = 1",
            "explain select 1",
            "pragma x",
            "select 1 /* ; */; commit",
            "select '\\'; delete from p; --'",
            "begin",
        ],
    )
    def test_anything_else_is_refused(self, query: str) -> None:
        with pytest.raises(ValidationError):
            SqlSettings.model_validate(describe(user={"query": query, "key": "k"}))

    @pytest.mark.parametrize(
        "url",
        [
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///a.db?mode=rwc",
            "mysql://db/x",
            "postgresql://db.example.org",
            "postgresql://app:Hunter2@db.example.org/hr",
            "postgresql://app@db.example.org/hr?password=Hunter2",
            "postgresql://app@db.example.org/hr?sslmode=disable",
            "postgresql://app@db.example.org/hr?host=elsewhere.example.org",
            "postgresql://app@a,b/hr",
            "postgresql:///hr",
            "postgresql://app@db.example.org/hr?service=x",
            "not a url",
            "postgresql://app@db.example.org:port/hr",
            "postgresql://app@db.example.org:99999/hr",
            "postgresql://app@db.example.org:0/hr",
            "postgresql://app@db.example.org hostaddr=192.0.2.1/hr",
            "postgresql://app@db.example.org%20x/hr",
            "postgresql://app@db.example.org/hr%00x",
        ],
    )
    def test_other_urls_are_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(ValidationError) as refused:
            SqlSettings.model_validate(describe(url))
        assert "Hunter2" not in str(refused.value)
        assert "Hunter2" not in repr(refused.value.errors(include_input=False))

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("sqlite:///hr.db", ()),
            ("postgresql+psycopg://app@DB.example.org/hr", ("db.example.org:5432",)),
            ("postgresql://app@db.example.org:6432/hr?application_name=x", ("db.example.org:6432",)),
            ("postgresql://app@[2001:db8::1]/hr", ("[2001:db8::1]:5432",)),
            ("postgresql://app@/hr?host=/var/run/postgresql", ("/var/run/postgresql:5432",)),
            ("postgresql://app@/hr?host=/var/run/PostgreSQL", ("/var/run/PostgreSQL:5432",)),
        ],
    )
    def test_endpoints(self, url: str, expected: tuple[str, ...]) -> None:
        assert endpoints(SqlSettings.model_validate(describe(url))) == expected

    def test_the_scope_changes_with_what_selects_the_rows(self) -> None:
        base = scope(SqlSettings.model_validate(describe()), "user")
        others = [
            describe("sqlite:///other.db"),
            describe(user={"table": "q", "key": "k"}),
            describe(user={"table": "p", "key": "j"}),
            describe(user={"query": "select * from p", "key": "k"}),
        ]
        assert len({base, *(scope(SqlSettings.model_validate(other), "user") for other in others)}) == 5
        same = describe(user={"table": "p", "key": "k", "watermark": "w"}, timeout=3, schedule="* * * * *")
        assert scope(SqlSettings.model_validate(same), "user") == base

    @pytest.mark.parametrize(
        "changes",
        [
            {"password": "secret://a/b"},
            {"ca_file": "x"},
            {"passwort": "x"},
            {"objects": {}},
            {"user": {"key": "k"}},
            {"user": {"table": "p", "query": "select 1", "key": "k"}},
            {"user": {"table": "a.b.c", "key": "k"}},
            {"user": {"table": "p", "key": ""}},
            {"timeout": 0},
        ],
    )
    def test_what_means_nothing_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            SqlSettings.model_validate(describe(**changes))

    def test_a_password_in_the_place_of_its_reference_is_not_repeated(self) -> None:
        with pytest.raises(ValidationError) as refused:
            SqlSettings.model_validate(describe("postgresql://app@db.example.org/hr", password="Hunter2"))
        assert "Hunter2" not in str(refused.value) + repr(refused.value.errors(include_input=False))
        assert "secrets set" in str(refused.value)


def test_a_server_that_goes_silent_on_a_living_line_is_given_up(
    postgres_url: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_GRACE", 0.5)
    with Proxy(postgres_url.port) as proxy:
        url = f"postgresql+psycopg://{postgres_url.user}@127.0.0.1:{proxy.port}/{postgres_url.name}"
        settings = SqlSettings.model_validate(
            {
                "type": "sql",
                "url": url,
                "password": "secret://hr/reader",
                "timeout": 1,
                "objects": {"user": {"table": "t", "key": "id"}},
            }
        )
        address = settings.address
        assert isinstance(address, PostgresAddress)
        connection = opening.connect_postgres(address, settings, lambda _: Secret(postgres_url.password))
        assert connection.execute("SELECT 1").fetchone() == (1,)
        proxy.stall()
        with pytest.raises(psycopg.errors.ConnectionTimeout, match=r"no answer in 1\.5 s"):
            connection.execute("SELECT 1")
        assert connection.closed
