"""The ``azure-key-vault`` protector: the identity wrapped by an RSA key in a vault, which never leaves it.

What is kept here is JSON with the full id of the key and its version, and the wrapped
identity. RSA-OAEP with SHA-256 (RFC 8017) has room for 190 bytes under a 2048-bit key;
the identity comes with a digest over keyring and slot, so that a wrapped identity which
was moved to another slot is refused. The version is pinned: a key that is rotated in the
vault still opens, as long as its old version is enabled.

The login is that of ``azure_key_vault.*``, but never one out of a keyring: that is what
is being opened here. The one module that calls azure-keyvault-keys (the extra ``[azure]``).
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from identitymesh.errors import KeyringBroken, KeyringError, SecretError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import checked_identity
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.protectors import Place, Protector, SlotClass, Traits
from identitymesh.secrets.sealing import length_prefixed

TYPE: Final = "azure-key-vault"
FORMAT: Final = "identitymesh-azure-key-vault/1"
ALGORITHM: Final = "RSA-OAEP-256"
DIGEST_BYTES: Final = 16
MAX_BYTES: Final = 4096
_LABEL: Final = b"identitymesh/azure-key-vault/1"
TRAITS: Final = Traits(
    SlotClass.UNATTENDED, 4, "whoever may log in to Azure as this host and read the database; seen in the vault's log"
)
_HINT: Final = (
    "Check azure_key_vault.* and the key: it must exist, be enabled and not purged, in the version that was pinned. "
    "Any other slot still opens this keyring: `identitymesh keys status`; the recovery key always does."
)
_T = TypeVar("_T")


def build(place: Place) -> Protector:
    return WrappedIdentity(place)


class WrappedIdentity:
    """An identity that one version of one key in a vault wraps and unwraps."""

    type = TYPE
    traits = TRAITS

    def __init__(self, place: Place) -> None:
        self._place = place
        self._settings = place.means.azure or AzureKeyVaultSettings()
        self._where = f"keyring {place.keyring}: the Azure Key Vault slot"

    def exists(self) -> bool:
        return self._place.guarded is not None

    def describe(self) -> str:
        return "a key in Azure Key Vault"

    def identity(self) -> Secret:
        """What the key unwraps.

        Raises:
            KeyringBroken: what is stored is nothing of this protector, or of another slot.
            KeyringError: the vault does not answer, or refuses; or the key is gone.
        """
        if self._place.guarded is None:
            raise KeyringError(f"{self._where} has nothing stored", hint=_HINT)
        key_id, wrapped = _decode(self._place.guarded, self._where)
        self._assert_complete()
        self._assert_same_vault(key_id)
        content = self._call(lambda client: Secret(client(key_id).unwrap_key(_algorithm(), wrapped).key))
        return checked_identity(self._cut(content), self._where)

    def guard(self, identity: Secret) -> bytes | None:
        """Wrap with the current version of the key in ``azure_key_vault.key_id``, and remember which that was.

        Raises:
            KeyringError: a setting is missing, the vault does not answer, or refuses.
        """
        self._assert_complete()
        key_id = self._call(lambda client: client.current(self._settings.key_id))
        content = Secret(self._digest() + identity.reveal())
        wrapped = self._call(lambda client: client(key_id).wrap_key(_algorithm(), content.reveal()).encrypted_key)
        fields = {"format": FORMAT, "key": key_id, "wrapped": base64.b64encode(wrapped).decode()}
        return json.dumps(fields, sort_keys=True).encode()

    def remove(self) -> None:
        """Nothing is kept on this host; the key in the vault belongs to its owner."""

    def _digest(self) -> bytes:
        bound = length_prefixed(_LABEL, self._place.keyring.encode(), self._place.slot.encode())
        return sha256(bound).digest()[:DIGEST_BYTES]

    def _cut(self, content: Secret) -> Secret:
        plain = content.reveal()
        if not hmac.compare_digest(plain[:DIGEST_BYTES], self._digest()):
            raise KeyringBroken(f"{self._where}: what is stored was wrapped for another keyring or slot", hint=_HINT)
        return Secret(plain[DIGEST_BYTES:])

    def _assert_complete(self) -> None:
        missing = self._settings.missing("key_id")
        if missing is not None:
            raise KeyringError(
                f"{self._where} needs azure_key_vault.{missing}, which is not set",
                hint="Write it in identitymesh.toml, below [azure_key_vault].",
            )

    def _assert_same_vault(self, key_id: str) -> None:
        """The id lies in the database. Whoever writes there must not choose whom this host asks, with its login."""
        if urlsplit(key_id).netloc.lower() != urlsplit(self._settings.key_id).netloc.lower():
            raise KeyringBroken(
                f"{self._where}: it names a key in another vault than azure_key_vault.key_id; nobody was asked",
                hint=_HINT,
            )

    def _call(self, work: Callable[[_Keys], _T]) -> _T:
        if find_spec("azure") is None or find_spec("azure.keyvault") is None:
            raise KeyringError(
                f"{self._where} needs azure-identity and azure-keyvault-keys, which are not installed",
                hint="Install them with their extra: pip install 'identitymesh[azure]'",
            )
        from azure.core.exceptions import ResourceNotFoundError

        from identitymesh.secrets.azure.requests import translated

        try:
            with translated(self._where, quiet=True):
                return work(_Keys(self._settings))
        except ResourceNotFoundError:
            raise KeyringError(f"{self._where}: the vault has no such key, or no such version", hint=_HINT) from None
        except SecretError as error:
            raise KeyringError(str(error), hint=error.hint) from None


class _Keys:
    """Clients for keys of the vault in the settings."""

    def __init__(self, settings: AzureKeyVaultSettings) -> None:
        from identitymesh.secrets.azure.credentials import find_credential
        from identitymesh.secrets.azure.requests import for_clients, options

        given = options(settings)
        self._credential = find_credential(settings, None, given)
        self._options = for_clients(settings.key_id, given)

    def current(self, key_id: str) -> str:
        """The full id, with its version, of what the settings name."""
        from azure.keyvault.keys import KeyClient

        parts = urlsplit(key_id)
        names = parts.path.strip("/").split("/")[1:]
        client = KeyClient(f"https://{parts.netloc}", self._credential, **self._options)
        key = client.get_key(*names)
        properties = key.properties
        if not str(key.key_type).upper().endswith(("RSA", "RSA-HSM", "RSA_HSM")):
            raise KeyringError(f"{key.name} in Azure Key Vault is no RSA key", hint=_HINT)
        if properties.enabled is False or (properties.expires_on and properties.expires_on < datetime.now(UTC)):
            raise KeyringError(f"{key.name} in Azure Key Vault is disabled, or has expired", hint=_HINT)
        return str(key.id)

    def __call__(self, key_id: str) -> Any:
        """A client that wraps and unwraps, in the vault."""
        from azure.keyvault.keys.crypto import CryptographyClient

        return CryptographyClient(key_id, self._credential, **self._options)


def _algorithm() -> Any:
    from azure.keyvault.keys.crypto import KeyWrapAlgorithm

    return KeyWrapAlgorithm(ALGORITHM)


def _decode(guarded: bytes, where: str) -> tuple[str, bytes]:
    try:
        fields = json.loads(guarded) if len(guarded) <= MAX_BYTES else {}
        if fields.keys() != {"format", "key", "wrapped"} or fields["format"] != FORMAT:
            raise ValueError("format")  # noqa: TRY301 - one refusal for everything that is wrong with it
        key_id, names = str(fields["key"]), urlsplit(str(fields["key"])).path.strip("/").split("/")
        if not key_id.startswith("https://") or len(names) != 3 or names[0] != "keys":
            raise ValueError("key")  # noqa: TRY301 - as above
        return key_id, base64.b64decode(fields["wrapped"], validate=True)
    except (ValueError, TypeError, AttributeError):
        raise KeyringBroken(f"{where}: what is stored is not wrapped by a key in Azure Key Vault", hint=_HINT) from None
