"""The ``azure-key-vault`` provider: values in an Azure Key Vault, through the SDK of its maker."""

from __future__ import annotations

from typing import Final

from identitymesh.errors import ProviderMisconfigured
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.providers import Provider, Setup

NAME: Final = "azure-key-vault"


def build(setup: Setup) -> Provider:
    """A provider that has asked nobody yet.

    Raises:
        ProviderMisconfigured: a setting is missing, or the library.
    """
    settings = setup.means.azure or AzureKeyVaultSettings()
    missing = settings.missing("vault_uri")
    if missing is not None:
        raise ProviderMisconfigured(
            f"the provider {NAME} needs azure_key_vault.{missing}, which is not set",
            hint=f"Write it in identitymesh.toml, below [azure_key_vault]; credential is {settings.credential}.",
        )
    try:
        from identitymesh.secrets.stores.azure_key_vault.provider import AzureKeyVaultProvider
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("azure", "requests", "msal"):
            raise
        raise ProviderMisconfigured(
            f"the provider {NAME} needs azure-identity and azure-keyvault-secrets, which are not installed",
            hint="Install them with their extra: pip install 'identitymesh[azure]'",
        ) from None
    return AzureKeyVaultProvider(setup, settings)
