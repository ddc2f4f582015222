"""Logins to Azure. A named credential is that one alone: if it fails, no other one is tried in its place.

The one module that calls azure-identity (the extra ``[azure]``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from identitymesh.errors import ProviderMisconfigured
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.private_files import UnsafeFile, read_private
from identitymesh.secrets.references import SecretReference

MODES: Final = (0o400, 0o600)
MAX_BYTES: Final = 64 * 1024
PROCESS_SECONDS: Final = 15  # what the program az may take
# The SDK tries the endpoint of managed identities for 25 seconds, as long as a virtual machine starts.
IMDS_RETRIES: Final = 2

Login = Callable[[SecretReference, str], Secret]


class Credential(Protocol):
    """The part of azure-core's ``TokenCredential`` that clients use."""

    def get_token(self, *scopes: str, **options: Any) -> Any: ...


def find_credential(settings: AzureKeyVaultSettings, login: Login | None, options: dict[str, Any]) -> Credential:
    """The credential that the settings name; ``login`` opens a reference of the keyring ``application``.

    ``options`` go to the pipeline of each: certificates, timeouts, retries.

    Raises:
        ProviderMisconfigured: what it needs cannot be read.
        SecretError, KeyringError: the client secret does not open.
    """
    if settings.authority:
        options = {**options, "authority": settings.authority}
    if not settings.instance_discovery:
        options = {**options, "disable_instance_discovery": True}
    return _MAKERS[settings.credential](settings, login, options)


def _default(settings: AzureKeyVaultSettings, _login: Login | None, options: dict[str, Any]) -> Credential:
    from azure.identity import DefaultAzureCredential

    named = {"managed_identity_client_id": settings.client_id} if settings.client_id else {}
    found: Credential = DefaultAzureCredential(process_timeout=PROCESS_SECONDS, **named, **options)
    return found


def _managed_identity(settings: AzureKeyVaultSettings, _login: Login | None, options: dict[str, Any]) -> Credential:
    from azure.identity import ManagedIdentityCredential

    # Its endpoint is this machine's own, without TLS: what is said about certificates and authorities is not for it.
    plain = {name: value for name, value in options.items() if name not in _TLS_OPTIONS}
    plain |= {"retry_total": IMDS_RETRIES, "retry_status": IMDS_RETRIES}
    found: Credential = ManagedIdentityCredential(client_id=settings.client_id or None, **plain)
    return found


def _workload_identity(settings: AzureKeyVaultSettings, _login: Login | None, options: dict[str, Any]) -> Credential:
    from azure.identity import WorkloadIdentityCredential

    found: Credential = WorkloadIdentityCredential(
        tenant_id=settings.tenant_id, client_id=settings.client_id, token_file_path=str(settings.token_file), **options
    )
    return found


def _client_secret(settings: AzureKeyVaultSettings, login: Login | None, options: dict[str, Any]) -> Credential:
    from azure.identity import ClientSecretCredential

    if settings.client_secret_file is not None:
        secret = _read(settings.client_secret_file, "client_secret_file")
    elif settings.client_secret is not None and login is not None:
        secret = login(SecretReference(settings.client_secret), "login to Azure Key Vault")
    else:
        raise _misconfigured("client_secret_file", "it is not set, and a slot is opened with no secret of a keyring")
    found: Credential = ClientSecretCredential(
        settings.tenant_id, settings.client_id, secret.reveal_text().removesuffix("\n"), **options
    )
    return found


def _certificate(settings: AzureKeyVaultSettings, _login: Login | None, options: dict[str, Any]) -> Credential:
    from azure.identity import CertificateCredential

    if settings.certificate_file is None:
        raise _misconfigured("certificate_file", "it is not set")
    content = _read(settings.certificate_file, "certificate_file")
    try:
        found: Credential = CertificateCredential(
            settings.tenant_id, settings.client_id, certificate_data=content.reveal(), **options
        )
    except ValueError:
        raise _misconfigured("certificate_file", "it holds no certificate with its private key in PEM") from None
    return found


def _cli(settings: AzureKeyVaultSettings, _login: Login | None, _options: dict[str, Any]) -> Credential:
    from azure.identity import AzureCliCredential

    found: Credential = AzureCliCredential(tenant_id=settings.tenant_id, process_timeout=PROCESS_SECONDS)
    return found


_TLS_OPTIONS: Final = ("connection_verify", "authority", "disable_instance_discovery")
_MAKERS: Final[dict[str, Callable[[AzureKeyVaultSettings, Login | None, dict[str, Any]], Credential]]] = {
    "default": _default,
    "managed-identity": _managed_identity,
    "workload-identity": _workload_identity,
    "client-secret": _client_secret,
    "certificate": _certificate,
    "cli": _cli,
}


def _read(path: Path, setting: str) -> Secret:
    try:
        return read_private(path, modes=MODES, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        raise _misconfigured(setting, f"there is no file {path}") from None
    except UnsafeFile as reason:
        raise _misconfigured(setting, f"{path} may not be trusted: {reason}") from None


def _misconfigured(setting: str, reason: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"azure_key_vault.{setting}: {reason}", hint="Correct the setting, or the file; it must have mode 0400."
    )
