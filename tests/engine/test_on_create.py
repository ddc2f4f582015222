"""What is written once: values, and a password that is handed over as a secret and is nowhere else."""

from __future__ import annotations

import hashlib
import math
import socket
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from identitymesh import lease as leases
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    DefinitionRefused,
    LeaseLost,
    ObjectRefused,
    PermissionDenied,
    SecretExpired,
    SecretMissing,
    Unreachable,
)
from identitymesh.lease import Deadline, Lease
from identitymesh.model.accounts import Account, Initial
from identitymesh.model.attributes import Attributes
from identitymesh.redaction import MASKED
from identitymesh.runs.contract import Attempt
from identitymesh.runs.initial import Creates
from identitymesh.runs.secret_usage import orphans, usage
from identitymesh.secrets import setup
from identitymesh.secrets.initial import InitialPasswords, generate, reference
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.secrets import SqlSecretRows
from identitymesh.storage.tables import every_table

from .test_interruptions import put_lease
from .world import World, silent

ONCE = """      on_create: {secret: "InitialPassword(20)", hint: 'Concat("Dear ", [givenName])'}
      attributes:
        externalId"""


@pytest.fixture
def company(both: World) -> World:
    setup.initialise(
        SqlSecretRows(both.database),
        both.folder / "host",
        provider="database",
        actor="tester",
        label=socket.gethostname(),
        announce=lambda _: None,
    )
    both.apply(lambda text: text.replace("      attributes:\n        externalId", ONCE), release=True)
    return both


def store(world: World) -> SecretStore:
    return SecretStore(SqlSecretRows(world.database), world.folder / "host")


def password(world: World, person: str = "p1") -> str:
    return store(world).reveal(SecretReference(f"secret://initial/crm/{person}"), actor="helpdesk").reveal_text()


def everything(world: World) -> str:
    """Every value in every table, as text."""
    found = []
    with world.database.read() as connection:
        for table in every_table().sorted_tables:
            found += [str(row) for row in connection.execute(select(table))]
    return "\n".join(found)


def test_a_password_is_made_stored_and_sent_once(company: World) -> None:
    company.hire("p1")
    report = company.run()

    account = company.accounts()["p1"]
    assert report.state == "done"
    assert account["secret"] == password(company)
    assert len(password(company)) == 20
    assert account["hint"] == "Dear Ann"
    company.change("p1", first="Eve")
    company.run()
    assert company.accounts()["p1"]["hint"] == "Dear Ann", "written once"
    assert company.accounts()["p1"]["secret"] == password(company)
    assert company.run().row_count == 0


def test_it_is_in_no_plan_no_audit_and_no_table(company: World) -> None:
    company.hire("p1")
    planned = company.plan()
    rows = company.engine.rows(planned.run_id, limit=10, person=None)
    shown = {one.name: one.after for one in rows[0].differences}
    assert shown["secret"] == MASKED
    assert shown["hint"] == "Dear Ann", "what is no secret is in the plan"
    company.run()

    value = password(company)
    assert value not in everything(company)
    assert value not in str(company.engine.explain("p1"))
    assert "Dear Ann" in everything(company)


def test_what_somebody_changes_there_is_not_looked_at(company: World) -> None:
    company.hire("p1")
    company.run()
    next(iter(company.crm.objects.values()))["secret"] = "own choice"

    assert company.run().row_count == 0
    assert "own choice" not in everything(company)


def test_it_is_stored_before_the_account_is_made(company: World) -> None:
    company.hire("p1")
    seen: list[str] = []

    def before(operation: str, _: str) -> None:
        if operation == "create":
            seen.append(password(company))

    company.crm.before = before
    company.run()

    assert seen == [company.accounts()["p1"]["secret"]]


def test_an_account_that_was_there_has_no_password_of_ours(company: World) -> None:
    company.crm.objects["old"] = {"externalId": "p1", "userName": "old", "active": True, "secret": "theirs"}
    company.hire("p1")
    company.run()
    company.approve(company.engine.runs(1)[0].run_id)
    company.run()

    assert company.crm.objects["old"]["secret"] == "theirs"
    with pytest.raises(SecretMissing):
        password(company)


def test_an_account_that_comes_up_in_this_moment_is_not_given_one(company: World) -> None:
    """It is not there when targets are read, and there when it is to be created."""
    company.hire("p1")

    def before(operation: str, _: str) -> None:
        if operation == "create":
            from identitymesh.errors import ObjectExists

            company.crm.objects["quick"] = {"externalId": "p1", "secret": "theirs"}
            raise ObjectExists("there is one")

    company.crm.before = before
    company.run()

    assert company.crm.objects["quick"]["secret"] == "theirs"
    with pytest.raises(SecretMissing):
        password(company)


