"""The settings ``azure_key_vault.*``: here, because providers and protectors do not know the settings module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from identitymesh.fields import PATH, TEXT, YES_OR_NO, Part, one_of, setting, text_that, whole
from identitymesh.secrets.vaults import REFERENCE

STALE_LIMIT: Final = 900
# What the Azure SDK reads of the environment to log in. A process that opens a slot for us needs it as we have it.
LOGIN_VARIABLES: Final = (
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"),
    *("MSI_ENDPOINT", "MSI_SECRET", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"),
    *("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"),
    *("AZURE_FEDERATED_TOKEN_FILE", "AZURE_TOKEN_CREDENTIALS", "AZURE_CONFIG_DIR"),
    *("HTTPS_PROXY", "NO_PROXY", "HOME", "PATH"),
)
CREDENTIALS: Final = ("default", "managed-identity", "workload-identity", "client-secret", "certificate", "cli")


def _https(text: str) -> str:
    """``https://host`` with an optional port, and nothing else: a login in it would be in every log."""
    parts = urlsplit(text)
    if text and (
        parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query
    ):
        raise ValueError("must be https://host, without a path, a query or a login")
    return text.rstrip("/")


def _key_id(text: str) -> str:
    parts = urlsplit(text)
    names = parts.path.strip("/").split("/")
    if text and (parts.scheme != "https" or "@" in parts.netloc or len(names) not in (2, 3) or names[0] != "keys"):
        raise ValueError("must be https://host/keys/name, or with its version https://host/keys/name/version")
    return text.rstrip("/")


URL: Final = text_that(_https)


@dataclass(frozen=True)
class AzureKeyVaultSettings(Part):
    """The provider `azure-key-vault`, and slots of that type. What unlocks them comes from no vault."""

    vault_uri: str = setting("", URL, "`https://name.vault.azure.net`, the vault that holds the secrets.")
    credential: str = setting(
        "default",
        one_of(*CREDENTIALS),
        "How to log in. `default` tries what the Azure SDK tries, in its order; a named one is that one "
        "alone, and recommended.",
    )
    tenant_id: str = setting("", TEXT, "The directory of the login: client-secret, certificate, workload-identity.")
    client_id: str = setting("", TEXT, "The application, or the user-assigned managed identity.")
    client_secret: str | None = setting(
        None, REFERENCE, "client-secret: a `secret://` reference of the keyring `application`. Not for slots."
    )
    client_secret_file: Path | None = setting(None, PATH, "client-secret: instead, a file of mode 0400.")
    certificate_file: Path | None = setting(
        None, PATH, "certificate: certificate and private key as PEM, in a file of mode 0400."
    )
    token_file: Path | None = setting(
        None, PATH, "workload-identity: the file with the federated token. Default: AZURE_FEDERATED_TOKEN_FILE."
    )
    authority: str = setting("", URL, "Where to log in, for sovereign clouds. Default: login.microsoftonline.com.")
    instance_discovery: bool = setting(
        True, YES_OR_NO, "`false` for an authority that Microsoft does not know, such as Azure Stack."
    )
    ca_file: Path | None = setting(None, PATH, "Where certificates must come from, if from no public authority.")
    key_id: str = setting(
        "",
        text_that(_key_id),
        "For slots of type azure-key-vault: `https://name.vault.azure.net/keys/key`, an RSA key.",
    )
    serve_stale_seconds: int = setting(
        0, whole(0, STALE_LIMIT), "While the vault does not answer, use what was read at most so long ago."
    )

    def below(self, folder: Path) -> AzureKeyVaultSettings:
        """The same with absolute paths."""
        names = ("client_secret_file", "certificate_file", "token_file", "ca_file")
        given: dict[str, Path | None] = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {name: folder / path for name, path in given.items() if path is not None}
        return replace(self, **changed)

    def missing(self, place: Literal["vault_uri", "key_id"]) -> str | None:
        """The first setting that is missing for the provider (``vault_uri``) or for a slot (``key_id``)."""
        secret = self.client_secret_file or (self.client_secret if place == "vault_uri" else None)
        needed: dict[str, dict[str, object]] = {
            "client-secret": {
                "tenant_id": self.tenant_id,
                "client_id": self.client_id,
                "client_secret" if place == "vault_uri" else "client_secret_file": secret,
            },
            "certificate": {
                "tenant_id": self.tenant_id,
                "client_id": self.client_id,
                "certificate_file": self.certificate_file,
            },
            "workload-identity": {
                "tenant_id": self.tenant_id,
                "client_id": self.client_id,
                "token_file": self.token_file,
            },
        }
        asked = {place: getattr(self, place), **needed.get(self.credential, {})}
        return next((name for name, value in asked.items() if not value), None)
