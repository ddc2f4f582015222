"""Names that differ only in case or normal form: a directory takes them for one, the mesh does not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from identitymesh.composition import initialise, open_installation
from identitymesh.redaction import Secret
from identitymesh.runs.reports import RunReport
from identitymesh.secrets.references import parse
from tests.servers.slapd import SlapdServer

from .test_leaving import CHOICES, DEFINITION, RULE, Target, _hr, _ldap


def _company(folder: Path, server: SlapdServer) -> Target:
    target = _ldap(server)
    _hr(folder, {})
    initialise(folder, None, lambda _: None)
    text = DEFINITION.format(connector=target.connector) + RULE.format(choice=CHOICES[0], body=target.body)
    assert target.secret is not None
    with open_installation(folder, actor="tester") as installation:
        installation.secrets.put(parse(target.secret[0]), Secret(target.secret[1]), actor="tester")
        installation.engine.apply(text, source="mesh.yaml", base=None, replace=False, release=False, allow_audience=())
    return target


def _run(folder: Path) -> RunReport:
    with open_installation(folder, actor="tester") as installation:
        return installation.engine.run(delta=False, connectors=(), progress=lambda *_: None)


def _named(folder: Path, number: str, name: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "hr.db")) as hr, hr:
        hr.execute("INSERT OR REPLACE INTO person VALUES (?, ?, 'in', 'keep')", (number, name))


def test_two_people_whom_the_directory_takes_for_one(tmp_path: Path, slapd_server: SlapdServer) -> None:
    """The second gets no account, is told of by name, and the first one's is not touched."""
    target = _company(tmp_path, slapd_server)
    _named(tmp_path, "p1", "Ann")
    _run(tmp_path)
    before = target.look()
    _named(tmp_path, "P1", "Bea")

    report = _run(tmp_path)

    assert [(one.subject, one.code) for one in report.issues] == [("P1", "account-taken")]
    assert target.look() == before
    assert before["p1"].name == "Ann"


def test_a_change_of_case_alone_is_a_change(tmp_path: Path, slapd_server: SlapdServer) -> None:
    target = _company(tmp_path, slapd_server)
    _named(tmp_path, "p1", "mcdonald")
    _run(tmp_path)
    _named(tmp_path, "p1", "McDonald")

    report = _run(tmp_path)

    assert report.exports[0].done == {"update": 1}
    assert target.look()["p1"].name == "McDonald"
    assert _run(tmp_path).row_count == 0, "and it is not written for ever"


def test_a_change_of_normal_form_alone_is_written_once(tmp_path: Path, slapd_server: SlapdServer) -> None:
    target = _company(tmp_path, slapd_server)
    composed, decomposed = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
    _named(tmp_path, "p1", composed)
    _run(tmp_path)
    _named(tmp_path, "p1", decomposed)
    _run(tmp_path)

    assert unicodedata.normalize("NFC", target.look()["p1"].name) == composed
    assert _run(tmp_path).row_count == 0


def test_who_is_in_the_directory_in_another_case_is_found_there(tmp_path: Path, slapd_server: SlapdServer) -> None:
    """`correlate` is compared exactly with what was read, and then by the directory itself: no second account."""
    target = _company(tmp_path, slapd_server)
    base = target.connector.split('base: "')[1].split('"')[0]
    old = {"objectClass": "inetOrgPerson", "uid": "P1", "cn": "Old", "sn": "Old", "employeeNumber": "P1"}
    slapd_server.add(f"uid=P1,{base}", old)
    _named(tmp_path, "p1", "Ann")
    report = _run(tmp_path)
    assert [one.code for one in report.issues] == ["object-changed"], "looked at before it is changed"

    with open_installation(tmp_path, actor="tester") as installation:
        installation.engine.approve(_run(tmp_path).run_id, connectors=())
    _run(tmp_path)

    assert [one.name for one in target.look().values()] == ["Ann"]