@pytest.mark.parametrize("error", [ConnectionLost, ConnectorError, KeyError], ids=lambda error: error.__name__)
def test_a_lost_answer_keeps_the_password_that_was_sent(company: World, error: type[Exception]) -> None:
    company.hire("p1")

    def after(operation: str, _: str) -> None:
        if operation == "create":
            raise error("no answer")

    company.crm.after = after
    company.run()
    sent = next(iter(company.crm.objects.values()))["secret"]
    company.crm.after = None

    company.run()

    assert [one["secret"] for one in company.crm.objects.values()] == [sent] == [password(company)]


@pytest.mark.parametrize("error", [PermissionDenied, ObjectRefused], ids=lambda error: error.__name__)
@pytest.mark.parametrize("delta", [True, False], ids=["delta", "full"])
def test_a_lookup_that_is_refused_is_no_answer_to_the_create(
    company: World, error: type[Exception], delta: bool
) -> None:
    company.hire("p1")

    def lost(operation: str, _: str) -> None:
        raise ConnectionLost("no answer")

    def refused(operation: str, _: str) -> None:
        if operation == "lookup":
            raise error("not to you")

    company.crm.after = lost
    company.run()
    company.crm.after, company.crm.before = None, refused
    report = company.run(delta=True)
    assert [one.parked for one in report.exports] == [0]
    assert "not to you" in report.issues[0].message
    company.crm.before = None

    company.run(delta=delta)

    (made,) = company.crm.objects.values()
    assert made["secret"] == password(company)
    assert company.run().row_count == 0
    with company.database.read() as connection:
        told = connection.execute(text("SELECT outcome FROM audit WHERE action = 'account.create' ORDER BY sequence"))
        assert told.scalars().all() == ["failed", "failed", "done"]


def test_a_change_that_is_refused_makes_no_refusal_of_the_create_before_it(company: World) -> None:
    company.hire("p1")

    def lost(operation: str, _: str) -> None:
        raise ConnectionLost("no answer")

    def refused(operation: str, _: str) -> None:
        if operation == "update":
            raise ObjectRefused("no digits")

    company.crm.after = lost
    company.run()
    company.crm.after, company.crm.before = None, refused
    company.change("p1", last="R2")
    company.run(delta=True)
    report = company.run(delta=True)

    assert [one.parked for one in report.exports] == [1]
    with company.database.read() as connection:
        rows = connection.execute(text("SELECT action, outcome FROM audit WHERE action LIKE 'account.%'")).all()
    assert sorted(map(tuple, rows)) == [
        ("account.create", "done"),
        ("account.create", "failed"),
        ("account.update", "failed"),
    ]
    company.crm.before = None
    company.run()
    (made,) = company.crm.objects.values()
    assert (made["familyName"], made["secret"]) == ("R2", password(company))


