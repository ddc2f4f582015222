"""HR as a table: delta runs, and a table that is emptied, renamed or changed while rules use it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from identitymesh.connectors import patience
from identitymesh.connectors.kinds.csv import rows
from identitymesh.pipeline.importing import Staged, stage
from identitymesh.runs import imports
from identitymesh.runs.evaluation import Evaluation
from identitymesh.runs.reports import RunReport
from identitymesh.storage.mesh import SqlMesh
from tests.servers.postgresql import PostgresDatabase

from .sheets import DEFINITION, Company, Sql, company, postgres_sql, sqlite_sql

COUNT = 40


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(patience, "LEAST_PAUSE", 0.0)


class Hr:
    """The company, and the table that its people come from."""

    def __init__(self, firm: Company, sql: Sql, *, postgres: bool) -> None:
        self.firm = firm
        self.sql = sql
        self.postgres = postgres

    def put(self, person: str, changed: int | None, name: str | None = None, room: str = "1.01") -> None:
        at = f"timestamptz '2026-01-01Z' + interval '{changed}s'" if self.postgres else f"{changed}"
        self.sql("DELETE FROM employee WHERE id = " + repr(person))
        stamp = "NULL" if changed is None else at
        values = f"'{person}', '{name or 'Name ' + person}', '{room}', {stamp}"
        self.sql(f"INSERT INTO employee (id, name, room, changed) VALUES ({values})")

    def watermark(self) -> str | None:
        return SqlMesh(self.firm.world.database).watermark("hr", "user")

    def run(self, *, delta: bool = False) -> RunReport:
        return self.firm.world.run(delta=delta)

    def read(self, report: RunReport) -> int:
        (done,) = [one for one in report.imports if one.connector == "hr"]
        return done.read


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens the company with HR on either database; ``hr`` are more settings of the object."""
    url, sql = "'sqlite:///hr.db'", sqlite_sql(tmp_path / "hr.db")
    if request.param == "postgresql":
        database: PostgresDatabase = request.getfixturevalue("postgres_url")
        monkeypatch.setenv("PGPASSWORD", database.password)
        url, sql = database.url, postgres_sql(database)
    with contextlib.ExitStack() as stack:

        def start(hr: str = "watermark: changed") -> Hr:
            source = f"hr: {{type: sql, url: {url}, objects: {{user: {{table: employee, key: id, {hr}}}}}}}"
            old = "hr: {type: csv, objects: {user: {path: people.csv, key: id, expect: {trailer: END}}}}"
            stamp = "timestamptz" if request.param == "postgresql" else "integer"
            sql(f"CREATE TABLE employee (id text, name text, room text, changed {stamp})")
            firm = stack.enter_context(company(tmp_path, DEFINITION.replace(old, source)))
            made = Hr(firm, sql, postgres=request.param == "postgresql")
            for number in range(COUNT):
                made.put(f"p{number:02}", number)
            made.run()
            assert len(firm.holders()) == COUNT
            return made

        yield start


def nobody_left(hr: Hr, report: RunReport, code: str, words: str, before: str | None) -> None:
    """The run says what is wrong, every badge is there, and the watermark stands where it stood."""
    (done,) = [one for one in report.imports if one.connector == "hr"]
    assert report.state == "problems"
    assert done.error_code == code
    assert words in done.error
    assert done.removed == done.held_absences == 0
    assert len(hr.firm.holders()) == COUNT
    assert {one[1] for one in hr.firm.holders().values()} == {"1.01"}, "nobody lost a value"
    assert hr.watermark() == before


# -- delta ---------------------------------------------------------------------------


