"""The ledger from the command line: who owns, who uses, what is due, what does not fit together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.custody.conftest import CONNECTOR, Home

REF = "secret://hr/reader"
CANARY = "correct horse"


def connector(host: str = "db.example.org", name: str = "hr") -> str:
    return CONNECTOR.format(url=f"postgresql+psycopg://hr@{host}/hr").replace("  hr:", f"  {name}:", 1)


def test_one_secret_with_everything_but_its_value(home: Home) -> None:
    home.store(REF, CANARY, "--owner", "HR team", "--description", "reads HR", "--cadence-days", "90")
    home.ok("apply", str(home.define(connector())))

    shown = home.ok("secrets", "show", REF)
    for part in ("HR team", "reads HR", "90 days", "hr password (db.example.org:5432)", "hr (db.example.org:5432)"):
        assert part in shown.out
    document = home.ok("secrets", "show", REF, "--json").document
    assert document["state"] == "in use"
    assert document["uses"] == [{"connector": "hr", "field": "password", "endpoints": ["db.example.org:5432"]}]
    assert (document["secret"]["owner"], document["secret"]["cadence_days"]) == ("HR team", 90)
    listed = home.ok("secrets", "list", "--json").document["secrets"]
    assert [one["ref"] for one in listed] == [REF]
    used = home.ok("secrets", "usage")
    assert "in use" in used.out
    for answer in (shown, used, home.ok("secrets", "usage", "--json"), home.ok("secrets", "list")):
        assert CANARY not in answer.out + answer.err


def test_what_was_said_of_a_secret_stays_when_its_value_is_replaced(home: Home) -> None:
    home.store(REF, "one", "--owner", "HR team", "--cadence-days", "90")
    home.store(REF, "two", "--description", "reads HR")
    secret = home.ok("secrets", "show", REF, "--json").document["secret"]
    assert (secret["owner"], secret["cadence_days"], secret["description"]) == ("HR team", 90, "reads HR")
    assert secret["current_version"] == "2"


def test_the_last_use_says_who_and_which_version(home: Home) -> None:
    home.store(REF, CANARY)
    home.ok("secrets", "get", REF, "--force")
    (one,) = home.ok("secrets", "usage", "--json").document["secrets"]
    assert (one["state"], one["last_used_version"]) == ("unused", "1")
    assert one["last_used_by"]
    assert one["last_used"].endswith("Z")


def test_a_missing_ref_and_an_unused_secret_are_both_shown(home: Home) -> None:
    home.store("secret://old/one", CANARY)
    home.store("secret://product/smtp", CANARY, "--keyring", "application")
    applied = home.ok("apply", str(home.define(connector())))
    assert f"secrets set {REF}" in applied.out

    found = home("secrets", "orphans")
    assert found.code == 5
    assert f"missing  {REF}, named by hr password" in found.out
    assert "unused   secret://old/one" in found.out
    assert "product/smtp" not in found.out  # the product's own are in no definition
    document = home("secrets", "orphans", "--json").document
    assert [one["ref"] for one in document["missing"]] == [REF]
    assert document["unused"] == ["secret://old/one"]

    home.store(REF, CANARY)
    home.ok("secrets", "delete", "secret://old/one")
    assert "every stored credential is used" in home.ok("secrets", "orphans").out


def test_a_missing_secret_is_shown_as_such_and_an_unknown_one_refused(home: Home) -> None:
    home.ok("apply", str(home.define(connector())))
    assert f"Store it: identitymesh secrets set {REF}" in home.ok("secrets", "show", REF).out
    refused = home("secrets", "show", "secret://nobody/knows", "--json")
    assert refused.code == 4
    assert refused.error["code"] == "secret-missing"


@pytest.mark.parametrize(("age", "code", "text"), [(95, 5, "overdue by 5 days"), (80, 0, "in 10 days"), (10, 0, "")])
def test_due_by_the_age_of_the_value(home: Home, age: int, code: int, text: str) -> None:
    home.store(REF, CANARY, "--cadence-days", "90", "--owner", "HR team")
    home.store("secret://without/cadence", CANARY)
    when = datetime.now(UTC) - timedelta(days=age, minutes=1)
    moment = when.replace(tzinfo=None) if home.url is None else when
    home.sql("UPDATE secret_ledger SET changed = :at", at=str(moment) if home.url is None else moment)
    home.ok("apply", str(home.define(connector())))  # a new audience makes no value younger

    answer = home("secrets", "due")
    assert answer.code == code
    assert (text or "nothing is due") in answer.out
    due = home("secrets", "due", "--json").document["due"]
    assert [one["ref"] for one in due] == ([REF] if text else [])
    assert [one["overdue"] for one in due] == ([code == 5] if text else [])


def test_a_connector_that_moved_to_another_host_is_refused_until_its_audience_is_allowed(home: Home) -> None:
    home.store(REF, CANARY)
    home.ok("apply", str(home.define(connector())))
    moved = home.define(connector("evil.example.org"))

    refused = home("apply", str(moved))
    assert refused.code == 4
    assert "connector hr would send it to another place than before" in refused.err
    assert f"--allow-audience {REF}" in refused.err
    assert "db.example.org" in home.ok("definition", "show").out
    before = home.ok("secrets", "show", REF, "--json").document["secret"]["audience"]
    assert before == [{"connector": "hr", "endpoint": "db.example.org:5432"}]

    home.ok("apply", str(moved), "--allow-audience", REF)
    after = home.ok("secrets", "show", REF, "--json").document["secret"]["audience"]
    assert after == [{"connector": "hr", "endpoint": "evil.example.org:5432"}]
    (latest, *_rest) = home.audit("secret.audience")
    assert latest.record.payload == {
        "added": ["hr (evil.example.org:5432)"],
        "removed": ["hr (db.example.org:5432)"],
    }


def test_a_second_connector_is_refused_until_its_audience_is_allowed(home: Home) -> None:
    home.store(REF, CANARY)
    home.ok("apply", str(home.define(connector())))
    both = home.define(connector() + connector(name="crm"))
    refused = home("apply", str(both))
    assert refused.code == 4
    assert "it belongs to hr; another connector asks for it" in refused.err
    home.ok("apply", str(both), "--allow-audience", REF)
    assert "crm password" in home.ok("secrets", "usage").out
