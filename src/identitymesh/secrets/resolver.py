"""Gives connectors the values of their secret settings, for one run or one test.

A run prepares all its connectors at once: one transaction records every opening before
the first value is released. The value is unsealed when the connector asks for it. A
connector that asks again (it reconnects) is answered from the store, and recorded again.
Nothing outlives the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from identitymesh.errors import SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.store import OpenRequest, Release, SecretStore


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

    def prepare(self, connectors: Sequence[ConnectorSecrets]) -> None:
        """Record the openings of all connectors in one transaction. A failure of one shows when it asks.

        Raises:
            StorageError: it could not be recorded; nothing will be released.
        """
        requests = [one.request(name) for one in connectors for name in one.fields]
        self._prepared.update(self._store.prepare(requests, actor=self._actor, run=self._run))

    def source(self, connector: ConnectorSecrets) -> Credentials:
        """What the connector is given: a call with the field's path answers its value."""

        def credential(name: str) -> Secret:
            request = connector.request(name)
            prepared = self._prepared.pop(request, None)
            if prepared is not None:
                return prepared.open()
            return self._store.open(request, actor=self._actor, run=self._run)

        return credential

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
