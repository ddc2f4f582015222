"""Badges in a table, kept in step with HR in a file: on SQLite and on PostgreSQL, looked at past the product."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from identitymesh.connectors import patience
from tests.servers.postgresql import PostgresDatabase
from tests.servers.proxy import Proxy

from .sheets import BADGES, DEFINITION, Company, company
from .world import target

VALID = ("Name 1", "1.01", "valid")
Opener = Callable[..., Company]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(patience, "LEAST_PAUSE", 0.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens the company on either database."""
    database: PostgresDatabase | None = None
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres_url")
        monkeypatch.setenv("PGPASSWORD", database.password)
    with contextlib.ExitStack() as stack:

        def start(definition: str = DEFINITION, table: str = BADGES) -> Company:
            return stack.enter_context(company(tmp_path, definition, badges=database, table=table))

        yield start


def rule(**lines: str) -> str:
    """The definition with other lines in its projection."""
    text = DEFINITION.replace("on_leave: delete", f"on_leave: {lines.pop('on_leave', 'delete')}")
    more = "".join(f"      {name}: {value}\n" for name, value in lines.items())
    return text.replace("      attributes: {person_no", f"{more}      attributes: {{person_no")


def test_badges_follow_people(opened: Opener) -> None:
    firm = opened()
    firm.sql("INSERT INTO badge_holder VALUES ('visitor', 'Nobody of HR', NULL, 'valid')")
    firm.hire("1", "2", "3")

    first = firm.world.run()
    assert first.exports[0].done == {"create": 3}
    assert firm.holders()["1"] == VALID
    second = firm.world.run()
    assert second.state == "done"
    assert second.row_count == 0, "what a default added is no difference"

    firm.people["2"] = ("Name 2", "")
    firm.write()
    third = firm.world.run()
    assert third.exports[0].done == {"update": 1}
    assert firm.holders()["2"] == ("Name 2", None, "valid")
    assert firm.holders()["visitor"] == ("Nobody of HR", None, "valid")


@pytest.mark.parametrize(
    ("on_leave", "after", "returned"),
    [
        ("keep", VALID, VALID),
        ("delete", None, VALID),
        ("disable", ("Name 1", "1.01", "blocked"), ("Name 1", "1.01", None)),
    ],
)
def test_who_leaves_and_returns(
    opened: Opener, on_leave: str, after: tuple[str, ...] | None, returned: tuple[str | None, ...]
) -> None:
    disable = {"disable": "{state: '\"blocked\"'}"} if on_leave == "disable" else {}
    firm = opened(rule(on_leave=on_leave, **disable))
    firm.hire(*(str(number) for number in range(1, 30)))
    firm.world.run()

    firm.fire("1")
    left = firm.world.run()
    assert left.state == "done", left.issues
    assert firm.holders().get("1") == after
    assert len(firm.holders()) == 29 - (after is None)
    assert firm.world.run().row_count == 0

    firm.hire("1")
    firm.world.run()
    assert firm.holders()["1"] == returned
    assert firm.world.run().row_count == 0


def test_who_has_a_badge_already_is_adopted(opened: Opener) -> None:
    firm = opened()
    firm.sql("INSERT INTO badge_holder VALUES ('1', 'Old spelling', '9.99', 'special'), ('2', 'Name 2', '1.01', 'x')")
    firm.hire("1", "2")

    done = firm.world.run()

    assert done.exports[0].done == {"update": 1}, "the other one is as wanted"
    assert firm.holders() == {"1": ("Name 1", "1.01", "special"), "2": ("Name 2", "1.01", "x")}
    assert firm.world.run().row_count == 0


def test_a_badge_that_appears_between_import_and_export_is_looked_at_first(opened: Opener) -> None:
    """Nobody has read the target since: the database itself says that the row exists."""
    firm = opened()
    firm.hire("1")
    planned = firm.world.plan()
    firm.sql("INSERT INTO badge_holder VALUES ('1', 'Made by hand', NULL, 'special')")

    done = firm.world.release(planned.run_id)
    assert done.exports[0].stale == 1
    assert firm.holders()["1"] == ("Made by hand", None, "special")
    firm.world.run()
    assert firm.holders()["1"] == ("Name 1", "1.01", "special")


def test_keys_that_the_database_makes(opened: Opener) -> None:
    firm = opened(
        DEFINITION.replace("key: person_no", "key: number"),
        "CREATE TABLE badge_holder (number integer PRIMARY KEY, person_no text UNIQUE, full_name text, room text,"
        " state text DEFAULT 'valid')",
    )
    if firm.world.text.count("postgresql"):
        firm.sql("CREATE SEQUENCE numbers START 100")
        firm.sql("ALTER TABLE badge_holder ALTER number SET DEFAULT nextval('numbers')")
    firm.hire("1", "2")
    firm.world.run()
    assert firm.world.run().row_count == 0
    firm.people["1"] = ("New name", "1.01")
    firm.write()
    assert firm.world.run().exports[0].done == {"update": 1}
    assert firm.holders()["1"] == ("New name", "1.01", "valid")


