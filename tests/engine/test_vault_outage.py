"""A vault that is down for ten minutes of scheduled runs: nothing is lost, nobody leaves, and it recovers by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from identitymesh.connectors.catalogue import kinds
from identitymesh.connectors.contract import CredentialSource, Kind
from identitymesh.connectors.settings import SecretRef
from identitymesh.redaction import Secret
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.engine import Engine
from identitymesh.secrets.azure import requests
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import parse
from identitymesh.secrets.setup import initialise
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.people import SqlPeople
from identitymesh.storage.runs import SqlDefinitions
from identitymesh.storage.scratch import scratch
from identitymesh.storage.secrets import SqlSecretRows
from tests.secrets.providers.keyvault import CLIENT, Azure
from tests.servers.azure import KeyVault
from tests.servers.https import Answer

from .directory import Directory, MemoryConnector, MemorySettings, memory_kind
from .world import World, target

REF = parse("secret://hr/reader")
PASSWORD = "the-password-of-hr"


class LockedSettings(MemorySettings):
    """A directory that asks for a password."""

    password: SecretRef


def locked_kind(directories: dict[str, Directory]) -> Kind:
    def open_(settings: LockedSettings, credentials: CredentialSource) -> MemoryConnector:
        assert credentials("password") == Secret(PASSWORD)
        return MemoryConnector(directories[settings.base])

    return replace(memory_kind(directories), name="locked", settings=LockedSettings, open=open_)


class VaultedWorld(World):
    """The company; the password of its HR system lies in a vault."""

    vault: KeyVault
    azure: Azure

    def another_engine(self) -> Engine:
        if not hasattr(self, "vault"):
            return super().another_engine()
        plain = super().another_engine()._parts
        store = SecretStore(
            SqlSecretRows(self.database), self.folder / "host", Means(azure=self.azure.settings(self.vault))
        )
        all_kinds = {**kinds(), **plain.kinds, "locked": locked_kind(self.directories)}
        parts = replace(plain, secrets=store, kinds=all_kinds)
        definitions = Definitions(
            SqlDefinitions(self.database), parts.kinds, store.audience, actor="tester", clock=parts.clock
        )
        return Engine(parts, definitions, SqlPeople(self.database), lambda: scratch(self.database, self.folder))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultedWorld]:
    monkeypatch.setattr(requests, "RETRIES", 0)  # how long is waited has tests of its own
    (tmp_path / "azure").mkdir()
    azure = Azure.start(tmp_path / "azure")
    with VaultedWorld(tmp_path) as made:
        rows = SqlSecretRows(made.database)
        initialise(
            rows,
            tmp_path / "host",
            provider="azure-key-vault",
            actor="tester",
            label="here",
            announce=lambda _result: None,
        )
        made.azure, made.vault = azure, azure.vault()
        made.engine = made.another_engine()
        made.engine._parts.secrets.put(REF, Secret(PASSWORD), actor="tester")
        made.text = made.text.replace(
            "hr: {type: memory, base: hr, objects: {user: {}}}",
            f"hr: {{type: locked, base: hr, password: {REF}, objects: {{user: {{}}}}}}",
        )
        made.hire_many(12)
        made.apply()
        made.run()
        assert len(made.accounts()) == 12
        yield made
    azure.stop()


OUTAGES = {
    "throttled": {"answer": Answer(429, {"error": {"code": "Throttled", "message": "no"}}, {"Retry-After": "300"})},
    "unavailable": {"answer": Answer(503, {"error": {"code": "Unavailable", "message": "no"}})},
    "cut off": {"cut_after": 0},
    "revoked": {"revoked": {CLIENT}},
}


def _watermarks(world: World) -> list[tuple[object, ...]]:
    with world.database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM watermark ORDER BY 1, 2")]


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES.keys())
def test_abuse_58_ten_minutes_without_the_vault(world: VaultedWorld, outage: dict[str, object]) -> None:
    world.run(delta=True)
    before = _watermarks(world), world.accounts()
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
    assert (_watermarks(world), world.accounts()) == before
    assert not any(call for call in world.crm.calls if call[0] in ("delete", "update"))
    world.ahead += timedelta(minutes=1)
    world.engine = world.another_engine()
    report = world.run()  # nobody did anything
    assert not [issue for issue in report.issues if issue.code.startswith("provider-")]
    assert "p9999" in world.accounts()
    assert world.accounts()["p0003"]["active"] != world.accounts()["p0001"]["active"]
    assert target(report).state in ("released", "ready", "empty", "done")


def test_one_connector_without_its_secret_stops_no_other(world: VaultedWorld) -> None:
    with world.vault.when(cut_after=0):
        report = world.run()
    read = {one.connector: one.error_code for one in report.imports}
    assert read == {"hr": "provider-unavailable", "crm": ""}


def test_a_run_says_which_secrets_it_used_stale(world: VaultedWorld) -> None:
    means = Means(azure=world.azure.settings(world.vault, serve_stale_seconds=900))
    store = SecretStore(SqlSecretRows(world.database), world.folder / "host", means)
    parts = replace(world.engine._parts, secrets=store)
    engine = Engine(
        parts, world.engine._definitions, SqlPeople(world.database), lambda: scratch(world.database, world.folder)
    )
    world.engine = engine
    world.run()
    with world.vault.when(cut_after=0):
        report = world.run()
    assert [one.error_code for one in report.imports] == ["", ""]
    assert any("the vault does not answer; secret://hr/reader: used as read up to" in note for note in report.notes)
