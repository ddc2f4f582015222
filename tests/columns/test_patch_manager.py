"""The application that the plan in examples/ is for: its acceptance criteria, and a filled copy of its tables.

AC8 to AC11 are about a Rust workspace (cargo fmt, clippy and two cargo test runs) and have no test here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table, create_engine, select, update

from identitymesh import columns
from identitymesh.columns.plan import read_plan
from identitymesh.errors import ColumnKeyMissing, ColumnsUnfinished
from identitymesh.redaction import MASKED, Secret
from tests.columns import decoder
from tests.house_rules.repository import ROOT
from tests.servers.postgresql import PostgresDatabase

EXAMPLE = ROOT / "examples/patch-manager"
KEY = "/etc/patch-manager/keys/secret-encryption.key"
SEEDS = {f"user{number}": f"JBSWY3DPEHPK3PX{number}" for number in range(5)}


@dataclass
class PatchManager:
    """A filled copy on a real server, with the plan of examples/ pointed at it."""

    folder: Path
    database: PostgresDatabase

    @property
    def plan(self) -> Path:
        return self.folder / "plan.yaml"

    @property
    def key_file(self) -> Path:
        return self.folder / "secret-encryption.key"

    def run(self, *arguments: str, code: int = 0) -> Any:
        start = "from identitymesh.composition import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", start, "columns", *arguments, "--json"],
            cwd=self.folder,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT / "src"), "PGPASSWORD": self.database.password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout or done.stderr)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def columns(self, table: str) -> dict[str, str]:
        found = self.query(
            f"SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}'"
        )
        return dict(found)

    def encrypted(self) -> None:
        self.run("init-key", str(self.key_file))
        self.run("encrypt", "--plan", str(self.plan), "--drop-plaintext")


@pytest.fixture
def manager(tmp_path: Path, postgres_url: PostgresDatabase) -> PatchManager:
    found = PatchManager(tmp_path, postgres_url)
    text = (EXAMPLE / "plan.yaml").read_text()
    text = re.sub(r"postgresql\+psycopg://\S+", postgres_url.url, text)
    found.plan.write_text(text.replace(KEY, str(found.key_file)))
    found.query((EXAMPLE / "schema.sql").read_text())
    found.query("CREATE TABLE audit_log (id serial, action text)")
    found.query("INSERT INTO oidc_config (id, client_id, client_secret) VALUES (1, 'pm', 'oidc-s3cret-ü')")
    found.query("INSERT INTO system_config VALUES ('smtp_host', 'mail'), ('smtp_password', 'smtp-pässword')")
    for name, seed in SEEDS.items():
        found.query(
            f"INSERT INTO users (username, email, mfa_enabled, totp_secret) VALUES ('{name}', 'e', true, '{seed}')"
        )
    found.query("INSERT INTO users (username, email) VALUES ('without', 'e')")
    return found


def test_the_one_yaml_file_of_the_example_is_a_plan() -> None:
    yaml = [path for path in EXAMPLE.iterdir() if path.suffix in {".yaml", ".yml"}]
    assert len(yaml) == 1
    plan = read_plan(yaml[0])
    assert plan.database.startswith("postgresql+psycopg://")
    assert [place.name for place in plan.resolved()] == [
        "oidc_config.client_secret",
        "users.totp_secret",
        "system_config[smtp_password]",
    ]


def test_AC1_columns_of_bytes_are_added_for_all_three_and_the_old_ones_dropped(manager: PatchManager) -> None:
    manager.run("init-key", str(manager.key_file))
    manager.run("encrypt", "--plan", str(manager.plan))
    for table, name in (("oidc_config", "client_secret"), ("users", "totp_secret")):
        found = manager.columns(table)
        assert {found[f"{name}_encrypted"], found[f"{name}_nonce"], found[name]} == {"bytea", "text"}

    report = manager.run("encrypt", "--plan", str(manager.plan), "--drop-plaintext")

    assert [place["dropped"] for place in report["places"]] == [True] * 3
    assert "client_secret" not in manager.columns("oidc_config")
    assert "totp_secret" not in manager.columns("users")
    keys = {row[0] for row in manager.query("SELECT key FROM system_config")}
    assert keys == {"smtp_host", "smtp_password_encrypted", "smtp_password_nonce"}


def test_AC2_the_key_has_its_own_path(manager: PatchManager) -> None:
    assert read_plan(EXAMPLE / "plan.yaml").key == KEY
    assert "health-check" not in KEY
    assert read_plan(manager.plan).key == str(manager.key_file)


def test_AC3_web_and_worker_load_one_key_and_never_make_another(manager: PatchManager) -> None:
    with pytest.raises(ColumnKeyMissing):
        columns.load_key(manager.key_file)
    assert not manager.key_file.exists(), "a missing key is not made in silence"
    manager.run("init-key", str(manager.key_file))
    assert columns.load_key(manager.key_file) == columns.load_key(manager.key_file)
    program = f"from identitymesh import columns; print(columns.load_key({str(manager.key_file)!r}).id)"
    ids = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in ("web", "worker")
    }
    assert ids == {columns.load_key(manager.key_file).id + "\n"}


def test_AC4_every_reading_place_reads_with_the_key(manager: PatchManager) -> None:
    manager.encrypted()
    raw = manager.key_file.read_bytes()
    key = columns.load_key(manager.key_file)

    ((encrypted, nonce),) = manager.query("SELECT client_secret_encrypted, client_secret_nonce FROM oidc_config")
    assert decoder.compatible(raw, encrypted, nonce) == "oidc-s3cret-ü"
    row = {"client_secret_encrypted": encrypted, "client_secret_nonce": nonce}
    assert columns.EncryptedColumn("oidc_config.client_secret", key).read(row) == Secret("oidc-s3cret-ü")

    settings = dict(manager.query("SELECT key, value FROM system_config"))
    encrypted, nonce = (settings[f"smtp_password_{kind}"] for kind in ("encrypted", "nonce"))
    assert (encrypted, nonce) == (encrypted.lower(), nonce.lower())
    assert decoder.compatible(raw, bytes.fromhex(encrypted), bytes.fromhex(nonce)) == "smtp-pässword"
    assert columns.EncryptedSetting("system_config", "smtp_password", key).read(settings) == Secret("smtp-pässword")

    totp = columns.EncryptedColumn("users.totp_secret", key)
    found = manager.query("SELECT username, totp_secret_encrypted, totp_secret_nonce FROM users")
    values = {
        name: totp.read({"totp_secret_encrypted": value, "totp_secret_nonce": nonce}) for name, value, nonce in found
    }
    assert values == {name: Secret(seed) for name, seed in SEEDS.items()} | {"without": None}
    assert {name: decoder.compatible(raw, value, nonce) for name, value, nonce in found if value is not None} == SEEDS


def test_AC5_every_writing_place_stores_value_and_nonce_and_switching_off_clears_both(manager: PatchManager) -> None:
    manager.encrypted()
    url = manager.database.url.replace("app@", f"app:{manager.database.password}@")
    engine = create_engine(url)
    users = Table("users", MetaData(), autoload_with=engine, resolve_fks=False)
    totp = columns.EncryptedColumn("users.totp_secret", columns.load_key(manager.key_file))
    with engine.begin() as connection:
        connection.execute(update(users).where(users.c.username == "without").values(totp.write("NEWSEED")))
        row = connection.execute(select(users).where(users.c.username == "without")).one()
        assert totp.require(row) == Secret("NEWSEED")
        connection.execute(update(users).where(users.c.username == "user0").values(totp.write(None)))
        row = connection.execute(select(users).where(users.c.username == "user0")).one()
        assert (row.totp_secret_encrypted, row.totp_secret_nonce, totp.read(row)) == (None, None, None)
    engine.dispose()
    setting = columns.EncryptedSetting("system_config", "smtp_password", columns.load_key(manager.key_file))
    assert set(setting.write("new")) == {"smtp_password_encrypted", "smtp_password_nonce"}
    assert setting.read(setting.write("new")) == Secret("new")
    assert setting.write(None) == {"smtp_password_encrypted": None, "smtp_password_nonce": None}


def test_AC6_answers_go_on_masking_what_is_set(manager: PatchManager) -> None:
    manager.encrypted()
    oidc = columns.EncryptedColumn("oidc_config.client_secret", columns.load_key(manager.key_file))
    ((encrypted, nonce),) = manager.query("SELECT client_secret_encrypted, client_secret_nonce FROM oidc_config")
    value = oidc.read({"client_secret_encrypted": encrypted, "client_secret_nonce": nonce})
    assert (str(value), f"{value}") == (MASKED, MASKED)
    assert oidc.read({"client_secret_encrypted": None, "client_secret_nonce": None}) is None


def test_AC7_one_command_migrates_and_again_changes_nothing(manager: PatchManager) -> None:
    manager.run("init-key", str(manager.key_file))
    report = manager.run("encrypt", "--plan", str(manager.plan))
    assert [place["written"] for place in report["places"]] == [1, 5, 1]
    assert [place["verified"] for place in report["places"]] == [1, 5, 1]
    before = manager.query("SELECT * FROM users ORDER BY id"), manager.query("SELECT * FROM system_config ORDER BY 1")
    again = manager.run("encrypt", "--plan", str(manager.plan))
    assert [place["written"] for place in again["places"]] == [0, 0, 0]
    assert before == (
        manager.query("SELECT * FROM users ORDER BY id"),
        manager.query("SELECT * FROM system_config ORDER BY 1"),
    )
    assert "columns encrypt --plan" in (ROOT / "docs/howto/encrypt-columns.md").read_text()


def test_AC12_nothing_in_the_audit_of_the_application_and_a_report_of_our_own(manager: PatchManager) -> None:
    for table in ("users", "oidc_config", "system_config"):
        manager.query(
            f"CREATE FUNCTION audit_{table}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN INSERT INTO audit_log (action) VALUES ('{table}'); RETURN NULL; END $$; "
            f"CREATE TRIGGER audit_{table} AFTER INSERT OR UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION audit_{table}()"
        )
    manager.encrypted()
    assert manager.query("SELECT count(*) FROM audit_log") == [(0,)]
    report = manager.run("status", "--plan", str(manager.plan))
    assert [place["last"]["verified"] for place in report["places"]] == [1, 5, 1]
    assert {place["last"]["command"] for place in report["places"]} == {"encrypt"}


def test_AC13_the_key_file_is_documented_for_installing_and_backups() -> None:
    text = (ROOT / "docs/howto/encrypt-columns.md").read_text()
    assert f"init-key {KEY}" in text
    assert "backup" in text


def test_the_start_of_new_code_says_which_command_is_missing(
    manager: PatchManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", manager.database.password)
    manager.run("init-key", str(manager.key_file))
    command = f"identitymesh columns encrypt --plan {manager.plan}"
    with pytest.raises(ColumnsUnfinished, match="no client_secret_encrypted") as raised:
        columns.check(manager.plan)
    assert raised.value.hint == f"Run: {command}"
    manager.run("encrypt", "--plan", str(manager.plan))
    columns.check(manager.plan, allow_plaintext=True)
    with pytest.raises(ColumnsUnfinished, match="still has its plain values") as raised:
        columns.check(manager.plan)
    assert raised.value.hint == f"Run: {command} --drop-plaintext"
    manager.query("UPDATE users SET totp_secret = 'LATE' WHERE username = 'user1'")
    with pytest.raises(ColumnsUnfinished, match="not encrypted") as raised:
        columns.check(manager.plan, allow_plaintext=True)
    manager.run("encrypt", "--plan", str(manager.plan), "--drop-plaintext")
    columns.check(manager.plan)


def test_the_row_that_changes_is_encrypted_anew_and_a_newer_encrypted_one_kept(manager: PatchManager) -> None:
    manager.run("init-key", str(manager.key_file))
    plan = str(manager.plan)
    manager.run("encrypt", "--plan", plan)
    setting = columns.EncryptedSetting("system_config", "smtp_password", columns.load_key(manager.key_file))

    def stored() -> Secret | None:
        return setting.read(dict(manager.query("SELECT key, value FROM system_config")))

    manager.query("UPDATE system_config SET value = 'second' WHERE key = 'smtp_password'")
    manager.run("encrypt", "--plan", plan)
    assert stored() == Secret("second")
    for name, value in setting.write("third").items():
        manager.query(f"UPDATE system_config SET value = '{value}' WHERE key = '{name}'")
    manager.run("encrypt", "--plan", plan)
    assert stored() == Secret("third")
    manager.query("UPDATE system_config SET value = 'fourth' WHERE key = 'smtp_password'")
    for name, value in setting.write("fifth").items():
        manager.query(f"UPDATE system_config SET value = '{value}' WHERE key = '{name}'")
    report = manager.run("encrypt", "--plan", plan, code=5)
    assert "remove the older one" in str(report)
    assert stored() == Secret("fifth")
    manager.query("DELETE FROM system_config WHERE key = 'smtp_password'")
    manager.run("encrypt", "--plan", plan, "--drop-plaintext")
    assert stored() == Secret("fifth")
    manager.run("decrypt", "--plan", plan)
    assert manager.query("SELECT value FROM system_config WHERE key = 'smtp_password'") == [("fifth",)]


def test_a_setting_that_is_not_there_is_not_set(manager: PatchManager) -> None:
    manager.query("DELETE FROM system_config WHERE key = 'smtp_password'")
    manager.run("init-key", str(manager.key_file))
    report = manager.run("encrypt", "--plan", str(manager.plan), "--drop-plaintext")
    assert [place["verified"] for place in report["places"]] == [1, 5, 0]
    key = columns.load_key(manager.key_file)
    settings = dict(manager.query("SELECT key, value FROM system_config"))
    assert columns.EncryptedSetting("system_config", "smtp_password", key).read(settings) is None
    assert set(settings) == {"smtp_host"}


def test_rotation_and_upgrade_of_all_three(manager: PatchManager) -> None:
    manager.encrypted()
    plan, new_key = str(manager.plan), manager.folder / "new.key"
    manager.run("init-key", str(new_key))
    report = manager.run("rotate-key", "--plan", plan, "--new-key", str(new_key))
    assert [place["written"] for place in report["places"]] == [1, 5, 1]
    new_key.rename(manager.key_file)
    report = manager.run("upgrade", "--plan", plan)
    assert [place["verified"] for place in report["places"]] == [1, 5, 1]
    manager.plan.write_text(manager.plan.read_text().replace("format: compatible", "format: sealed"))
    assert [place["broken"] for place in manager.run("verify", "--plan", plan)["places"]] == [0, 0, 0]
    key = columns.load_key(manager.key_file)
    settings = dict(manager.query("SELECT key, value FROM system_config"))
    assert "smtp_password_nonce" not in settings
    sealed = columns.EncryptedSetting("system_config", "smtp_password", key, form="sealed")
    assert sealed.read(settings) == Secret("smtp-pässword")
    totp = columns.EncryptedColumn("users.totp_secret", key, form="sealed")
    for number, name, value in manager.query("SELECT id, username, totp_secret_encrypted FROM users"):
        row = {"id": number, "totp_secret_encrypted": value, "totp_secret_nonce": None}
        assert totp.read(row) == (Secret(SEEDS[name]) if name in SEEDS else None)
