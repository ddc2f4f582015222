"""Calls to one vault. The one module that calls azure-keyvault-secrets (the extra ``[azure]``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

from identitymesh.errors import ProviderDenied, ProviderUnavailable
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.credentials import Login, find_credential
from identitymesh.secrets.azure.requests import for_clients, options, translated
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.stores.azure_key_vault.entries import CONTENT_TYPE, Tags

GONE_SECONDS: Final = 60.0  # a delete, recovery or purge takes a while to be seen; Azure says seconds
GONE_PAUSE: Final = 0.5
LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one name. ``text`` is as it stands there, Base64; absent in lists."""

    name: str
    version: str
    tags: Tags
    enabled: bool = True
    created: datetime = LAST
    text: Secret | None = None


class Vault:
    """A client that is made at the first call, and then kept: with its connections, its challenge and its token."""

    def __init__(self, settings: AzureKeyVaultSettings, login: Login) -> None:
        self._settings = settings
        self._login = login
        self._lock = threading.Lock()
        self._made: SecretClient | None = None
        self.where = f"Azure Key Vault {settings.vault_uri}"

    def get(self, name: str, version: str | None = None) -> Entry | None:
        """One version, or (``None``) the current one; ``None`` if there is no such entry."""
        try:
            with translated(self.where):
                found = self._client().get_secret(name, version)
        except ResourceNotFoundError:
            return None
        return _entry(found.properties, Secret(found.value or ""))

    def set(self, name: str, text: str, tags: dict[str, str], expires: int = 0) -> Entry:
        """A new version. What was deleted, and is kept by the vault, is recovered first.

        ``expires`` (seconds since 1970, 0 is never) is what the vault tells its operators; it hides nothing for it.
        """
        more: dict[str, Any] = {"expires_on": datetime.fromtimestamp(expires, UTC)} if expires else {}
        end = time.monotonic() + GONE_SECONDS
        while True:
            try:
                with translated(self.where, quiet=True):
                    try:
                        found = self._client().set_secret(name, text, tags=tags, content_type=CONTENT_TYPE, **more)
                    except ResourceExistsError:
                        if time.monotonic() > end:
                            raise
                    else:
                        return _entry(found.properties, None)
            except ResourceNotFoundError:
                raise self._vanished(name) from None
            self._recover(name)

    def deleted(self, name: str) -> Entry | None:
        """What the vault keeps of a deleted entry."""
        try:
            with translated(self.where):
                return _entry(self._client().get_deleted_secret(name).properties, None)
        except ResourceNotFoundError:
            return None

    def _recover(self, name: str) -> None:
        try:
            with translated(self.where):
                self._client().begin_recover_deleted_secret(name)
        except ResourceNotFoundError:
            # Being deleted, not yet deleted; or being purged. Either is over soon.
            time.sleep(GONE_PAUSE)
            return
        self._until(lambda: self.get(name) is not None, f"{name} is being recovered")

    def delete(self, name: str, *, purge: bool) -> None:
        """Delete every version; with ``purge`` for ever. What is gone already is no error."""
        try:
            with translated(self.where):
                self._client().begin_delete_secret(name)
        except ResourceNotFoundError:
            pass
        else:
            self._until(lambda: self._is_deleted(name), f"{name} is being deleted")
        if purge:
            self._purge(name)

    def _is_deleted(self, name: str) -> bool:
        try:
            return self.deleted(name) is not None
        except ProviderDenied:
            # Who may not look at what is deleted may not wait for it either; it is deleted all the same.
            return True

    def _purge(self, name: str) -> None:
        try:
            with translated(self.where):
                self._client().purge_deleted_secret(name)
        except ResourceNotFoundError:
            return
        self._until(lambda: self.deleted(name) is None, f"{name} is being purged")

    def versions(self, name: str) -> list[Entry]:
        """Every version that can be opened, oldest first as far as the vault tells: to the second."""
        try:
            with translated(self.where):
                found = [_entry(one, None) for one in self._client().list_properties_of_secret_versions(name)]
        except ResourceNotFoundError:
            return []
        return sorted((one for one in found if one.enabled), key=lambda one: one.created)

    def disable(self, name: str, version: str) -> None:
        """The vault has no way to delete one version; a disabled one cannot be read."""
        try:
            with translated(self.where):
                self._client().update_secret_properties(name, version, enabled=False)
        except ResourceNotFoundError:
            return

    def entries(self) -> Iterator[Entry]:
        """The current version of everything that is not deleted, without values."""
        with translated(self.where):
            for one in self._client().list_properties_of_secrets():
                yield _entry(one, None)

    def deleted_entries(self) -> Iterator[Entry]:
        """The same of what was deleted and is kept."""
        with translated(self.where):
            for one in self._client().list_deleted_secrets():
                yield _entry(one.properties, None)

    def _client(self) -> SecretClient:
        with self._lock:
            if self._made is None:
                given = options(self._settings)
                credential = find_credential(self._settings, self._login, given)
                uri = self._settings.vault_uri
                self._made = SecretClient(uri, credential, **for_clients(uri, given))
            return self._made

    def _until(self, done: Callable[[], bool], doing: str) -> None:
        end = time.monotonic() + GONE_SECONDS
        while not done():
            if time.monotonic() > end:
                raise ProviderUnavailable(
                    f"{self.where}: {doing}, and was not done after {GONE_SECONDS:.0f} seconds",
                    hint="Run the command again; it goes on from there.",
                )
            time.sleep(GONE_PAUSE)

    def _vanished(self, name: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.where}: it answers that {name} is nowhere to be set", hint="Try again.")


def _entry(properties: Any, text: Secret | None) -> Entry:
    return Entry(
        str(properties.name),
        str(properties.version or ""),
        properties.tags,
        enabled=properties.enabled is not False,
        created=properties.created_on or LAST,
        text=text,
    )
