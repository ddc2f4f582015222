"""Ten thousand secrets: brought in, backed up, moved to a new host with one command. Times are printed, not judged."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import pyrage
import pytest
from pyrage import x25519

from tests.custody.conftest import Home

MANY = 10_000


def said(what: str, began: float) -> None:
    sys.__stdout__.write(f"{what}: {time.monotonic() - began:.1f} s\n")  # type: ignore[union-attr]


@pytest.mark.slow
def test_ten_thousand_secrets_move_with_one_command(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = x25519.Identity.generate()
    entry = {"keyring": "connectors", "owner": None, "description": None, "cadence_days": None}
    secrets = [
        entry | {"ref": f"secret://many/{number:05}", "value": base64.b64encode(f"value {number}".encode()).decode()}
        for number in range(MANY)
    ]
    head = {"format": "identitymesh-bundle/1", "installation": "elsewhere", "created": "2026-01-01T00:00:00Z"}
    bundle = tmp_path / "many.age"
    bundle.write_bytes(pyrage.encrypt(json.dumps(head | {"secrets": secrets}).encode(), [key.to_public()]))

    began = time.monotonic()
    done = home.ok("secrets", "import", str(bundle), "--json", stdin=str(key)).document
    said(f"import of {len(done['stored']):,} secrets", began)
    assert len(done["stored"]) == MANY

    began = time.monotonic()
    home.ok("backup", "create", "--to", str(tmp_path / "many.backup"))
    said("backup", began)

    blank = Home(tmp_path / "blank", monkeypatch)
    blank.folder.mkdir()
    began = time.monotonic()
    blank.ok("backup", "restore", str(tmp_path / "many.backup"), stdin=home.recovery_key)
    said("restore on a new host, 0 values typed", began)
    assert blank.ok("secrets", "get", "secret://many/07777", "--force").out == "value 7777"

    began = time.monotonic()
    drilled = home.ok("drill", "--json", stdin=home.recovery_key).document
    said("drill", began)
    assert (drilled["secrets"], drilled["problems"]) == (MANY, [])
