"""The doctor names what is wrong and what mends it; the support bundle holds nobody's value."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.custody.conftest import CONNECTOR, Home

CANARY = "c4n4ry pässword/+"
REF = "secret://hr/reader"


def codes(home: Home) -> set[str]:
    answer = home("doctor", "--json")
    assert answer.code == (5 if answer.document["findings"] else 0)
    assert all(one["command"] for one in answer.document["findings"])
    assert CANARY not in answer.out + answer.err
    return {one["code"] for one in answer.document["findings"]}


@pytest.fixture
def healthy(home: Home) -> Home:
    home.store(REF, CANARY)
    connector = CONNECTOR.format(url="postgresql+psycopg://hr@db.example.org/hr")
    home.ok("apply", str(home.define(connector)))
    assert codes(home) == {"no-backup", "no-drill"}
    home.ok("backup", "create", "--to", str(home.folder.parent / "mesh.backup"))
    home.ok("drill", stdin=home.recovery_key)
    return home


def ago(home: Home, days: float) -> object:
    moment = datetime.now(UTC) - timedelta(days=days)
    return str(moment.replace(tzinfo=None)) if home.url is None else moment


def test_what_is_in_order_is_said_to_be(healthy: Home) -> None:
    answer = healthy("doctor")
    assert (answer.code, answer.out.strip()) == (0, "nothing to mend")


ILLS: dict[str, tuple[Callable[[Home], object], str]] = {
    "an old backup": (lambda h: h.sql("UPDATE custody_event SET at = :at", at=ago(h, 91)), "backup-old"),
    "an old drill": (lambda h: h.sql("UPDATE custody_event SET at = :at", at=ago(h, 91)), "drill-old"),
    "a lost backup": (lambda h: (h.folder.parent / "mesh.backup").unlink(), "backup-gone"),
    "a pause": (
        lambda h: h.sql("INSERT INTO pause VALUES (1, 'restored', :at, 'me')", at=ago(h, 0)),
        "paused",
    ),
    "no host key": (lambda h: (h.folder / "host" / "connectors.key").unlink(), "keyring-closed"),
    "a host key for all": (lambda h: (h.folder / "host" / "connectors.key").chmod(0o444), "keyring-closed"),
    "no anchor": (lambda h: (h.folder / "host" / "connectors.anchor").unlink(), "anchor"),
    "an open folder": (lambda h: (h.folder / "host").chmod(0o755), "mode"),
    "an unused secret": (lambda h: h.store("secret://no/body", "x"), "secret-unused"),
    "a missing secret": (lambda h: h.ok("secrets", "delete", REF), "secret-missing"),
    "a wider audience": (lambda h: h.sql("UPDATE secret_ledger SET audience = '[]'"), "audience"),
    "an overdue value": (
        lambda h: h.sql("UPDATE secret_ledger SET cadence_days = 1, changed = :at", at=ago(h, 3)),
        "rotation-overdue",
    ),
    "an old data key": (lambda h: h.sql("UPDATE secret SET key_id = 7"), "rows-not-on-primary"),
    "a clock behind": (lambda h: h.sql("UPDATE audit SET at = :at", at=ago(h, -1)), "clock"),
}


@pytest.mark.parametrize(("ill", "code"), ILLS.values(), ids=ILLS.keys())
def test_each_ill_is_found(healthy: Home, ill: Callable[[Home], object], code: str) -> None:
    ill(healthy)
    assert code in codes(healthy)


def test_what_does_not_open_is_a_finding(embedded: Home) -> None:
    (embedded.folder / "identitymesh.db").unlink()
    assert codes(embedded) == {"database-unreachable"}
    (embedded.folder / "identitymesh.toml").write_text("[nonsense]\n")
    assert codes(embedded) == {"settings-invalid"}


def test_a_restored_host_is_told_of_the_lost_one(
    healthy: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Home(tmp_path / "blank", monkeypatch)
    blank.folder.mkdir()
    blank.ok("backup", "restore", str(tmp_path / "mesh.backup"), stdin=healthy.recovery_key)
    assert {"lost-slot", "paused", "sheet-unverified"} <= codes(blank)


def eight(text: str) -> set[bytes]:
    raw = text.encode()
    return {
        raw,
        base64.b64encode(raw),
        base64.urlsafe_b64encode(raw),
        raw.hex().encode(),
        quote(text, safe="").encode(),
        json.dumps(text).strip('"').encode(),
        repr(raw).encode(),
        raw.decode().encode("utf-16-le"),
    }


def test_the_support_bundle_holds_no_value(healthy: Home, tmp_path: Path) -> None:
    healthy("plan")
    file = tmp_path / "support.zip"
    answer = healthy.ok("support-bundle", "--to", str(file))
    assert file.stat().st_mode & 0o7777 == 0o600
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert set(content) == {"versions.json", "settings.json", "schema.json", "runs.json", "doctor.json"}
    everything = b"".join(content.values()) + answer.out.encode() + answer.err.encode()
    key = (healthy.folder / "host" / "connectors.key").read_text().strip()
    for secret in (CANARY, healthy.recovery_key, key, healthy.password or "-no password-"):
        assert [form for form in eight(secret) if form in everything] == []
    assert json.loads(content["settings.json"])["database.url"] in {"set", "default"}
    assert json.loads(content["schema.json"])["rows"]["secret"] == 1
    assert json.loads(content["runs.json"])[0]["command"] == "plan"
    assert healthy("support-bundle", "--to", str(file)).code == 2


def test_the_support_bundle_of_what_does_not_open(embedded: Home, tmp_path: Path) -> None:
    (embedded.folder / "identitymesh.db").unlink()
    file = tmp_path / "support.zip"
    embedded.ok("support-bundle", "--to", str(file))
    with zipfile.ZipFile(file) as archive:
        assert "database-unreachable" in archive.read("doctor.json").decode()
