"""The whole of examples/mesh.yaml at work over several days, looked at on every server each day."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgresql import PostgresDatabase
from tests.servers.scim import ScimServer
from tests.servers.slapd import SlapdServer
from tests.story.company import PEOPLE, Company, codes, target

EMPLOYEES = [
    ("000001", "Carla", "Chair", "Board"),
    ("100001", "Ann", "Lee", "IT"),
    ("100002", "Ben", "Okafor", "IT"),
    ("100003", "Chloe", "O'Neil", "HR"),
    ("100004", "Dmitri", "Volkov, Jr.", "Sales"),
    ("100005", "Eva", "Lindqvist", "Sales"),
    ("100006", "Farid", "Haddad", "IT"),
    ("100007", "Grace", "Ito", "HR"),
    ("100008", "Hugo", "Silva", "Sales"),
    ("100009", "Ines", "Duarte", "IT"),
]


@pytest.fixture
def company(
    tmp_path: Path,
    postgres_url: PostgresDatabase,
    start_slapd: Callable[..., SlapdServer],
    scim_server: ScimServer,
) -> Company:
    made = Company(tmp_path, postgres_url, start_slapd(), scim_server)
    made.prepare()
    for employee in EMPLOYEES:
        made.hire(*employee)
    made.contractors = {f"c-{number:02}": (f"Con{number}", f"Tractor{number}") for number in range(1, 13)}
    made.write_contractors()
    return made


def entry(company: Company, number: str, **attributes: str) -> None:
    """An account that somebody made by hand."""
    values: dict[str, Any] = {"objectClass": "inetOrgPerson", "uid": number, "cn": number, "sn": number, **attributes}
    company.directory.add(f"uid={number},{PEOPLE}", values)


def test_the_example_definition_over_several_days(company: Company) -> None:
    _day_one(company)
    _nothing_changes(company)
    _joiners_movers_and_a_namesake(company)
    _leavers_on_their_day(company)
    _a_returner(company)
    _an_emptied_source(company)
    _contractors(company)
    _a_schema_change(company)
    _nothing_changes(company)


def _day_one(company: Company) -> None:
    """The first run: a directory that has accounts already, so its plan waits for a person."""
    entry(company, "000001", employeeNumber="000001", mail="chair@example.org")
    entry(company, "printer")
    entry(company, "100010", employeeNumber="100010", cn="old", mail="jo.kim@example.org")
    assert company.apply().missing_secrets == ()

    report = company.run()

    assert target(report, "directory").state == "held"
    assert "more than 50 %" in target(report, "directory").reasons[0]
    assert target(report, "directory").frozen == 1
    assert set(company.people()) == {"000001", "printer", "100010"}, "nothing was written there"
    assert len(company.users()) == 9, "other targets go on; the frozen person is left out"
    done = company.approve(report)
    assert done.state == "done", codes(done)
    numbers = [number for number, *_ in EMPLOYEES if number != "000001"]
    people, users, badges = company.people(), company.users(), company.badges()
    assert set(people) == {"000001", "printer", "100010", *numbers}
    assert people["100003"]["cn"] == ["Chloe O'Neil"]
    assert people["100003"]["mail"] == ["chloe.o'neil@example.org"]
    assert people["100001"]["mail"] == ["ann.lee@example.org"]
    assert people["100004"]["sn"] == ["Volkov, Jr."]
    assert people["000001"]["cn"] == ["000001"], "frozen"
    assert set(users) == set(numbers)
    assert users["100001"]["userName"] == "ann.lee@example.org"
    assert users["100001"]["active"] is True
    assert users["100001"]["name"] == {"givenName": "Ann", "familyName": "Lee"}
    assert set(badges) == {*numbers, *company.contractors}
    assert badges["c-01"] == "Con1 Tractor1"
    dn = f"uid=100001,{PEOPLE}"
    assert company.directory.accepts(dn, company.password("100001")), "the password that was handed over is the one"
    with company.opened() as installation:
        unmatched = installation.engine.unmatched(connectors=["directory"], limit=10)
        shown = installation.engine.rows(report.run_id, limit=100, person="000001")
    assert unmatched.total == 2
    assert {one.note for one in shown} == {"frozen: skipped"}


def _nothing_changes(company: Company) -> None:
    company.day += 1
    report = company.run()
    assert (codes(report), report.row_count) == ([], 0)
    assert report.state == "done"


def _joiners_movers_and_a_namesake(company: Company) -> None:
    """By delta runs of HR alone, as the schedule has them."""
    company.day += 1
    company.hire("100010", "Jo", "Kim", "HR")
    company.hire("100011", "Ann", "Lee", "Sales")
    company.change("100002", department="Sales", last_name="Okafor-Berg")

    report = company.run(delta=True, connectors=("hr",))

    assert report.state == "done", codes(report)
    people, users = company.people(), company.users()
    assert people["100010"]["cn"] == ["Jo Kim"], "the account that was there before is taken over"
    assert people["100010"]["mail"] == ["jo.kim@example.org"]
    with company.opened() as installation:
        refs = {one.ref for one in installation.secrets.list()}
    assert "secret://initial/directory/100010" not in refs, "and its password is not ours"
    assert people["100011"]["mail"] == ["ann.lee2@example.org"]
    assert users["100011"]["userName"] == "ann.lee2@example.org"
    assert people["100001"]["mail"] == ["ann.lee@example.org"]
    assert people["100002"]["departmentNumber"] == ["Sales"]
    assert people["100002"]["sn"] == ["Okafor-Berg"]
    assert people["100002"]["mail"] == ["ben.okafor@example.org"], "given once"
    assert company.badges()["100002"] == "Ben Okafor-Berg"
    assert company.badges()["100010"] == "Jo Kim"


def _leavers_on_their_day(company: Company) -> None:
    """One whose end was known before, and one whom HR marks today."""
    company.day += 1
    company.change("100005", end_date=company.date(2))
    company.run(delta=True, connectors=("hr",))
    company.day += 2
    assert company.run(delta=True, connectors=("hr",)).people["left"] == 0
    assert "employeeType" not in company.people()["100005"]
    company.day += 1
    company.change("100008", status="terminated")

    report = company.run(delta=True, connectors=("hr",))

    assert report.people["left"] == 2, codes(report)
    people, users = company.people(), company.users()
    for number in ("100005", "100008"):
        assert people[number]["employeeType"] == ["disabled"]
        assert people[number]["cn"], "a leaver keeps the last values"
        assert users[number]["active"] is False
        assert number not in company.badges()


def _a_returner(company: Company) -> None:
    company.day += 5
    company.change("100005", end_date=None)

    report = company.run(delta=True, connectors=("hr",))

    assert report.people["returned"] == 1
    assert "employeeType" not in company.people()["100005"]
    assert company.people()["100005"]["mail"] == ["eva.lindqvist@example.org"]
    assert company.users()["100005"]["active"] is True
    assert company.badges()["100005"] == "Eva Lindqvist"
    assert len(company.people()) == 13


def _an_emptied_source(company: Company) -> None:
    """Nobody leaves because a table was empty on one night."""
    company.day += 1
    before = (company.people(), company.users(), company.badges())
    company.hr("CREATE TABLE kept AS TABLE employees")
    company.hr("DELETE FROM employees")

    report = company.run()

    assert report.state == "held"
    assert next(one for one in report.imports if one.connector == "hr").held_absences == 12
    assert (company.people(), company.users(), company.badges()) == before
    company.hr("INSERT INTO employees SELECT * FROM kept")
    company.hr("DROP TABLE kept")
    assert company.run().state == "done"
    assert (company.people(), company.users(), company.badges()) == before


def _contractors(company: Company) -> None:
    """One goes, one comes; and a file that is cut short makes nobody leave."""
    company.day += 1
    del company.contractors["c-03"]
    company.contractors["c-13"] = ("Nia", "Adeyemi")
    company.write_contractors()
    assert company.run().state == "done"
    badges = company.badges()
    assert "c-03" not in badges
    assert badges["c-13"] == "Nia Adeyemi"
    assert not {"c-13", "c-01"} & {*company.people(), *company.users()}, "externals have badges alone"
    whole = dict(company.contractors)
    company.contractors = dict(list(whole.items())[:4])
    company.write_contractors()

    report = company.run()

    assert report.state in ("problems", "held")
    assert company.badges() == badges
    company.contractors = whole
    company.write_contractors()
    assert company.run().state == "done"


def _a_schema_change(company: Company) -> None:
    """HR renames a column: its import fails in words, everything else goes on; a new definition mends it."""
    company.day += 1
    company.hr("ALTER TABLE employees RENAME COLUMN department TO unit")
    company.hire("100012", "Kofi", "Mensah", "IT")
    before = company.people()

    report = company.run()

    failed = next(one for one in report.imports if one.connector == "hr")
    assert failed.error_code
    assert "department" in failed.error
    assert company.people() == before
    company.text = company.text.replace('value: "[department]", confidence: 90}', 'value: "[unit]", confidence: 90}')
    assert set(company.apply().waiting) == {"directory", "crm", "badges"}
    held = company.run()
    assert target(held, "directory").state == "held"
    assert target(held, "directory").counts == {"create": 1}, "the new name changes nobody"
    assert company.approve(held).state == "done"
    assert company.people()["100012"]["departmentNumber"] == ["IT"]
    assert company.directory.accepts(f"uid=100012,{PEOPLE}", company.password("100012"))
    assert company.users()["100012"]["userName"] == "kofi.mensah@example.org"
