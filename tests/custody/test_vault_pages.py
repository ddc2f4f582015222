"""What the pages on vaults and migration say is done as it stands there: settings, policy and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from identitymesh.secrets.stores.azure_key_vault.entries import entry_name
from tests.custody.conftest import Home
from tests.custody.test_key_vault import azure, codes, configure  # noqa: F401 - a fixture
from tests.house_rules.repository import ROOT
from tests.secrets.providers.keyvault import Azure
from tests.servers.authority import Authority
from tests.servers.https import Answer, Request
from tests.servers.openbao import OpenBaoServer

REFS = {f"secret://hr/{number}": f"value {number}" for number in range(5)}
GRANT = re.compile(r'^path "(?P<path>[^"*]+)\*?"\s*{ capabilities = \[(?P<given>[^\]]+)\]', re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs/howto" / f"{name}.md").read_text()


def block(name: str, language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)[number]  # type: ignore[no-any-return]


def commands(name: str) -> list[list[str]]:
    """Lines of the page that are a command of the program, with the arguments that stand there."""
    return [shlex.split(line)[1:] for line in re.findall(r"^    (identitymesh .*)$", page(name), re.MULTILINE)]


@pytest.fixture
def bao(authority: Authority) -> Iterator[OpenBaoServer]:
    server = OpenBaoServer(authority)
    yield server
    server.stop()


def enable(home: Home, bao: OpenBaoServer) -> None:
    """As docs/howto/openbao.md says, with a role that has the page's policy and nothing else."""
    rules = {
        found["path"]: tuple(re.findall(r"\w+", found["given"])) for found in GRANT.finditer(block("openbao", "hcl"))
    }
    assert len(rules) == 8
    role_id, secret_id = bao.role(rules=rules)
    text = block("openbao", "toml").replace("https://bao.example.com:8200", bao.url)
    text = text.replace("bao-ca.pem", str(bao.ca_file)).replace("the role id", role_id)
    file = home.folder / "identitymesh.toml"
    others = re.sub(r"^\[openbao\].*?(?=^\[|\Z)", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    file.write_text(f"{others}\n{text}")
    (login,) = commands("openbao")
    home.ok(*login, stdin=secret_id)


@pytest.fixture
def filled(embedded: Home) -> Home:
    for ref, value in REFS.items():
        embedded.store(ref, value)
    return embedded


def values(home: Home) -> dict[str, str]:
    return {ref: home.ok("secrets", "get", ref, "--force").out for ref in REFS}


def test_the_page_on_migration_from_its_first_command_to_its_last(filled: Home, bao: OpenBaoServer) -> None:
    home = filled
    enable(home, bao)
    dry, over, *end = commands("migrate-secrets")
    assert [line[:2] for line in end] == [["secrets", "verify"], ["secrets", "migrate"]]

    home.ok(*dry)
    assert bao.kv == {}
    assert not {code for code in codes(home) if code.startswith("migration")}

    home.ok(*over)
    assert "migration-drains" in codes(home)
    assert "drain" in home.ok("secrets", "migrate").out
    assert values(home) == REFS
    for line in end:
        home.ok(*line)

    assert len(bao.kv) == len(REFS)
    assert home.sql("SELECT * FROM secret WHERE keyring = 'connectors'") == []
    assert values(home) == REFS
    assert not {code for code in codes(home) if code.startswith("migration")}


def test_what_the_page_says_of_the_way_back_and_of_giving_up(filled: Home, bao: OpenBaoServer) -> None:
    home = filled
    enable(home, bao)
    _dry, over, _verify, scrub = commands("migrate-secrets")
    abort, back = (
        shlex.split(command)[1:]
        for command in ("identitymesh secrets migrate --abort", "identitymesh secrets migrate --back")
        if f"`{command}`" in page("migrate-secrets")
    )
    written: list[str] = []

    def full(request: Request) -> Answer | None:
        if request.method == "POST" and "/data/" in request.path:
            written.append(request.path)
        return Answer(413, {"errors": ["no space left on device"]}) if len(written) > 2 else None

    bao.fault = full
    assert home(*over).code != 0
    bao.fault = lambda _request: None
    assert "migration-open" in codes(home)
    home.ok(*abort)
    assert not {code for code in codes(home) if code.startswith("migration")}
    assert values(home) == REFS

    home.ok(*over)
    home.ok(*back)
    assert "migration-drains" in codes(home)
    home.ok(*scrub)
    assert values(home) == REFS
    assert not any(one for entry in bao.kv.values() for one in entry.versions.values() if not one.deleted)


def test_doctor_counts_what_the_target_does_not_have(filled: Home, bao: OpenBaoServer) -> None:
    home = filled
    enable(home, bao)
    home.ok(*commands("migrate-secrets")[1])
    del bao.kv["identitymesh/hr/3"]
    assert values(home) == REFS
    found = {one["code"]: one["message"] for one in home("doctor", "--json").document["findings"]}
    assert "database was asked 1 times for what openbao does not have" in found["migration-fallback"]


def test_the_page_on_openbao_as_the_provider_from_the_beginning(embedded: Home, bao: OpenBaoServer) -> None:
    home = embedded
    enable(home, bao)
    file = home.folder / "identitymesh.toml"
    assert '`provider = "openbao"`' in page("openbao")
    file.write_text(file.read_text().replace('provider = "database"', 'provider = "openbao"'))
    for ref, value in REFS.items():
        home.store(ref, value)
    assert values(home) == REFS
    assert set(bao.kv) == {ref.replace("secret://", "identitymesh/") for ref in REFS}
    assert not {code for code in codes(home) if code.startswith(("provider", "settings"))}


def test_the_page_on_key_vaults(embedded: Home, azure: Azure) -> None:  # noqa: F811 - a fixture
    home, vault = embedded, azure.vault()
    given = block("azure-key-vault", "toml")
    assert given.startswith('[secrets]\nprovider = "azure-key-vault"\n\n[azure_key_vault]\nvault_uri = ')
    configure(home, azure, vault)
    home.store("secret://hr/reader", "hunter2")
    assert list(vault.secrets) == [entry_name("secret://hr/reader")]
    lines = commands("azure-key-vault")
    assert lines == [["secrets", "follow", "secret://hr/reader", "--pinned"]]
    for line in lines:
        home.ok(*line)
    vault.set_outside(entry_name("secret://hr/reader"), "b3V0c2lkZQ==")
    assert home.ok("secrets", "get", "secret://hr/reader", "--force").out == "hunter2"
    assert not {code for code in codes(home) if code.startswith(("provider", "settings"))}