def test_a_delta_run_reads_what_changed_and_what_shares_the_last_value(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.put("p03", COUNT, room="2.02")
    hr.put("new", COUNT)

    report = hr.run(delta=True)

    assert hr.read(report) == 3, "the two, and the one that had the last value"
    assert report.exports[0].done == {"update": 1, "create": 1}
    assert hr.firm.holders()["p03"] == ("Name p03", "2.02", "valid")
    hr.put("same moment", COUNT)
    late = hr.run(delta=True)
    assert hr.read(late) == 3
    assert late.exports[0].done == {"create": 1}
    assert hr.run(delta=True).row_count == 0


def test_rows_without_a_watermark_come_with_every_delta(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.put("no stamp", None)
    before = hr.watermark()
    first = hr.run(delta=True)
    assert (hr.read(first), first.exports[0].done) == (2, {"create": 1})
    hr.put("no stamp", None, room="3.03")
    second = hr.run(delta=True)
    assert (hr.read(second), second.exports[0].done) == (2, {"update": 1})
    assert hr.watermark() == before, "they move nothing"


def test_a_delta_run_shows_nobody_leaving_and_a_full_one_does(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.sql("DELETE FROM employee WHERE id = 'p05'")
    assert hr.run(delta=True).row_count == 0
    assert "p05" in hr.firm.holders()
    hr.run()
    assert "p05" not in hr.firm.holders()


def test_a_row_that_commits_with_an_older_stamp_comes_with_the_next_full_run(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.put("late", 3)
    assert hr.run(delta=True).row_count == 0, "its stamp was passed long ago"
    assert hr.run().exports[0].done == {"create": 1}


def test_an_overlap_finds_it_at_once(opened: Callable[..., Hr]) -> None:
    hr = opened(f"watermark: changed, overlap: {COUNT}")
    hr.put("late", 3)
    assert hr.run(delta=True).exports[0].done == {"create": 1}


def test_a_clock_that_was_set_back_loses_nothing_for_good(opened: Callable[..., Hr]) -> None:
    """Rows get stamps of a time that was passed; the watermark stays at the highest until a full run has read them."""
    hr = opened()
    before = hr.watermark()
    hr.put("p01", 2, room="5.05")
    hr.run(delta=True)
    assert hr.watermark() == before
    assert hr.run().exports[0].done == {"update": 1}


def test_without_a_watermark_a_delta_run_reads_everything(opened: Callable[..., Hr]) -> None:
    hr = opened("overlap: 0")
    hr.put("new", None)
    report = hr.run(delta=True)
    assert hr.read(report) == COUNT + 1
    assert report.exports[0].done == {"create": 1}


def edit(hr: Hr, old: str, new: str) -> None:
    hr.firm.world.apply(lambda text: text.replace(old, new, 1), release=True)


def test_another_query_is_read_from_its_beginning(opened: Callable[..., Hr]) -> None:
    """Who matches only now has a stamp that was passed long ago."""
    hr = opened()
    narrow = "query: select * from employee where room <> '9.99'"
    edit(hr, "table: employee", narrow)
    hr.put("hidden", 3, room="9.99")
    hr.run()
    assert "hidden" not in hr.firm.holders()
    assert hr.read(hr.run(delta=True)) == 1
    edit(hr, narrow, "query: select * from employee")
    report = hr.run(delta=True)
    assert hr.read(report) == COUNT + 1
    assert report.exports[0].done == {"create": 1}
    assert hr.run().state == "done"
    assert hr.read(hr.run(delta=True)) == 1


def test_another_watermark_column_is_read_from_its_beginning(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.sql("ALTER TABLE employee ADD COLUMN number integer")
    hr.sql("UPDATE employee SET number = 7")
    edit(hr, "watermark: changed", "watermark: number")
    hr.put("new", 0)
    hr.sql("UPDATE employee SET number = 1 WHERE number IS NULL")
    assert hr.run(delta=True).exports[0].done == {"create": 1}
    assert hr.read(hr.run(delta=True)) == COUNT, "all that share the last value"


def test_a_run_of_the_old_definition_leaves_no_watermark_of_another_column(
    opened: Callable[..., Hr], monkeypatch: pytest.MonkeyPatch
) -> None:
    hr = opened()
    hr.sql("ALTER TABLE employee ADD COLUMN number integer")
    hr.sql("UPDATE employee SET number = 7")
    hr.put("late", COUNT)
    hr.sql("UPDATE employee SET number = 8 WHERE number IS NULL")
    edited: list[str] = []

    def slowly(*given: Any) -> Sequence[Staged]:
        if not edited:
            edited.append("watermark: number")
            edit(hr, "watermark: changed", edited[0])
        return stage(*given)

    monkeypatch.setattr(imports, "stage", slowly)
    assert hr.run(delta=True).exports[0].done == {"create": 1}
    hr.put("p03", -5, room="2.02")
    hr.sql("UPDATE employee SET number = 3 WHERE number IS NULL")
    assert hr.run(delta=True).exports[0].done == {"update": 1}


# -- what goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("delta", [False, True])
def test_a_renamed_table_makes_nobody_leave(opened: Callable[..., Hr], delta: bool) -> None:
    hr = opened()
    before = hr.watermark()
    hr.sql("ALTER TABLE employee RENAME TO person")
    nobody_left(hr, hr.run(delta=delta), "connector-misconfigured", "employee", before)
    hr.sql("ALTER TABLE person RENAME TO employee")
    hr.put("new", COUNT)
    assert hr.run(delta=True).exports[0].done == {"create": 1}


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE employee DROP COLUMN room", "no column room, which a rule uses"),
        ("ALTER TABLE employee RENAME COLUMN room TO office", "no column room, which a rule uses"),
        ("ALTER TABLE employee RENAME COLUMN id TO number", "no column id"),
        ("ALTER TABLE employee RENAME COLUMN changed TO stamp", "changed"),
    ],
)
def test_a_changed_schema_makes_nobody_lose_a_value(
    opened: Callable[..., Hr], change: str, words: str, delta: bool
) -> None:
    hr = opened()
    before = hr.watermark()
    hr.sql(change)
    nobody_left(hr, hr.run(delta=delta), "connector-misconfigured", words, before)


def test_a_new_column_changes_nothing(opened: Callable[..., Hr]) -> None:
    hr = opened()
    hr.sql("ALTER TABLE employee ADD COLUMN shoe_size integer")
    report = hr.run()
    assert (report.state, report.row_count) == ("done", 0)


def test_an_emptied_table_is_held(opened: Callable[..., Hr]) -> None:
    hr = opened()
    before = hr.watermark()
    hr.sql("DELETE FROM employee")

    report = hr.run()

    assert report.state == "held"
    assert report.imports[0].held_absences == COUNT
    assert len(hr.firm.holders()) == COUNT
    assert hr.watermark() == before
    for number in range(COUNT):
        hr.put(f"p{number:02}", number)
    again = hr.run()
    assert (again.state, again.row_count) == ("done", 0)


def test_few_changes_in_many_pages_are_stored_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit for a batch of changes, not one for each page that has some."""
    with company(tmp_path) as firm:
        taken: list[int] = []
        take = Evaluation.take

        def counting(self: Evaluation, connector: str, object_class: str, staged: Sequence[Staged]) -> None:
            taken.append(len(staged))
            take(self, connector, object_class, staged)

        monkeypatch.setattr(Evaluation, "take", counting)
        monkeypatch.setattr(rows, "PAGE", 10)
        monkeypatch.setattr(imports, "BATCH", 20)
        firm.hire(*(f"p{number:02}" for number in range(COUNT)))
        firm.world.run()
        assert [one for one in taken if one] == [20] * (COUNT // 20)
        for number in (3, 17, 29, 38):
            firm.people[f"p{number:02}"] = ("New name", "1.01")
        firm.write()
        taken.clear()
        report = firm.world.run()
        assert [one for one in taken if one] == [4]
        assert report.imports[0].changed == 4
        assert report.exports[0].done == {"update": 4}
