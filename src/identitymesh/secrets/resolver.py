"""Gives connectors the values of their secret settings, for one run or one test.

A run prepares all its connectors at once: one transaction records every opening before
the first value is released. The value is unsealed when the connector asks for it. A
connector that asks again (it reconnects) is answered from the store, and recorded again.
Nothing outlives the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from identitymesh.errors import SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.openings import OpenRequest, Release
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.store import SecretStore

ROTATION_SECONDS: Final = 10.0  # a password that was changed at its server becomes current well before
ROTATION_PAUSE: Final = 0.2


class Credentials(Protocol):
    """What a connector is given, its ``CredentialSource``: the path of a secret field answers its value."""

    def __call__(self, name: str) -> Secret: ...


@dataclass(frozen=True, slots=True)
class ConnectorSecrets:
    """The secret settings of one connector: path of the field and its reference; and where their values are sent."""

    connector: str
    fields: Mapping[str, SecretReference]
    endpoints: tuple[str, ...]

    def request(self, name: str) -> OpenRequest:
        """The request for one field.

        Raises:
            SecretMissing: the settings name no secret there.
        """
        ref = self.fields.get(name)
        if ref is None:
            raise SecretMissing(
                f"connector {self.connector}: its setting {name} names no secret",
                hint="Write a reference such as secret://hr/reader there, then run `identitymesh apply`.",
            )
        return OpenRequest(ref, self.connector, self.endpoints, f"setting {name}")


class RunCredentials:
    """The credentials of one run. ``close()`` it at the end of the run."""

    def __init__(self, store: SecretStore, *, actor: str, run: str | None) -> None:
        self._store = store
        self._actor = actor
        self._run = run
        self._prepared: dict[OpenRequest, Release] = {}
        self._stale: dict[str, int] = {}
        self._handed: dict[str, dict[str, str | None]] = {}  # connector: ref: version

    def prepare(self, connectors: Sequence[ConnectorSecrets]) -> None:
        """Record the openings of all connectors in one transaction. A failure of one shows when it asks.

        Raises:
            StorageError: it could not be recorded; nothing will be released.
        """
        requests = [one.request(name) for one in connectors for name in one.fields]
        self._prepared.update(self._store.prepare(requests, actor=self._actor, run=self._run))
        self._stale |= {one.ref.text: release.stale for one, release in self._prepared.items() if release.stale}

    def notes(self) -> list[str]:
        """What a report should say of how the values were come by."""
        if not self._stale:
            return []
        oldest = max(self._stale.values())
        named = ", ".join(sorted(self._stale)[:5]) + (", …" if len(self._stale) > 5 else "")
        return [f"the vault does not answer; {named}: used as read up to {oldest} seconds ago"]

    def source(self, connector: ConnectorSecrets) -> Credentials:
        """What the connector is given: a call with the field's path answers its value."""

        def credential(name: str) -> Secret:
            request = connector.request(name)
            release = self._prepared.pop(request, None)
            if release is None:
                release = self._store.prepare([request], actor=self._actor, run=self._run)[request]
            self._handed.setdefault(connector.connector, {})[request.ref.text] = release.version
            return release.open()

        return credential

    def renewed(self, connector: ConnectorSecrets) -> bool:
        """After a refusal: whether a credential was rotated since it was handed out. Waits while one is being rotated.

        Another version is handed out once; the same one is never sent a second time, so no account is locked by it.
        """
        handed = self._handed.get(connector.connector, {})
        end = time.monotonic() + ROTATION_SECONDS
        while True:
            versions = self._store.versions(handed)
            if any(versions.get(ref, (None, None))[0] not in (None, version) for ref, version in handed.items()):
                return True
            if not any(pending for _current, pending in versions.values()) or time.monotonic() > end:
                return False
            time.sleep(ROTATION_PAUSE)

    def close(self) -> None:
        """Forget what was prepared and not used."""
        self._prepared.clear()


def connector_credentials(
    store: SecretStore,
    connector: str,
    fields: Mapping[str, SecretReference],
    endpoints: Sequence[str],
    *,
    actor: str,
    run: str | None = None,
) -> Credentials:
    """Credentials of one connector without preparing, for a connection test: each call is one recorded opening."""
    needs = ConnectorSecrets(connector, fields, tuple(endpoints))
    return RunCredentials(store, actor=actor, run=run).source(needs)
