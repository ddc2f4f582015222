"""The provider ``azure-key-vault`` keeps the contract, on our own vault; and on one that the environment names."""

import base64
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

from identitymesh.errors import ProviderDenied, ProviderUnavailable
from identitymesh.secrets.azure import requests
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.stores.azure_key_vault import vault as vaults
from identitymesh.secrets.stores.azure_key_vault.entries import PREFIX, entry_name
from identitymesh.storage.database import open_database
from tests.conftest import OUTSIDE
from tests.secrets.conftest import make_installation
from tests.secrets.providers.contract import VaultContract, VaultWorld
from tests.secrets.providers.keyvault import Azure, KeyVaultWorld

ADDRESS = "KEYVAULT_URI"


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    found = Azure.start(tmp_path_factory.mktemp("azure"))
    yield found
    found.stop()


@pytest.fixture
def vaulted(azure: Azure) -> KeyVaultWorld:
    return azure.world()


class TestAzureKeyVault(VaultContract):
    @pytest.fixture
    def world(self, vaulted: KeyVaultWorld) -> KeyVaultWorld:
        return vaulted


class RealVault:
    """A vault, or a double of one, that somebody else runs and nobody else uses: each test begins by emptying it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = Path(OUTSIDE["KEYVAULT_CACERT"]) if "KEYVAULT_CACERT" in OUTSIDE else None
        self.settings = AzureKeyVaultSettings(vault_uri=OUTSIDE[ADDRESS], ca_file=authority)
        options: dict[str, Any] = {}
        if "KEYVAULT_CACERT" in OUTSIDE:
            options["connection_verify"] = OUTSIDE["KEYVAULT_CACERT"]
        self.credential: Any = DefaultAzureCredential()
        if "KEYVAULT_TOKEN" in OUTSIDE:  # a double that takes any token, and challenges for a resource of its own
            token = SimpleNamespace(token=OUTSIDE["KEYVAULT_TOKEN"], expires_on=int(time.time()) + 86400)
            self.credential = SimpleNamespace(get_token=lambda *_scopes, **_options: token)
            options["verify_challenge_resource"] = False
            real = requests.for_clients
            loose = {"verify_challenge_resource": False}
            monkeypatch.setattr(vaults, "for_clients", lambda url, given: real(url, given) | loose)
        monkeypatch.setattr(vaults, "find_credential", lambda *_settings: self.credential)
        self.client = SecretClient(OUTSIDE[ADDRESS], self.credential, **options)
        self.monkeypatch = monkeypatch

    def empty(self) -> None:
        for one in list(self.client.list_properties_of_secrets()):
            if (one.name or "").startswith(PREFIX):
                self.lose_name(str(one.name))
        for gone in list(self.client.list_deleted_secrets()):
            if (gone.name or "").startswith(PREFIX):
                self.client.purge_deleted_secret(str(gone.name))

    def lose_name(self, name: str) -> None:
        self.client.begin_delete_secret(name, _polling_interval=0.2).wait()
        self.client.purge_deleted_secret(name)

    def lose(self, ref: str) -> None:
        self.lose_name(entry_name(ref))

    def exchange(self, ref: str, other: str) -> None:
        found = self.client.get_secret(entry_name(other))
        self.client.set_secret(entry_name(ref), str(found.value), tags=found.properties.tags)

    def set_outside(self, ref: str, value: bytes) -> str:
        set_one = self.client.set_secret(entry_name(ref), base64.b64encode(value).decode())
        return str(set_one.properties.version)

    @contextmanager
    def outage(self, after: int) -> Iterator[None]:
        """On this side of the line."""
        sent, real = itertools.count(), RequestsTransport.send

        def send(transport: Any, request: Any, **options: Any) -> Any:
            if next(sent) >= after:
                raise ServiceRequestError("cut")
            return real(transport, request, **options)

        with self.monkeypatch.context() as patched:
            patched.setattr(RequestsTransport, "send", send)
            yield


if ADDRESS in OUTSIDE:

    class TestRealKeyVault(VaultContract):
        """What IDENTITYMESH_TEST_KEYVAULT_URI names; not collected without it."""

        # Who may do nothing there would need a second identity.
        test_permission_denied_is_said_in_words_and_changes_nothing = None  # type: ignore[assignment]

        @pytest.fixture
        def world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultWorld]:
            real = RealVault(monkeypatch)
            real.empty()
            databases = [open_database(f"sqlite:///{tmp_path}/{name}.db") for name in ("ours", "theirs")]
            mesh = make_installation(databases[0], tmp_path / "host")

            def fill(count: int) -> None:
                def one(number: int) -> None:
                    ref = f"secret://many/{number}"
                    tags = {"identitymesh-ref": ref, "identitymesh-installation": mesh.result.installation}
                    real.client.set_secret(entry_name(ref), "dmFsdWU=", tags=tags)

                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(one, range(count)))

            yield VaultWorld(
                mesh,
                "azure-key-vault",
                outage=real.outage,
                denied=lambda: real.outage(0),
                exchange=real.exchange,
                lose=real.lose,
                fill=fill,
                tells_apart=1.0,
                outage_error=ProviderUnavailable,
                denied_error=ProviderDenied,
                means=Means(azure=real.settings),
                many=int(OUTSIDE.get("KEYVAULT_MANY", "60")),
                set_outside=real.set_outside,
                other=lambda: make_installation(databases[1], tmp_path / "other-host"),
            )
            for database in databases:
                database.close()
