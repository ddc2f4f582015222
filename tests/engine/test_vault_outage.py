"""A vault that is down for ten minutes of scheduled runs: nothing is lost, nobody leaves, and it recovers by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from identitymesh.errors import ObjectRefused
from identitymesh.secrets.azure import requests
from tests.secrets.providers.keyvault import CLIENT
from tests.servers.azure import Weather
from tests.servers.https import Answer

from .vaulted import PASSWORD, VaultedWorld, vaulted_world, watermarks
from .world import target


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultedWorld]:
    monkeypatch.setattr(requests, "RETRIES", 0)  # how long is waited has tests of its own
    with vaulted_world(tmp_path) as made:
        yield made


OUTAGES = {
    "throttled": {"answer": Answer(429, {"error": {"code": "Throttled", "message": "no"}}, {"Retry-After": "300"})},
    "unavailable": {"answer": Answer(503, {"error": {"code": "Unavailable", "message": "no"}})},
    "cut off": {"cut_after": 0},
    "revoked": {"revoked": {CLIENT}},
}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES.keys())
def test_abuse_58_ten_minutes_without_the_vault(world: VaultedWorld, outage: dict[str, object]) -> None:
    world.run(delta=True)
    before = watermarks(world), world.accounts()
    world.hire("p9999", "New", "Comer")
    world.fire("p0003")
    with world.vault.when(**outage):
        for minute in range(10):  # one run a minute, delta and full in turn
            world.ahead += timedelta(minutes=1)
            world.engine = world.another_engine()  # each run is a process of its own
            report = world.run(delta=minute % 2 == 0)
            errors = [issue for issue in report.issues if issue.code.startswith("provider-")]
            assert len(errors) == 1
            assert (errors[0].connector, errors[0].code) == (
                "hr",
                "provider-denied" if "revoked" in outage else "provider-unavailable",
            )
            assert "Azure Key Vault https://127.0.0.1" in errors[0].message
            (failed,) = [one for one in report.imports if one.connector == "hr"]
            assert failed.hint
            assert PASSWORD not in repr(report)
    assert (watermarks(world), world.accounts()) == before
    assert not any(call for call in world.crm.calls if call[0] in ("delete", "update"))
    world.ahead += timedelta(minutes=1)
    world.engine = world.another_engine()
    report = world.run()  # nobody did anything
    assert not [issue for issue in report.issues if issue.code.startswith("provider-")]
    assert "p9999" in world.accounts()
    assert world.accounts()["p0003"]["active"] != world.accounts()["p0001"]["active"]
    assert target(report).state in ("released", "ready", "empty", "done")


def test_what_was_done_is_recorded_although_the_vault_goes_away_while_passwords_are_dropped(
    world: VaultedWorld,
) -> None:
    once = "      on_create: {secret: 'InitialPassword(20)'}\n      attributes:\n        externalId"
    world.apply(lambda text: text.replace("      attributes:\n        externalId", once), release=True)
    world.run()
    world.hire("q1", "New", "One")
    world.hire("q2", "New", "Two")
    world.hire("q3", "New", "Three")
    fair = world.vault.weather

    def refuse(operation: str, key: str) -> None:
        if operation == "create" and key == "q2":
            world.vault.weather = Weather(cut_after=0)
            raise ObjectRefused("422 no twos")

    world.crm.before = refuse
    report = world.run(delta=True)
    world.vault.weather = fair

    (exported,) = report.exports
    assert (exported.done, exported.parked) == ({"create": 2}, 1)
    assert exported.error_code == "provider-unavailable"
    assert {(one.subject, one.code) for one in report.issues} == {
        ("q2", "object-refused"),
        ("", "provider-unavailable"),
    }
    world.crm.before = None
    after = world.run()
    assert [one.done for one in after.exports] == [{"create": 1}]
    assert {"q1", "q2", "q3"} <= world.accounts().keys()


def test_a_run_goes_on_although_the_vault_removes_no_expired_passwords(world: VaultedWorld) -> None:
    once = "      on_create: {secret: 'InitialPassword(20)'}\n      attributes:\n        externalId"
    world.apply(lambda text: text.replace("      attributes:\n        externalId", once), release=True)
    world.ahead = timedelta(days=-15)
    world.hire("q1", "New", "One")
    world.run()
    world.ahead = timedelta()
    with world.vault.when(cut_after=0):
        report = world.run()

    assert {one.connector: one.error_code for one in report.imports} == {"hr": "provider-unavailable", "crm": ""}
    assert [note for note in report.notes if note.startswith("expired initial passwords were not removed: ")]
    assert len(world.engine._parts.secrets.list()) == 2
    world.run()
    assert [one.ref for one in world.engine._parts.secrets.list()] == ["secret://hr/reader"]


def test_one_connector_without_its_secret_stops_no_other(world: VaultedWorld) -> None:
    with world.vault.when(cut_after=0):
        report = world.run()
    read = {one.connector: one.error_code for one in report.imports}
    assert read == {"hr": "provider-unavailable", "crm": ""}


def test_a_run_says_which_secrets_it_used_stale(world: VaultedWorld) -> None:
    world.stale_seconds = 900
    world.engine = world.another_engine()
    world.run()
    with world.vault.when(cut_after=0):
        report = world.run()
    assert [one.error_code for one in report.imports] == ["", ""]
    assert any("the vault does not answer; secret://hr/reader: used as read up to" in note for note in report.notes)