def test_who_stood_still_leaves_the_password_of_who_took_over(company: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """p1 is made, then the process stands still; another run makes p2, with a password of its own."""
    company.hire("p1")
    company.hire("p2")
    real = leases.uptime

    def stands_still(operation: str, _: str) -> None:
        if operation == "create":
            company.crm.after = None
            put_lease(company, "export:crm", until=datetime.now(UTC))
            company.another_engine().run(delta=False, connectors=(), progress=silent)
            monkeypatch.setattr(leases, "uptime", lambda: real() + 60)

    company.crm.after = stands_still
    report = company.run()

    assert report.exports[0].error_code == "lease-lost"
    assert company.accounts()["p2"]["secret"] == password(company, "p2")


@pytest.mark.parametrize("at", [0.0, math.inf], ids=["knows that its time is over", "stands still after it looked"])
def test_nothing_is_stored_or_removed_without_the_lease(company: World, at: float) -> None:
    company.hire("p1")
    company.run()
    rows = SqlSecretRows(company.database)
    keeper = InitialPasswords(rows, store(company), "tester", timedelta(days=1), lambda: datetime.now(UTC))
    late = Creates(keeper, Lease("export:crm", "somebody", 1, Deadline(at=at)), 1)
    text = Initial({}, {"secret": 20}).text()
    attempt = Attempt(Account(1, "crm", "user", "crm", "present", kind="create", initial=text), "p1", recovering=False)
    before = password(company)

    with pytest.raises(LeaseLost):
        late.prepare([attempt])
    with pytest.raises(LeaseLost):
        late.attributes(attempt)
    late.drop([attempt])
    late.forget([attempt])

    assert password(company) == before


@pytest.mark.parametrize("error", [ObjectRefused, Unreachable])
def test_a_refusal_leaves_no_password_and_does_not_repeat_it(company: World, error: type[Exception]) -> None:
    company.hire("p1")
    sent: list[str] = []

    def spelling(attributes: Attributes) -> Attributes:
        sent.append(str(attributes["secret"]))
        raise error(f"the password {sent[-1]} is too simple")

    company.crm.spelling = spelling
    report = company.run()

    assert "********" in report.issues[0].message
    assert not any(one in everything(company) for one in sent)
    with pytest.raises(SecretMissing):
        password(company)
    company.crm.spelling = lambda attributes: attributes
    company.run()
    assert company.accounts()["p1"]["secret"] == password(company)


def test_without_a_keyring_no_account_is_made(both: World) -> None:
    both.apply(lambda text: text.replace("      attributes:\n        externalId", ONCE), release=True)
    both.hire("p1")

    report = both.run()

    assert both.crm.objects == {}
    assert report.exports[0].error_code == "keyring-missing"
    assert report.exports[0].left == 1


def test_it_expires_and_is_removed(company: World) -> None:
    company.ahead = timedelta(days=-15)
    company.hire("p1")
    company.run()
    listed = store(company).list()
    assert [(one.ref, (one.expires or one.changed) - one.changed) for one in listed] == [
        ("secret://initial/crm/p1", timedelta(days=14))
    ]
    assert orphans(usage(listed, [])) == [], "it is nobody's setting, and no orphan"
    with pytest.raises(SecretExpired, match="has expired"):
        password(company)
    company.ahead = timedelta()

    company.run()

    assert store(company).list() == []


def test_who_comes_back_after_a_deletion_gets_a_new_one(company: World) -> None:
    company.apply(lambda text: text.replace("on_leave: disable", "on_leave: delete"), release=True)
    company.hire("p1")
    company.hire("p2")
    company.run()
    first = password(company)
    gone = company.fire("p1")
    company.run()
    company.hr.objects.update(gone)

    company.run()

    assert company.accounts()["p1"]["secret"] == password(company) != first


@pytest.mark.parametrize(
    ("anchor", "ref"),
    [
        ("000123", "secret://initial/crm/000123"),
        ("Ann Lee", "secret://initial/crm/b32-ifxg4icmmvsq"),
        ("ann/lee", "secret://initial/crm/b32-mfxg4l3mmvsq"),
        ("", "secret://initial/crm/b32-"),
        ("b32-x", "secret://initial/crm/b32-miztelly"),
        ("é", "secret://initial/crm/b32-youq"),
        ("x" * 65, f"secret://initial/crm/sha-{hashlib.sha256(b'x' * 65).hexdigest()[:56]}"),
    ],
)
def test_any_anchor_has_its_name(anchor: str, ref: str) -> None:
    found = reference("crm", anchor).text
    assert found == ref or (
        len(anchor) > 60 and found.startswith(ref) and len(found) == len("secret://initial/crm/") + 60
    )
    assert reference("crm", anchor).text == found
    assert reference("CRM", anchor).text != found


def test_passwords_have_every_kind_of_character() -> None:
    made = {generate(12).reveal_text() for _ in range(200)}

    assert len(made) == 200
    for one in made:
        assert len(one) == 12
        assert any(c.islower() for c in one)
        assert any(c.isupper() for c in one)
        assert any(c.isdigit() for c in one)
        assert "-" in one


@pytest.mark.parametrize(
    ("on_create", "message"),
    [
        ('{secret: "InitialPassword(4)"}', "length must be 12 to 128"),
        ('{secret: "InitialPassword(20)", other: "InitialPassword(20)"}', "an account has one initial password"),
        ("""{secret: 'Concat("x", InitialPassword(20))'}""", "must be the whole value of an attribute of on_create"),
        ('{userName: "[mail]"}', "userName stands in on_create"),
        ('{secret: "InitialPassword(ToInteger([mail]))"}', "the length of a password must be a number"),
    ],
)
def test_what_a_definition_may_not_say(world: World, on_create: str, message: str) -> None:
    with pytest.raises(DefinitionRefused) as caught:
        world.apply(
            lambda text: text.replace(
                "      attributes:\n        ext", f"      on_create: {on_create}\n      attributes:\n        ext"
            )
        )
    assert message in caught.value.problems[0].message