def test_triggers_that_change_what_was_written_end_in_peace(opened: Opener) -> None:
    firm = opened()
    if firm.world.text.count("postgresql"):
        firm.sql("CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS"
                 " $$ BEGIN NEW.full_name = upper(NEW.full_name); RETURN NEW; END $$")  # fmt: skip
        firm.sql("CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON badge_holder FOR EACH ROW EXECUTE FUNCTION loud()")
    else:
        for event in ("INSERT", "UPDATE"):
            firm.sql(f"CREATE TRIGGER loud_{event} AFTER {event} ON badge_holder BEGIN UPDATE badge_holder"
                     " SET full_name = upper(full_name) WHERE person_no = NEW.person_no"
                     " AND full_name <> upper(full_name); END")  # fmt: skip
    firm.hire("1")
    firm.world.run()
    assert firm.holders()["1"] == ("NAME 1", "1.01", "valid")
    assert firm.world.run().row_count == 0
    firm.people["1"] = ("Name 1", "2.02")
    firm.write()
    assert firm.world.run().exports[0].done == {"update": 1}
    assert firm.holders()["1"] == ("NAME 1", "2.02", "valid")


def test_what_somebody_changed_in_the_table_is_planned_anew(opened: Opener) -> None:
    firm = opened()
    firm.hire("1", "2")
    firm.world.run()
    firm.people["1"] = ("New name", "1.01")
    firm.write()
    planned = firm.world.plan()
    firm.sql("UPDATE badge_holder SET room = '7.77' WHERE person_no = '1'")

    done = firm.world.release(planned.run_id)

    assert done.exports[0].stale == 1
    assert [one.code for one in done.issues] == ["object-changed"]
    assert firm.holders()["1"] == ("Name 1", "7.77", "valid")
    firm.world.run()
    assert firm.holders()["1"] == ("New name", "1.01", "valid")


def test_a_constraint_parks_one_person_with_its_words(opened: Opener) -> None:
    firm = opened(table=BADGES.replace("full_name text", "full_name text CHECK (full_name <> 'Name 2')"))
    firm.hire("1", "2", "3")

    done = firm.world.run()

    assert done.exports[0].done == {"create": 2}
    assert done.exports[0].parked == 1
    (issue,) = done.issues
    assert (issue.subject, issue.code) == ("2", "object-refused")
    assert "constraint" in issue.message.lower()
    assert sorted(firm.holders()) == ["1", "3"]


def test_a_renamed_table_stops_its_target_and_nothing_else(opened: Opener) -> None:
    firm = opened()
    firm.hire("1", "2")
    firm.world.run()
    firm.sql("ALTER TABLE badge_holder RENAME TO holder")
    firm.people["1"] = ("New name", "1.01")
    firm.hire("3")

    done = firm.world.run()

    assert done.state == "problems"
    assert {(one.connector, one.code) for one in done.issues} == {("badges", "connector-misconfigured")}
    assert target(done, "badges").state == "incomplete"
    assert firm.world.engine.explain("3").anchor == "3", "the mesh went on"
    firm.sql("ALTER TABLE holder RENAME TO badge_holder")
    assert firm.world.run().exports[0].done == {"create": 1, "update": 1}
    assert firm.world.run().row_count == 0


def test_a_renamed_column_stops_its_target_with_its_name(opened: Opener) -> None:
    firm = opened()
    firm.hire("1")
    firm.world.run()
    firm.sql("ALTER TABLE badge_holder RENAME COLUMN room TO office")
    firm.people["1"] = ("Name 1", "2.02")
    firm.write()

    done = firm.world.run()

    assert done.state == "problems"
    (issue,) = done.issues
    assert issue.code == "connector-misconfigured"
    assert "no column room" in issue.message
    assert firm.sql("SELECT office FROM badge_holder") == [("1.01",)]


def test_a_table_that_changes_under_the_export_stops_it(opened: Opener) -> None:
    firm = opened()
    firm.hire("1", "2")
    planned = firm.world.plan()
    firm.sql("ALTER TABLE badge_holder RENAME TO holder")

    done = firm.world.release(planned.run_id)

    assert done.exports[0].error_code == "connector-misconfigured"
    assert done.exports[0].left == 2
    firm.sql("ALTER TABLE holder RENAME TO badge_holder")
    assert firm.world.run().exports[0].done == {"create": 2}


def test_a_lost_answer_makes_no_second_badge(
    tmp_path: Path, postgres_url: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No constraint keeps the table unique: only what is remembered of the lost create does."""
    monkeypatch.setenv("PGPASSWORD", postgres_url.password)
    loose = BADGES.replace("person_no text PRIMARY KEY", "number serial PRIMARY KEY, person_no text")
    with Proxy(postgres_url.port, postgres_url.host) as proxy:
        url = postgres_url.url.replace(f":{postgres_url.port}/", f":{proxy.port}/")
        definition = DEFINITION.replace("'sqlite:///badges.db'", url).replace("key: person_no", "key: number")
        with company(tmp_path, definition, badges=postgres_url, table=loose) as firm:
            firm.hire("1", "2")
            proxy.cut_at(b"COMMIT")
            lost = firm.world.run()
            assert {one.code for one in lost.issues} == {"connection-lost"}
            assert proxy.cuts == 2
            proxy.open()
            firm.world.run()
            assert sorted(row[0] for row in firm.sql("SELECT person_no FROM badge_holder")) == ["1", "2"]
            assert firm.world.run().row_count == 0
