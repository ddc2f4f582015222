"""`identitymesh secrets list` takes a short way. It shows what the ordinary way shows, or leaves it to that."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identitymesh import composition
from identitymesh.cli import secret_list
from identitymesh.cli.main import lists_secrets
from tests.custody.conftest import CONNECTOR, Home

HEAVY = {"typer", "rich", "pydantic", "sqlalchemy", "structlog", "logging", "psycopg", "alembic", "difflib"}
PROGRAM = "from identitymesh.__main__ import main; main()"
LOADED = "import atexit, sys; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)));" + PROGRAM


@pytest.fixture
def filled(embedded: Home) -> Home:
    """Secrets with everything that a list shows."""
    for ref, *options in (
        ("secret://hr/reader", "--owner", "Zoë Łukasz", "--description", "the reader", "--cadence-days", "90"),
        ("secret://mail/smtp", "--keyring", "application"),
        ("secret://crm/token",),
    ):
        embedded.store(ref, "hunter2 pässword", *options)
    embedded.ok("apply", str(embedded.define(CONNECTOR.format(url="postgresql://reader@127.0.0.1:5/hr"))))
    embedded.sql(
        "UPDATE secret_ledger SET last_used = :at, last_used_by = 'hr', expires = :at WHERE ref = 'secret://crm/token'",
        at=datetime(2026, 3, 1, 2, 3, 4, 567, UTC).replace(tzinfo=None).isoformat(" ", "microseconds"),
    )
    return embedded


def program(home: Home, *arguments: str, code: str = PROGRAM, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **home.environment, "IDENTITYMESH_HOME": str(home.folder), **more}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def both(home: Home, *options: str, **more: str) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    """What the call answers as it is usually written, and with an option that sends it the ordinary way."""
    short = program(home, "secrets", "list", *options, **more)
    ordinary = program(home, "--home", str(home.folder), "secrets", "list", *options, **more)
    return (short.returncode, short.stdout, short.stderr), (ordinary.returncode, ordinary.stdout, ordinary.stderr)


def test_it_loads_next_to_nothing(filled: Home) -> None:
    loaded = set(program(filled, "secrets", "list", code=LOADED).stderr.split())
    assert "identitymesh.storage.glance" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_it_shows_what_the_ordinary_way_shows(filled: Home, options: tuple[str, ...]) -> None:
    short, ordinary = both(filled, *options)
    assert short == ordinary
    assert short[0] == 0
    assert all(ref in short[1] for ref in ("secret://hr/reader", "secret://mail/smtp", "secret://crm/token"))
    assert "hunter2" not in short[1]


def test_an_audience_that_was_edited_is_named(filled: Home) -> None:
    filled.sql("""UPDATE secret_ledger SET audience = '[["hr","evil:5432"]]' WHERE ref = 'secret://hr/reader'""")
    short, ordinary = both(filled)
    assert short == ordinary
    assert "problem: secret://hr/reader: its audience in the database was edited" in short[1]


def test_without_the_key_of_this_host_it_lists_too(filled: Home) -> None:
    (filled.folder / "host" / "connectors.key").unlink()
    short, ordinary = both(filled)
    assert short == ordinary
    assert short[0] == 0


def test_an_empty_list_says_what_to_do(embedded: Home) -> None:
    short, ordinary = both(embedded)
    assert short == ordinary
    assert "identitymesh secrets set" in short[1]


def test_what_is_wrong_is_said_by_the_ordinary_way(filled: Home) -> None:
    wrong_name = both(filled, IDENTITYMESH_SECRETS__PROVIDERS="database")
    wrong_value = both(filled, IDENTITYMESH_LOGGING__LEVEL="loud")
    no_database = both(filled, IDENTITYMESH_DATABASE__URL="sqlite:///elsewhere.db")
    filled.sql("UPDATE secret_ledger SET changed = 'nonsense' WHERE ref = 'secret://crm/token'")
    nonsense = both(filled)
    filled.sql("UPDATE alembic_version SET version_num = '0001'")
    outdated = both(filled, "--json")
    (filled.folder / "identitymesh.db").write_bytes(b"no database at all, " * 100)
    damaged = both(filled)
    (filled.folder / "identitymesh.toml").unlink()
    no_settings = both(filled)
    for short, ordinary in (wrong_name, wrong_value, no_database, nonsense, outdated, damaged, no_settings):
        assert short == ordinary
        assert short[0] != 0
    assert [one[0][0] for one in (wrong_name, wrong_value, no_database)] == [3, 3, 8]
    assert "Did you mean" in wrong_name[0][2]
    assert json.loads(outdated[0][2])["error"]["code"] == "schema-outdated"
    assert not (filled.folder / "elsewhere.db").exists()


def test_who_wants_a_log_or_another_provider_goes_the_ordinary_way(filled: Home, tmp_path: Path) -> None:
    assert short_way(filled) is not None
    for more in (
        {"IDENTITYMESH_LOGGING__LEVEL": "debug"},
        {"IDENTITYMESH_LOGGING__DESTINATION": "syslog", "IDENTITYMESH_LOGGING__ADDRESS": str(tmp_path / "syslog")},
        {"IDENTITYMESH_SECRETS__PROVIDER": "openbao"},
    ):
        assert short_way(filled, **more) is None
    filled.sql("UPDATE installation SET provider = 'openbao'")
    assert short_way(filled) is None


def short_way(home: Home, **more: str) -> object:
    with home.monkeypatch.context() as patched:
        for name, value in {**more, "IDENTITYMESH_HOME": str(home.folder)}.items():
            patched.setenv(name, value)
        return composition.list_secrets()


def test_a_secret_of_postgresql_is_listed_the_ordinary_way(home: Home) -> None:
    home.store("secret://hr/reader", "hunter2")
    found = short_way(home, **home.environment)
    assert (found is None) == (home.url is not None)
    short, ordinary = both(home)
    assert short == ordinary
    assert "secret://hr/reader" in short[1]


def test_nothing_is_written_while_it_looks(filled: Home) -> None:
    with closing(sqlite3.connect(filled.folder / "identitymesh.db")) as watching:

        def written() -> int:
            return int(watching.execute("PRAGMA data_version").fetchone()[0])

        before = written()
        assert short_way(filled) is not None
        assert written() == before


@pytest.mark.parametrize(
    ("arguments", "short"),
    [
        (["secrets", "list"], True),
        (["secrets", "list", "--json"], True),
        (["--json", "secrets", "list"], True),
        (["secrets", "list", "--help"], False),
        (["secrets", "list", "more"], False),
        (["--home", "secrets", "list"], False),
        (["--debug", "secrets", "list"], False),
        (["secrets"], False),
    ],
)
def test_which_calls_take_the_short_way(arguments: list[str], short: bool) -> None:
    assert lists_secrets(arguments) == short


def test_a_shell_that_completes_is_not_answered_with_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_IDENTITYMESH_COMPLETE", "complete_bash")
    assert not lists_secrets(["secrets", "list"])


def test_ctrl_c_and_a_reader_that_goes_away_end_it_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert secret_list.answer_with(interrupted, as_json=False) == 130
    assert capsys.readouterr().err == "stopped\n"

    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    assert secret_list.answer_with(list, as_json=False) == 141
    sys.stdout.close()
