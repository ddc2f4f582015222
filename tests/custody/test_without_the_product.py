"""A stranger reads a secret from a database dump or a backup: with the ordinary age program, the recovery key and
docs/formats. Nothing here imports the product; the decoder beside it was written from the same pages."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.custody.conftest import Home
from tests.secrets.decoder import decode

REF = "secret://hr/reader"
VALUE = "correct horse, bättery"


def age(sealed: bytes, key: str, folder: Path) -> Any:
    if shutil.which("age") is None:
        pytest.skip("there is no program age here (Debian package age)")
    identity, file = folder / "recovery.txt", folder / "keyring.age"
    identity.write_text(key + "\n")
    file.write_bytes(sealed)
    done = subprocess.run(["age", "--decrypt", "--identity", identity, file], capture_output=True, check=True)
    return json.loads(done.stdout)


def open_secret(keyring: bytes, key: str, row: dict[str, Any], folder: Path) -> str:
    """docs/formats/keyring.md, then docs/formats/sealed-value.md."""
    document = age(keyring, key, folder)
    assert document["format"].startswith("identitymesh-keyring/")
    data_key = next(base64.b64decode(one["key"]) for one in document["data_keys"] if one["id"] == row["key_id"])
    place = {"keyring": row["keyring"], "store": "database", "ref": row["ref"]}
    place |= {"version": row["version"], "expires": row["expires"]}
    return decode(row["sealed"], data_key, place).decode()


def test_from_a_database_dump(embedded: Home, tmp_path: Path) -> None:
    embedded.store(REF, "an older one")
    embedded.store(REF, VALUE)
    dump = tmp_path / "dump.db"
    with sqlite3.connect(embedded.folder / "identitymesh.db") as live, sqlite3.connect(dump) as copy:
        live.backup(copy)
    with sqlite3.connect(dump) as opened:
        opened.row_factory = sqlite3.Row
        keyring = opened.execute("SELECT sealed FROM keyring WHERE name = 'connectors'").fetchone()["sealed"]
        current = "SELECT s.* FROM secret s JOIN secret_ledger l ON l.ref = s.ref AND l.current_version = s.version"
        row = dict(opened.execute(current).fetchone())
    assert open_secret(keyring, embedded.recovery_key, row, tmp_path) == VALUE


def test_from_a_backup_of_either_database(home: Home, tmp_path: Path) -> None:
    home.store(REF, VALUE)
    file = tmp_path / "mesh.backup"
    home.ok("backup", "create", "--to", str(file))
    with zipfile.ZipFile(file) as archive:
        tables = {one["name"]: one for one in json.loads(archive.read("manifest.json"))["tables"]}

        def rows(name: str) -> list[dict[str, Any]]:
            names = [column for column, _type in tables[name]["columns"]]
            kinds = dict(tables[name]["columns"])
            found = []
            for line in archive.read(f"tables/{name}.jsonl").splitlines():
                row = dict(zip(names, json.loads(line), strict=True))
                found.append({n: base64.b64decode(v) if kinds[n] == "bytes" and v else v for n, v in row.items()})
            return found

        keyring = next(one["sealed"] for one in rows("keyring") if one["name"] == "connectors")
        (row,) = rows("secret")
    assert open_secret(keyring, home.recovery_key, row, tmp_path) == VALUE
