"""The product with its secrets in a key vault, called as its programs call it; and what is left when Azure is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from identitymesh.secrets.azure import requests
from identitymesh.secrets.stores.azure_key_vault.entries import entry_name
from identitymesh.settings import load
from tests.cli.test_calls import CALLS
from tests.custody.conftest import Home
from tests.house_rules.repository import ROOT
from tests.secrets.providers.keyvault import Azure
from tests.servers.azure import KeyVault

REF = "secret://hr/reader"
VALUE = "hunter2 pässword"


def settings(azure: Azure, vault: KeyVault, **more: str) -> str:
    """The tables of ``identitymesh.toml``."""
    found = asdict(azure.settings(vault, **more))
    lines = [f"{name} = {json.dumps(value, default=str)}\n" for name, value in found.items() if value is not None]
    return "\n[azure_key_vault]\n" + "".join(lines)


def configure(home: Home, azure: Azure, vault: KeyVault, provider: str = "azure-key-vault", **more: str) -> None:
    file = home.folder / "identitymesh.toml"
    others = re.sub(r"^\[azure_key_vault\].*?(?=^\[|\Z)", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    file.write_text(
        others.replace('provider = "database"', f'provider = "{provider}"') + settings(azure, vault, **more)
    )


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    monkeypatch.setattr(requests, "RETRIES", 0)
    (tmp_path / "azure").mkdir()
    found = Azure.start(tmp_path / "azure")
    yield found
    found.stop()


@pytest.fixture
def vault(embedded: Home, azure: Azure) -> KeyVault:
    vault = azure.vault()
    configure(embedded, azure, vault)
    return vault


def codes(home: Home) -> set[str]:
    return {one["code"] for one in home("doctor", "--json").document["findings"]}


def test_secrets_live_in_the_vault(embedded: Home, vault: KeyVault) -> None:
    home = embedded
    home.store(REF, VALUE)
    assert home.sql("SELECT * FROM secret") == []
    assert list(vault.secrets) == [entry_name(REF)]
    assert home.ok("secrets", "get", REF, "--force").out == VALUE
    home.ok("secrets", "follow", REF, "--pinned")
    assert "pinned" in home.ok("secrets", "show", REF).out
    vault.set_outside(entry_name(REF), "b3V0c2lkZQ==")
    assert home.ok("secrets", "get", REF, "--force").out == VALUE
    home.ok("secrets", "follow", REF, "--current")
    assert home.ok("secrets", "get", REF, "--force").out == "outside"
    assert [stored.record.action for stored in home.audit("secret.pin")] == ["secret.pin"] * 2
    home.ok("secrets", "delete", REF, "--yes")
    assert list(vault.gone) == [entry_name(REF)]
    home.store(REF, VALUE)
    home.ok("secrets", "delete", REF, "--yes", "--purge")
    assert (vault.secrets, vault.gone) == ({}, {})


def test_doctor_asks_the_vault(embedded: Home, azure: Azure, vault: KeyVault) -> None:
    embedded.store(REF, VALUE)
    assert not {code for code in codes(embedded) if code.startswith(("provider", "settings", "served"))}
    with vault.when(cut_after=0):
        assert "provider-unavailable" in codes(embedded)
    with vault.when(denied={"get"}):
        assert "provider-denied" in codes(embedded)
    change = "UPDATE audit SET payload = :payload, action = 'secret.open' WHERE action = 'secret.set'"
    embedded.sql(change, payload='{"stale_seconds":7}')
    assert "served-stale" in codes(embedded)
    configure(embedded, azure, vault, provider="azure-key-vault", vault_uri="")
    answer = embedded("secrets", "list")
    assert answer.code != 0
    assert "azure_key_vault.vault_uri, which is not set" in answer.err
    assert "provider-misconfigured" in codes(embedded)


def test_another_setting_is_told_and_changes_nothing(embedded: Home, azure: Azure, vault: KeyVault) -> None:
    embedded.store(REF, VALUE)
    file = embedded.folder / "identitymesh.toml"
    file.write_text(file.read_text().replace('provider = "azure-key-vault"', 'provider = "database"'))
    answer = embedded.ok("secrets", "get", REF, "--force")
    assert answer.out == VALUE
    assert "secrets.provider is database, but the secrets are in azure-key-vault" in answer.err
    assert "settings" in codes(embedded)


def test_abuse_65_azure_is_gone_for_ever(
    embedded: Home, azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots wrapped there open nothing any more; the recovery key and a backup still bring everything back."""
    home, vault = embedded, azure.vault()
    home.store(REF, VALUE)
    vault.make_key("identitymesh")
    configure(home, azure, vault, provider="database", vault_uri="", key_id=f"{vault.url}/keys/identitymesh")
    home.ok("keys", "slots", "add", "--type", "azure-key-vault")
    for key in (home.folder / "host").glob("*.key"):
        key.unlink()  # the slot in Azure is all that this host has left
    assert home.ok("secrets", "get", REF, "--force").out == VALUE
    home.ok("backup", "create", "--to", str(tmp_path / "mesh.backup"))
    vault.stop()
    azure.vaults.remove(vault)
    refused = home("secrets", "get", REF, "--force")
    assert refused.code != 0
    assert "the Azure Key Vault slot" in refused.err
    assert VALUE not in refused.err + refused.out
    blank = Home(tmp_path / "blank", monkeypatch)
    blank.folder.mkdir()
    blank.ok("backup", "restore", str(tmp_path / "mesh.backup"), stdin=home.recovery_key + "\n")
    assert blank.ok("secrets", "get", REF, "--force").out == VALUE


def test_the_settings_and_commands_of_the_page_are_real(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "azure-key-vault.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "identitymesh.toml").write_text(block)
        azure = load(folder, environment={}).azure_key_vault
        assert azure.missing("key_id" if azure.key_id else "vault_uri") is None
    named = re.findall(r"identitymesh ([a-z]+(?: [a-z-]+)*)", page)
    known = (*CALLS, "secrets migrate")
    assert {"secrets set", "secrets follow", "keys slots add", "doctor"} <= {
        call for text in named for call in known if f"{text} ".startswith(f"{call} ")
    }
    assert [text for text in named if not any(f"{text} ".startswith(f"{call} ") for call in known)] == []
