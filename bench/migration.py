"""Secrets from the database to a vault on loopback, beside the bare client making the same calls with as many threads.

Each side is a process of its own (``python -m bench.migration openbao|azure-key-vault ours|bare ...``), and so is the
vault. Its calls are counted by no one but the code below: who is there, whose it is, the value, its read-back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import hvac
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import SecretClient
from requests import Session
from requests.adapters import HTTPAdapter
from tests.secrets.conftest import ACTOR, make_installation
from tests.secrets.migration.conftest import token_file

from bench.lines import folder
from identitymesh.cli.measuring import Line
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.migration.service import WORKERS, Migrations
from identitymesh.secrets.protectors import Means
from identitymesh.secrets.references import parse
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.vaults import OpenBaoSettings
from identitymesh.storage import schema
from identitymesh.storage.database import open_database
from identitymesh.storage.secret_migrations import SqlMigrationRows

SECRETS = int(os.environ.get("TESTS_BENCH_SECRETS", "10000"))
MOST = 1.5
MOST_MEBIBYTES = 200
OPENBAO, KEY_VAULT = "openbao", "azure-key-vault"
VAULTS = {OPENBAO: "tests.servers.openbao", KEY_VAULT: "tests.secrets.providers.keyvault"}
Where = dict[str, Any]


def migrate_to_openbao() -> list[Line]:
    """Two lines: the time against hvac's, and the memory of the process that migrates."""
    return _lines(OPENBAO, "hvac")


def migrate_to_a_key_vault() -> list[Line]:
    """The same with azure-keyvault-secrets. The pace that Azure asks for is left out: nobody asks for it here."""
    return _lines(KEY_VAULT, "azure-keyvault-secrets")


def _lines(vault: str, client: str) -> list[Line]:
    with folder() as place:
        _fill(place)
        ours = _side(vault, "ours", place)
        bare = _side(vault, "bare", place)
    figures = f"{ours['seconds']:.1f} s, bare {bare['seconds']:.1f} s; {SECRETS:,} secrets, {WORKERS} threads; "
    figures += f"CPU {ours['processor']:.1f} s, bare {bare['processor']:.1f} s"
    name = f"migrate {SECRETS:,} secrets to a loopback {vault}"
    return [
        Line(f"{name} / the same calls by bare {client}", ours["seconds"] / bare["seconds"], figures, most=MOST),
        Line(f"{name}: MiB resident", ours["mebibytes"], f"bare {bare['mebibytes']:.0f} MiB", most=MOST_MEBIBYTES),
    ]


def _fill(place: Path) -> None:
    database = open_database(f"sqlite:///{place}/mesh.db")
    schema.upgrade(database)
    mesh = make_installation(database, place / "host")
    store = mesh.store
    for number in range(SECRETS):
        store.put(parse(f"secret://many/{number:05}"), Secret(f"value {number}"), actor=ACTOR)
    database.close()


def _side(vault: str, side: str, place: Path) -> dict[str, float]:
    """One side against a vault of its own, empty at first."""
    program = [sys.executable, "-m", VAULTS[vault]]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        where = running.stdout.readline() if running.stdout else "{}"
        command = [sys.executable, "-m", "bench.migration", vault, side, str(place), where]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        if running.stdin:
            running.stdin.close()  # that ends it
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def ours(vault: str, place: Path, where: Where) -> float:
    database = open_database(f"sqlite:///{place}/mesh.db")
    rows = SqlMigrationRows(database)
    store = SecretStore(rows, place / "host", MEANS[vault](place, where))
    migrations = Migrations(rows, store, actor=ACTOR, here="here", writes_per_second=0.0)
    begun = time.perf_counter()
    migrations.run("database", vault)
    return time.perf_counter() - begun


def _openbao(place: Path, where: Where) -> Means:
    file = token_file(place, where["token"])
    return Means(openbao=OpenBaoSettings(address=where["url"], ca_file=where["ca_file"], auth="token", token_file=file))


def _key_vault(place: Path, where: Where) -> Means:
    paths = {name: Path(where[name]) for name in ("ca_file", "client_secret_file")}
    secret = place / "client-secret"
    shutil.copy2(paths["client_secret_file"], secret)
    return Means(azure=AzureKeyVaultSettings(**where | paths | {"client_secret_file": secret}))


MEANS: dict[str, Callable[[Path, Where], Means]] = {OPENBAO: _openbao, KEY_VAULT: _key_vault}


def bare(vault: str, _place: Path, where: Where) -> float:
    write, read = BARE[vault](where)
    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        written = list(pool.map(write, range(SECRETS)))
        list(pool.map(read, range(SECRETS), written))
    return time.perf_counter() - begun


Write = Callable[[int], Any]
Read = Callable[[int, Any], object]


def _by_hvac(where: Where) -> tuple[Write, Read]:
    client = hvac.Client(url=where["url"], token=where["token"], verify=where["ca_file"])
    kv = client.secrets.kv.v2

    def write(number: int) -> int:
        path = f"identitymesh/many/{number:05}"
        try:
            kv.read_secret_metadata(path=path)
        except hvac.exceptions.InvalidPath:
            kv.update_metadata(path=path, custom_metadata={"ref": path, "installation": "bare"}, max_versions=50)
        answer = kv.create_or_update_secret(path=path, secret={"value": f"value {number}"}, cas=0)
        return int(answer["data"]["version"])

    def read(number: int, version: int) -> None:
        kv.read_secret_version(path=f"identitymesh/many/{number:05}", version=version, raise_on_deleted_version=True)

    return write, read


def _by_the_sdk(where: Where) -> tuple[Write, Read]:
    session = Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=WORKERS))  # else it drops connections, and only we would not
    credential = ClientSecretCredential(
        where["tenant_id"],
        where["client_id"],
        Path(where["client_secret_file"]).read_text().strip(),
        authority=where["authority"],
        disable_instance_discovery=True,
        connection_verify=where["ca_file"],
    )
    transport = RequestsTransport(session=session, connection_verify=where["ca_file"])
    client = SecretClient(where["vault_uri"], credential, transport=transport)

    def write(number: int) -> str:
        name = f"bare-{number:05}"
        with suppress(ResourceNotFoundError):
            client.get_secret(name)
        with suppress(ResourceNotFoundError):
            client.get_deleted_secret(name)
        stored = client.set_secret(name, f"value {number}", tags={"ref": name, "installation": "bare"})
        return str(stored.properties.version)

    def read(number: int, version: str) -> None:
        client.get_secret(f"bare-{number:05}", version)

    return write, read


BARE: dict[str, Callable[[Where], tuple[Write, Read]]] = {OPENBAO: _by_hvac, KEY_VAULT: _by_the_sdk}


def main() -> None:
    vault, side, place, where = sys.argv[1:5]
    seconds = {"ours": ours, "bare": bare}[side](vault, Path(place), json.loads(where))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    answer = {"seconds": seconds, "processor": time.process_time(), "mebibytes": int(peak) / 1024}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
