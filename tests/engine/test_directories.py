"""People of HR in a directory, through the whole engine, looked at with `ldapsearch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from identitymesh.connectors import patience
from identitymesh.redaction import Secret
from identitymesh.secrets.references import parse
from tests.servers.proxy import Proxy
from tests.servers.slapd import SUFFIX, Branch

from .directories import Firm, definition, firm
from .world import target

Opener = Callable[..., Firm]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(patience, "LEAST_PAUSE", 0.0)


@pytest.fixture
def opened(tmp_path: Path, branch: Branch) -> Iterator[Opener]:
    with ExitStack() as stack:

        def start(edit: Callable[[str], str] = str, **options: Any) -> Firm:
            return stack.enter_context(firm(tmp_path, branch, edit, **options))

        yield start


def leaving(choice: str) -> Callable[[str], str]:
    return lambda text: text.replace("on_leave: disable", f"on_leave: {choice}")


def test_people_of_hr_become_entries(opened: Opener, branch: Branch) -> None:
    company = opened()
    company.hire("1001", "1002", ' #"a+b" <c>;d\\e, ')
    first = company.run()
    assert first.state == "done", first
    assert first.exports[0].done == {"create": 3}
    assert company.entries()["1001"] == {
        "objectClass": ["inetOrgPerson"],
        "uid": ["1001"],
        "employeeNumber": ["1001"],
        "cn": ["Name 1001"],
        "sn": ["Name 1001"],
    }
    assert f"uid=1001,{branch.people}" in branch.entries()
    for _ in range(2):
        again = company.run()
        assert again.state == "done"
        assert again.row_count == 0
        assert [report.complete for report in again.imports] == [True, True]


def test_a_change_is_a_modification_and_a_new_dn_a_rename(opened: Opener, branch: Branch) -> None:
    company = opened()
    company.hire("1", "2")
    company.run()
    before = company.entries("entryUUID")
    company.sql("UPDATE employees SET name = 'Somebody' WHERE id = '1'")
    assert company.run().exports[0].done == {"update": 1}
    assert company.entries("cn")["1"]["cn"] == ["Somebody"]

    branch.server.add(f"ou=staff,{branch.people}", {"objectClass": "organizationalUnit"})
    moved = definition(branch).replace(
        '"uid=", EscapeDN([employeeId]), ",', '"cn=", EscapeDN([displayName]), ",ou=staff,'
    )
    company.apply(moved)
    company.apply(moved)
    held = company.run()  # every account changes: a person says that it is meant
    assert held.state == "held"
    company.installation.engine.approve(held.run_id, connectors=())
    assert company.run().exports[0].done == {"update": 2}
    assert set(branch.entries()) == {f"cn={name},ou=staff,{branch.people}" for name in ("Somebody", "Name 2")}
    company.sql("UPDATE employees SET name = 'Some, other' WHERE id = '1'")
    assert company.run().exports[0].done == {"update": 1}
    after = company.entries("entryUUID", "cn", "uid")
    assert after["1"]["cn"] == ["Some, other"]
    assert after["1"]["uid"] == ["1"]
    assert {one: after[one]["entryUUID"] for one in after} == {one: before[one]["entryUUID"] for one in before}
    assert company.run().row_count == 0


@pytest.mark.parametrize(
    ("choice", "kind", "gone", "state"),
    [("keep", None, False, None), ("disable", "disable", False, ["disabled"]), ("delete", "delete", True, None)],
)
def test_who_leaves_and_returns(
    opened: Opener, choice: str, kind: str | None, gone: bool, state: list[str] | None
) -> None:
    company = opened(leaving(choice))
    company.hire("1", "2", "3")
    company.run()
    before = company.entries("entryUUID")
    company.fire("1")
    left = company.run()
    assert [one.done for one in left.exports] == ([] if kind is None else [{kind: 1}])
    entries = company.entries("employeeType", "entryUUID", "cn")
    assert ("1" not in entries) == gone
    if not gone:
        assert entries["1"].get("employeeType") == state
        assert entries["1"]["cn"] == ["Name 1"]
    assert company.run().row_count == 0

    company.hire("1")
    company.run()
    back = company.entries("employeeType", "entryUUID", "cn")
    assert "employeeType" not in back["1"], "what only disable wrote is cleared"
    assert (back["1"]["entryUUID"] == before["1"]["entryUUID"]) != gone
    assert company.run().row_count == 0


@pytest.mark.parametrize(("choice", "state"), [("keep", None), ("disable", ["disabled"]), ("delete", "gone")])
def test_who_goes_out_of_scope_and_comes_back(opened: Opener, choice: str, state: Any) -> None:
    def scoped(text: str) -> str:
        text = text.replace("on_out_of_scope: keep", f"on_out_of_scope: {choice}")
        return text.replace(
            "      create: true\n      correlate", "      when: '[sn] != \"Out\"'\n      create: true\n      correlate"
        )

    company = opened(scoped)
    company.hire("1", "2", "3")
    company.run()
    company.sql("UPDATE employees SET name = 'Out' WHERE id = '2'")
    company.run()
    entry = company.entries("employeeType", "cn").get("2")
    if state == "gone":
        assert entry is None
    else:
        assert entry is not None
        assert (entry.get("employeeType"), entry["cn"]) == (state, ["Name 2"])
    company.sql("UPDATE employees SET name = 'In' WHERE id = '2'")
    company.run()
    assert company.entries("cn", "employeeType")["2"] == {"employeeNumber": ["2"], "cn": ["In"]}
    assert company.run().row_count == 0


def test_accounts_that_are_there_already_are_adopted(opened: Opener, branch: Branch) -> None:
    company = opened()
    branch.add("ann", employeeNumber="1", cn="As it was")
    branch.add("old \u00e9, x", employeeNumber="2")
    company.hire("1", "2", "3")
    done = company.run()
    assert done.exports[0].done == {"create": 1, "update": 2}
    assert set(branch.entries()) == {f"uid={number},{branch.people}" for number in "123"}
    assert company.run().row_count == 0


def test_an_account_that_was_made_meanwhile_is_adopted(opened: Opener, branch: Branch) -> None:
    """It appears between the import and the export, under the name that ours would have."""
    company = opened()
    company.hire("1")
    planned = company.installation.engine.plan(delta=False, connectors=(), progress=lambda *_: None)
    branch.add("1", employeeNumber="1", cn="By somebody else")
    released = company.installation.engine.release(planned.run_id, progress=lambda *_: None)
    assert released.exports[0].stale == 1
    assert company.run().exports[0].done == {"update": 1}
    assert company.entries("cn")["1"]["cn"] == ["Name 1"]


@pytest.mark.parametrize(("at_once", "done"), [(1, 2), (32, 1)])
def test_a_lost_answer_makes_no_duplicate(opened: Opener, branch: Branch, at_once: int, done: int) -> None:
    """The first entry goes alone; with several under way the third is on the connection that breaks."""
    with Proxy(branch.server.port) as proxy:
        company = opened(
            lambda text: text.replace(
                "    ca_file: ca.pem\n", f"    allow_cleartext: true\n    adds_at_once: {at_once}\n"
            ),
            url=f"ldap://127.0.0.1:{proxy.port}",
        )
        company.hire("1", "2", "3")
        proxy.cut_at(lambda request: b"uid=2" in request and b"inetOrgPerson" in request, times=1)
        first = company.run()
        assert proxy.cuts == 1
        assert first.state != "done"
        assert first.exports[0].done == {"create": done}
        assert "2" in company.entries(), "it was carried out"
        again = company.run()
        assert again.state == "done", again
        assert set(company.entries()) == {"1", "2", "3"}
        assert company.run().row_count == 0


def test_a_source_that_is_cut_short_removes_nobody(opened: Opener, branch: Branch) -> None:
    """The directory as a source: five of eight people come, and the others are not believed gone."""
    people = {f"p{number}" for number in range(8)}
    for one in people:
        branch.add(one, employeeNumber=one)

    def source(text: str) -> str:
        text = text.replace(
            "source: employeeNumber, target: employeeId}", "source: employeeNumber, target: employeeId, create: true}"
        )
        return text.replace(
            "  project:",
            "    - {name: dir-id, connector: directory, object: user, target: employeeId, confidence: 50,"
            ' value: "[employeeNumber]"}\n'
            "  project:",
        )

    company = opened(source)
    assert company.run().people["created"] == 8
    limited = source(definition(branch)).replace(branch.bind_dn, f"cn=limited,{SUFFIX}")
    _store(company, branch.server.password)
    company.apply(limited)
    cut = company.run()
    (report,) = [one for one in cut.imports if one.connector == "directory"]
    assert not report.complete
    assert "the server's size limit ended the read" in report.error
    assert cut.people.get("left", 0) == 0
    assert target(cut, "directory").state != "released" if cut.targets else True
    _store(company, branch.password)
    company.apply(source(definition(branch)))
    assert company.run().people.get("left", 0) == 0
    assert set(company.entries()) == people


def test_a_filter_that_matches_nothing_holds_the_absences(opened: Opener, branch: Branch) -> None:
    company = opened()
    company.hire(*(f"{number}" for number in range(12)))
    company.run()
    company.run()  # reads what the first one wrote
    before = company.entries()
    company.apply(definition(branch).replace("(objectClass=inetOrgPerson)", "(objectClass=printer)"))
    done = company.run()
    (report,) = [one for one in done.imports if one.connector == "directory"]
    assert report.complete
    assert report.read == 0
    assert report.held_absences == 12
    assert [one.done for one in done.exports if one.done] == [], "nobody is made a second time"
    assert company.entries() == before


def test_a_refused_entry_stops_nobody_else(opened: Opener, branch: Branch) -> None:
    company = opened(
        lambda text: text.replace('sn: "[sn]"\n', 'sn: "[sn]"\n        mail: \'Concat([employeeId], "@x.org")\'\n')
    )
    company.hire("1", "\u00e9", "3")  # mail is ASCII in this schema
    done = company.run()
    assert done.exports[0].done == {"create": 2}
    assert done.exports[0].parked == 1
    (issue,) = done.issues
    assert issue.code == "object-refused"
    assert "schema violation: a value has not the attribute's syntax" in issue.message
    assert set(company.entries()) == {"1", "3"}


def test_a_template_in_data_of_a_directory_is_text(opened: Opener, branch: Branch) -> None:
    """Item 53 of the abuse list: what stands in an entry is never taken for a reference to a secret."""
    company = opened(
        lambda text: text.replace(
            'sn: "[sn]"\n',
            'sn: "[sn]"\n        mail: "[mail]"\n        title: \'Concat("{{secret:ldap/bind}}", [sn])\'\n',
        )
    )
    branch.add("1", employeeNumber="1", mail="{{secret:ldap/bind}}@x.org", cn="secret://ldap/bind")
    company.hire("1")
    company.run()
    entry = company.entries("mail", "title")["1"]
    assert entry["mail"] == ["{{secret:ldap/bind}}@x.org"]
    assert entry["title"] == ["{{secret:ldap/bind}}Name 1"]
    assert branch.password not in str(branch.entries())


def test_delta_runs_read_what_changed(opened: Opener, branch: Branch) -> None:
    company = opened(lambda text: text.replace("key: entryUUID}", "key: entryUUID, watermark: entryCSN, overlap: 0}"))
    company.hire("1", "2", "3")
    company.run()
    company.run()
    marks = {number: entry["entryCSN"] for number, entry in company.entries("entryCSN").items()}
    first = min(marks, key=lambda number: marks[number])  # several adds are under way at once: any may be the last
    branch.server.modify(f"uid={first},{branch.people}", "mail", "first@x.org")
    done = company.run("directory", delta=True)
    (report,) = done.imports
    assert (report.mode, report.read) == ("delta", 2)  # and the one that had the last mark
    assert report.changed == 1
    assert company.run("directory", delta=True).imports[0].changed == 0


def _store(company: Firm, password: str) -> None:
    company.installation.secrets.put(parse("secret://ldap/bind"), Secret(password), actor="tester")
