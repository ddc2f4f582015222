"""The provider ``azure-key-vault`` keeps the contract of all vaults."""

from collections.abc import Iterator

import pytest

from tests.secrets.providers.contract import VaultContract
from tests.secrets.providers.keyvault import Azure, KeyVaultWorld


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
