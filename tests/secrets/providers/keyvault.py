"""An installation whose secrets are in a key vault on loopback, and its surroundings."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from identitymesh.errors import ProviderDenied, ProviderUnavailable
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.stores.azure_key_vault.entries import entry_name
from identitymesh.storage.database import Database, open_database
from tests.secrets.conftest import Installation, copy_installation, make_installation
from tests.secrets.providers.contract import VaultWorld
from tests.servers.authority import Authority
from tests.servers.azure import TENANT, Entra, KeyVault, Stored
from tests.servers.process import private_folder

CLIENT = "5f7b8b1e-0000-4000-8000-0000000000c1"
PASSWORD = "a-client-secret"


@dataclass
class Azure:
    """A token authority, certificates, and vaults on demand."""

    folder: Path
    authority: Authority
    entra: Entra = field(default_factory=lambda: Entra({CLIENT: PASSWORD}))
    vaults: list[KeyVault] = field(default_factory=list)
    databases: list[Database] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path) -> Azure:
        azure = cls(folder, Authority.create(folder))
        azure.entra.start(azure.authority)
        secret = folder / "client-secret"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o400)
        return azure

    def stop(self) -> None:
        for vault in self.vaults:
            vault.stop()
        for database in self.databases:
            database.close()
        self.entra.server.stop()

    def vault(self, *, port: int = 0) -> KeyVault:
        self.vaults.append(KeyVault(self.entra, self.authority, port=port))
        return self.vaults[-1]

    def settings(self, vault: KeyVault, **more: Any) -> AzureKeyVaultSettings:
        given: dict[str, Any] = {
            "vault_uri": vault.url,
            "credential": "client-secret",
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "client_secret_file": self.folder / "client-secret",
            "authority": self.entra.server.url,
            "instance_discovery": False,
            "ca_file": self.authority.file,
        }
        return AzureKeyVaultSettings(**given | more)

    def key_settings(self, vault: KeyVault) -> AzureKeyVaultSettings:
        """For a slot, with a key of its own."""
        vault.make_key("identitymesh")
        return self.settings(vault, vault_uri="", key_id=f"{vault.url}/keys/identitymesh")

    def installation(self, name: str) -> Installation:
        """The first of a test is as other tests have it; every further one is an installation of its own."""
        folder = self.folder / f"{name}-{os.urandom(4).hex()}"
        folder.mkdir()
        self.databases.append(open_database(f"sqlite:///{folder}/mesh.db"))
        make = copy_installation if len(self.databases) == 1 else make_installation
        return make(self.databases[-1], folder / "host")

    def world(self, vault: KeyVault | None = None, **more: Any) -> KeyVaultWorld:
        vault = vault or self.vault()

        @contextmanager
        def outage(after: int) -> Iterator[None]:
            with vault.when(cut_after=after):
                yield

        @contextmanager
        def denied() -> Iterator[None]:
            with vault.when(revoked={CLIENT}):
                yield

        def exchange(ref: str, other: str) -> None:
            vault.secrets[entry_name(ref)] = vault.secrets[entry_name(other)]

        def lose(ref: str) -> None:
            del vault.secrets[entry_name(ref)]

        def set_outside(ref: str, value: bytes) -> str:
            return vault.set_outside(entry_name(ref), base64.b64encode(value).decode())

        mesh = self.installation("ours")
        return KeyVaultWorld(
            mesh,
            "azure-key-vault",
            outage=outage,
            denied=denied,
            exchange=exchange,
            lose=lose,
            fill=lambda count: fill(vault, mesh, count),
            tells_apart=1.0,
            outage_error=ProviderUnavailable,
            denied_error=ProviderDenied,
            means=Means(azure=self.settings(vault, **more)),
            set_outside=set_outside,
            other=lambda: self.installation("theirs"),
            azure=self,
            vault=vault,
        )


@dataclass(kw_only=True)
class KeyVaultWorld(VaultWorld):
    azure: Azure
    vault: KeyVault


def fill(vault: KeyVault, mesh: Installation, count: int) -> None:
    """What as many sets would have left in the vault."""
    own = mesh.result.installation
    for number in range(count):
        ref = f"secret://many/{number}"
        tags = {"identitymesh-ref": ref, "identitymesh-installation": own}
        vault.secrets[entry_name(ref)] = [Stored(f"{number:032x}", "dmFsdWU=", tags, None, 1)]


def main() -> None:
    """A vault and its token authority in a process of their own; the first line of output is how one logs in there."""
    folder = private_folder("keyvault")
    azure = Azure.start(folder)
    given = azure.settings(azure.vault())
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(given).items()}
    sys.stdout.write(json.dumps(shown) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    azure.stop()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
