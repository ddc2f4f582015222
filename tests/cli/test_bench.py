"""`identitymesh bench`: what it compares, and that it touches nothing of the installation that is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from identitymesh.cli import measuring
from identitymesh.errors import ExitCode
from tests.cli.conftest import Shell
from tests.servers.postgresql import PostgresDatabase


@pytest.mark.parametrize(("unchanged", "reached"), [(2.9, True), (3.1, False)])
def test_a_line_that_misses_its_reach_is_said_and_is_the_exit_code(
    shell: Shell, unchanged: float, reached: bool
) -> None:
    seconds = {"first": 10.0, "bare": 6.0, "read": 1.0, "unchanged": unchanged}

    def imitated(command: Sequence[str], _: dict[str, str]) -> dict[str, float]:
        return {"seconds": seconds.get(command[5], 0.1), "resident": 90.0}

    shell.monkeypatch.setattr(measuring, "carry_out", imitated)

    answer = shell("bench", "--people", "1000")

    assert answer.code == (ExitCode.DONE if reached else ExitCode.FAILED)
    assert "bare inserts of the same rows: 0.60 (at least 0.5)\n  100 people/s, bare inserts 167 people/s" in answer.out
    assert (f"no-change pass / reading both sides: {unchanged:.2f} (at most 3) MISS" in answer.out) is not reached
    document = shell("bench", "--people", "1000", "--json").document
    assert [one["reached"] for one in document["lines"]] == [True, reached]


def test_a_pass_that_fails_is_told_in_its_own_last_words(shell: Shell, tmp_path: Path) -> None:
    answer = shell("bench", "--people", "100", "--database-url", "sqlite:///x?y=z", "--json")
    assert answer.code == ExitCode.FAILED
    assert answer.error["code"] == "bench-failed"
    assert "has the option 'y'" in answer.error["message"]


def test_it_measures_on_both_databases_and_not_on_the_one_that_is_configured(
    tmp_path: Path, postgres_url: PostgresDatabase
) -> None:
    password = tmp_path / "password"
    password.write_text(postgres_url.password)
    password.chmod(0o400)
    program = "from identitymesh.composition import main; main()"
    more = ["--database-url", postgres_url.url.replace("+psycopg", ""), "--password-file", str(password)]
    done = subprocess.run(
        [sys.executable, "-c", program, "bench", "--people", "150", "--json", *more],
        cwd=tmp_path,
        env={**os.environ, "IDENTITYMESH_DATABASE__URL": f"sqlite:///{tmp_path}/configured.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = json.loads(done.stdout)["lines"]
    assert [one["name"].partition(" / ")[0] for one in lines] == [
        "first full sync up to planned rows",
        "no-change pass",
        "first full sync on PostgreSQL",
    ]
    assert done.returncode == (0 if all(one["reached"] for one in lines) else 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["password"]
    with postgres_url.connect() as connection:
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (150,)
