"""A company whose HR system asks for a password that lies in a key vault on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from identitymesh.connectors.catalogue import kinds
from identitymesh.connectors.contract import CredentialSource, Kind
from identitymesh.connectors.settings import SecretRef
from identitymesh.redaction import Secret
from identitymesh.runs.definitions import Definitions
from identitymesh.runs.engine import Engine
from identitymesh.secrets.initial import InitialPasswords
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import parse
from identitymesh.secrets.setup import initialise
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage.people import SqlPeople
from identitymesh.storage.runs import SqlDefinitions
from identitymesh.storage.scratch import scratch
from identitymesh.storage.secrets import SqlSecretRows
from tests.secrets.providers.keyvault import Azure
from tests.servers.azure import KeyVault

from .directory import Directory, MemoryConnector, MemorySettings, memory_kind
from .world import World

REF = parse("secret://hr/reader")
PASSWORD = "the-password-of-hr"


class LockedSettings(MemorySettings):
    """A directory that asks for a password."""

    password: SecretRef


def locked_kind(directories: dict[str, Directory]) -> Kind:
    def open_(settings: LockedSettings, credentials: CredentialSource) -> MemoryConnector:
        assert credentials("password") == Secret(PASSWORD)
        return MemoryConnector(directories[settings.base])

    return replace(memory_kind(directories), name="locked", settings=LockedSettings, open=open_)


class VaultedWorld(World):
    """The company; the password of its HR system lies in a vault."""

    vault: KeyVault
    azure: Azure
    stale_seconds = 0
    openbao: OpenBaoSettings | None = None

    @property
    def means(self) -> Means:
        azure = self.azure.settings(self.vault, serve_stale_seconds=self.stale_seconds)
        return Means(azure=azure, openbao=self.openbao)

    def another_engine(self) -> Engine:
        if not hasattr(self, "vault"):
            return super().another_engine()
        plain = super().another_engine()._parts
        store = SecretStore(SqlSecretRows(self.database), self.folder / "host", self.means)
        all_kinds = {**kinds(), **plain.kinds, "locked": locked_kind(self.directories)}
        passwords = InitialPasswords(SqlSecretRows(self.database), store, "tester", timedelta(days=14), self.clock)
        parts = replace(plain, secrets=store, passwords=passwords, kinds=all_kinds)
        definitions = Definitions(
            SqlDefinitions(self.database), parts.kinds, store.audience, actor="tester", clock=parts.clock
        )
        database = self.database
        return Engine(parts, definitions, SqlPeople(database), lambda: scratch(database, self.folder), database.rest)


@contextmanager
def vaulted_world(folder: Path, provider: str = "azure-key-vault") -> Iterator[VaultedWorld]:
    """Twelve people, who are in the CRM."""
    (folder / "azure").mkdir()
    azure = Azure.start(folder / "azure")
    with VaultedWorld(folder) as made:
        rows = SqlSecretRows(made.database)
        initialise(
            rows,
            folder / "host",
            provider=provider,
            actor="tester",
            label="here",
            announce=lambda _result: None,
        )
        made.azure, made.vault = azure, azure.vault()
        made.engine = made.another_engine()
        made.engine._parts.secrets.put(REF, Secret(PASSWORD), actor="tester")
        made.text = made.text.replace(
            "hr: {type: memory, base: hr, objects: {user: {}}}",
            f"hr: {{type: locked, base: hr, password: {REF}, objects: {{user: {{}}}}}}",
        )
        made.hire_many(12)
        made.apply()
        made.run()
        assert len(made.accounts()) == 12
        yield made
    azure.stop()


def watermarks(world: World) -> list[tuple[object, ...]]:
    with world.database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM watermark ORDER BY 1, 2")]
