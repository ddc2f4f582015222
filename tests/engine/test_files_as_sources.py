"""HR as a file that is cut off, replaced, emptied, in another shape: who is still there, and what the run says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from identitymesh.connectors import patience
from identitymesh.connectors.kinds.csv import files
from identitymesh.runs.reports import RunReport

from .sheets import DEFINITION, Company, company
from .world import target

COUNT = 40


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(patience, "LEAST_PAUSE", 0.0)


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Company]:
    """Forty people, each with a badge."""
    with company(tmp_path) as made:
        made.hire(*(f"p{number:02}" for number in range(COUNT)))
        assert made.world.run().exports[0].done == {"create": COUNT}
        yield made


def nobody_left(firm: Company, report: RunReport, code: str) -> str:
    """The run went wrong in words, released nothing, and every badge is there; answers the words."""
    (done,) = [one for one in report.imports if one.connector == "hr"]
    assert report.state == "problems"
    assert done.error_code == code
    assert not done.complete
    assert done.removed == done.held_absences == 0
    assert ("hr", code) in {(one.connector, one.code) for one in report.issues}
    assert report.people.get("person.left", 0) == 0
    assert len(firm.holders()) == COUNT
    return done.error


def cut(firm: Company, rows: int, end: str = "") -> None:
    lines = firm.file.read_text().splitlines(keepends=True)
    firm.file.write_text("".join(lines[: rows + 1]) + end)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("", "has no closing row END"),
        ("p03,Na", "has no closing row END"),
        ('p03,"Na', "ends inside a quote"),
        (f"END,{COUNT}\n", f"counts {COUNT} rows, but there are 20"),
    ],
)
def test_a_truncated_file_makes_nobody_leave(firm: Company, end: str, why: str) -> None:
    cut(firm, 20, end)

    assert why in nobody_left(firm, firm.world.run(), "import-incomplete")

    firm.write()
    again = firm.world.run()
    assert again.state == "done"
    assert again.row_count == 0


def test_what_a_truncated_file_adds_is_kept_and_not_released(firm: Company) -> None:
    firm.people = {"new": ("New person", "3.03"), **firm.people}
    firm.write()
    cut(firm, 20)

    first = firm.world.run()

    nobody_left(firm, first, "import-incomplete")
    assert target(first, "badges").state == "incomplete"
    assert target(first, "badges").counts == {"create": 1}
    firm.write()
    assert firm.world.run().exports[0].done == {"create": 1}
    assert len(firm.holders()) == COUNT + 1


def test_a_delta_run_says_that_a_file_is_cut_off(firm: Company) -> None:
    cut(firm, 20)
    report = firm.world.run(delta=True)
    assert report.state == "problems"
    assert {one.code for one in report.issues} == {"import-incomplete"}
    assert len(firm.holders()) == COUNT


def _rename_over(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text("id,name,room\nEND,0\n")
    other.rename(path)


def _rewrite(path: Path) -> None:
    path.write_text("id,name,room\nEND,0\n")


@pytest.mark.parametrize(
    ("meddle", "how"), [(_rename_over, "replaced"), (_rewrite, "changed"), (Path.unlink, "removed")]
)
def test_a_file_that_is_replaced_while_it_is_read_makes_nobody_leave(
    firm: Company, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Path], None], how: str
) -> None:
    """In the moment after its last byte was read."""
    read1 = files.WatchedFile.read1

    def reading(self: files.WatchedFile, size: int = -1, /) -> bytes:
        block = read1(self, size)
        if not block and firm.file.exists():
            meddle(firm.file)
        return block

    with monkeypatch.context() as patched:
        patched.setattr(files.WatchedFile, "read1", reading)
        report = firm.world.run()
    assert f"{how} while it was read" in nobody_left(firm, report, "import-incomplete")


@pytest.mark.parametrize("content", ["", "\n", "id,name,room"])
def test_an_emptied_file_makes_nobody_leave(firm: Company, content: str) -> None:
    firm.file.write_text(content)
    nobody_left(firm, firm.world.run(), "import-incomplete")


def test_a_file_of_nobody_that_says_it_is_whole_is_held(firm: Company) -> None:
    """Its proof is sound; forty of forty are still more than a run believes by itself."""
    firm.file.write_text("id,name,room\nEND,0\n")

    report = firm.world.run()

    assert report.state == "held"
    assert report.imports[0].complete
    assert report.imports[0].held_absences == COUNT
    assert "more than 10 %" in report.imports[0].held_reason
    assert len(firm.holders()) == COUNT
    firm.world.engine.approve(report.run_id, connectors=())
    firm.world.run()
    assert firm.holders() == {}


def test_a_missing_file_makes_nobody_leave(firm: Company) -> None:
    firm.file.unlink()
    assert "there is no file" in nobody_left(firm, firm.world.run(), "unreachable")


@pytest.mark.parametrize("delta", [False, True])
def test_a_renamed_column_makes_nobody_lose_its_value(firm: Company, delta: bool) -> None:
    firm.file.write_text(firm.file.read_text().replace("id,name,room", "id,name,office"))

    report = firm.world.run(delta=delta)

    assert "has no column room which a rule uses" in nobody_left(firm, report, "connector-misconfigured")
    assert firm.holders()["p01"] == ("Name p01", "1.01", "valid")


def test_a_renamed_key_column_makes_nobody_leave(firm: Company) -> None:
    firm.file.write_text(firm.file.read_text().replace("id,name,room", "number,name,room"))
    assert "to be the key" in nobody_left(firm, firm.world.run(), "connector-misconfigured")


def test_a_file_in_another_encoding_spoils_rows_and_nobody_leaves(firm: Company) -> None:
    firm.people["p05"] = ("Jürg", "1.01")
    firm.write()
    firm.file.write_bytes(firm.file.read_text().encode("cp1252"))

    report = firm.world.run()

    (issue,) = report.issues
    assert (issue.subject, issue.code) == ("p05", "bad-object")
    assert issue.message == "row 7: column name has bytes that are not utf-8"
    assert len(firm.holders()) == COUNT


def test_one_row_without_a_key_holds_every_absence(firm: Company) -> None:
    text = firm.file.read_text()
    firm.file.write_text(text.replace("p07,Name p07", ",Name p07"))

    report = firm.world.run()

    (issue,) = report.issues
    assert (issue.subject, issue.message) == ("row 9", "row 9: the key is empty")
    assert report.imports[0].held_absences == 1
    assert "no readable key" in report.imports[0].held_reason
    assert len(firm.holders()) == COUNT
    firm.write()
    assert firm.world.run().state == "done"


def test_duplicates_are_named_and_the_first_stands(firm: Company) -> None:
    text = firm.file.read_text()
    firm.file.write_text(text.replace(f"END,{COUNT}", f"p03,Somebody else,9.99\nEND,{COUNT + 1}"))

    report = firm.world.run()

    (issue,) = report.issues
    assert (issue.subject, issue.code) == ("p03", "bad-object")
    assert issue.message.startswith(f"row {COUNT + 2}: duplicate key")
    assert firm.holders()["p03"] == ("Name p03", "1.01", "valid")


def test_without_expectation_every_absence_waits_for_a_person(tmp_path: Path) -> None:
    with company(tmp_path, DEFINITION.replace(", expect: {trailer: END}", "")) as firm:
        firm.hire(*(f"p{number:02}" for number in range(COUNT)))
        firm.write(end="")
        firm.world.run()
        del firm.people["p01"]
        firm.people["new"] = ("New person", "1.01")
        firm.write(end="")

        report = firm.world.run()

        assert report.state == "held"
        assert report.exports[0].done == {"create": 1}, "what came is taken over"
        assert report.imports[0].held_absences == 1
        assert "expect" in report.imports[0].held_reason
        assert "p01" in firm.holders()
        firm.world.engine.approve(report.run_id, connectors=())
        firm.world.run()
        assert "p01" not in firm.holders()


def test_another_file_holds_absences(firm: Company) -> None:
    firm.people.pop("p01")
    firm.write()
    firm.file.rename(firm.world.folder / "other.csv")
    firm.world.apply(lambda text: text.replace("people.csv", "other.csv"))

    report = firm.world.run()

    assert report.imports[0].held_absences == 1
    assert "has changed" in report.imports[0].held_reason
    assert "p01" in firm.holders()


def test_the_connection_test_says_what_the_file_is(firm: Company) -> None:
    details = firm.world.engine.test_connector("hr").details["user"]
    assert "columns id, name, room" in details
