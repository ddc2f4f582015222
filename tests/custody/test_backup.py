"""From a backup and the recovery key to a living installation, on either database, killed on the way."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from identitymesh.secrets.age import new_identity
from tests.custody.conftest import CONNECTOR, Home
from tests.custody.killed import Ended, Program, program
from tests.kill_points import points
from tests.servers.postgresql import PostgresServer

REF = "secret://hr/reader"
VALUE = "correct horse"


def people(home: Home, *ids: str) -> None:
    """An HR database in a file, and a definition that reads it."""
    file = home.folder.parent / "hr.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS people (id TEXT PRIMARY KEY)")
        connection.executemany("INSERT OR REPLACE INTO people VALUES (?)", [(one,) for one in ids])
    text = CONNECTOR.format(url=f"sqlite:///{file}").replace("    password: secret://hr/reader\n", "")
    vault = CONNECTOR.format(url="postgresql+psycopg://x@db.example.org/hr").replace("  hr:", "  vault:", 1)
    home.ok("apply", str(home.define(text + vault)))


@pytest.fixture
def lived(home: Home) -> Home:
    """An installation that has been used."""
    home.store(REF, VALUE, "--owner", "HR team")
    home.store(REF, VALUE + " 2")
    home.store("secret://smtp", "mail", "--keyring", "application")
    people(home, "1", "2")
    home("plan", "--connector", "hr")
    return home


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Home]:
    """A blank machine, with the recovery sheet of another one."""

    def make() -> Home:
        folder = tmp_path / f"blank{len(list(tmp_path.glob('blank*')))}"
        folder.mkdir()
        return Home(folder, monkeypatch)

    return make


def backup(home: Home) -> Path:
    file = home.folder.parent / f"{len(list(home.folder.parent.glob('*.backup')))}.backup"
    home.ok("backup", "create", "--to", str(file))
    return file


def restored(home: Home, file: Path, key: str, *options: str) -> Home:
    home.ok("backup", "restore", str(file), *options, stdin=key + "\n")
    return home


def everything(home: Home) -> dict[str, list[str]]:
    """The rows of what has to survive."""
    found = {}
    for table in ("identity", "definition", "secret", "secret_ledger", "installation", "connector_object", "run_issue"):
        found[table] = sorted(map(str, home.sql(f"SELECT * FROM {table}")))
    return found


def sealed(home: Home) -> list[tuple[str, int, bytes]]:
    """Every version of every secret, as it is stored."""
    rows = home.sql("SELECT ref, version, sealed FROM secret ORDER BY ref, version")
    return [(ref, version, bytes(content)) for ref, version, content in rows]


def test_a_blank_machine_goes_on_with_backup_and_recovery_key(lived: Home, new_home: Callable[[], Home]) -> None:
    file = backup(lived)
    assert file.stat().st_mode & 0o7777 == 0o600
    blank = new_home()
    answer = blank.ok("backup", "restore", str(file), "--json", stdin=lived.recovery_key).document
    assert (answer["fingerprint"], answer["verified"], answer["authenticated"]) == (lived.fingerprint, False, True)
    assert len(answer["lost_slots"]) == 2
    assert blank.ok("secrets", "get", REF, "--force").out == VALUE + " 2"
    assert blank.ok("secrets", "get", "secret://smtp", "--force").out == "mail"
    assert "0 problems" in blank.ok("secrets", "verify").out
    told = blank("doctor", "--json").document
    assert "no-backup" not in json.dumps(told)
    assert blank.ok("drill", "--json", stdin=lived.recovery_key).document["file"] == str(file)
    if lived.url is None:
        before, after = everything(lived), everything(blank)
        after["secret_ledger"] = before["secret_ledger"]  # the values were read since
        assert before == after
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (blank.folder / "host").iterdir() if path.suffix}
    assert modes["connectors.key"] == 0o400
    assert modes["connectors.anchor"] == 0o600


def test_from_one_database_to_the_other_and_back(
    lived: Home, new_home: Callable[[], Home], request: pytest.FixtureRequest
) -> None:
    there = new_home()
    if lived.url is None:
        server = request.getfixturevalue("postgres_url")
        there.url, password = server.url, there.folder / "password"
        there.password = server.password
        password.write_text(server.password)
        password.chmod(0o600)
        there.environment["IDENTITYMESH_DATABASE__PASSWORD_FILE"] = str(password)
        restored(there, backup(lived), lived.recovery_key, "--database", server.url, "--fingerprint", lived.fingerprint)
    else:
        restored(there, backup(lived), lived.recovery_key)
    assert there.ok("secrets", "get", REF, "--force").out == VALUE + " 2"
    there.ok("resume")
    there("plan", "--connector", "hr")  # new rows get new numbers
    people(there, "3")
    back = restored(new_home(), backup(there), lived.recovery_key)
    assert back.ok("secrets", "get", REF, "--force").out == VALUE + " 2"


def test_nothing_runs_before_a_person_says_so(lived: Home, new_home: Callable[[], Home]) -> None:
    blank = restored(new_home(), backup(lived), lived.recovery_key)
    for command in (("run",), ("plan",), ("run", "--delta"), ("run", "--plan", "1")):
        refused = blank(*command, "--json")
        assert (refused.code, refused.error["code"]) == (6, "paused"), command
        assert "identitymesh resume" in refused.error["hint"]
    lifted = blank.ok("resume", "--json").document
    assert lifted["resumed"]
    assert "nothing is paused" in blank.ok("resume").out
    assert blank("plan", "--connector", "hr").code == 0
    assert [stored.record.action for stored in blank.audit("run.resume")] == ["run.resume"]


def test_the_file_alone_opens_nothing(lived: Home) -> None:
    file = backup(lived)
    with zipfile.ZipFile(file) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
        names = archive.namelist()
    for text in (VALUE, "mail", lived.recovery_key):
        assert text.encode() not in content + file.read_bytes()
    key = (lived.folder / "host" / "connectors.key").read_bytes().strip()
    assert key not in content
    assert "tables/slot_guard.jsonl" not in names
    assert "tables/lease.jsonl" not in names


def test_a_wrong_recovery_key_or_sheet_changes_nothing(lived: Home, new_home: Callable[[], Home]) -> None:
    file = backup(lived)
    blank = new_home()
    good = lived.recovery_key
    wrong = good[:-3] + ("Q" if good[-3] != "Q" else "P") + good[-2:]
    for key, options, code in (
        (new_identity().reveal_text(), (), 4),
        (wrong, (), 4),
        ("", (), 2),
        (good, ("--fingerprint", "0000-0000-0000-0000-0000"), 4),
    ):
        refused = blank("backup", "restore", str(file), *options, stdin=key)
        assert refused.code == code, refused.err
        assert not (blank.folder / "host").exists()
        assert key == "" or key not in refused.err
    restored(blank, file, good)


def edited(file: Path, name: str, edit: Callable[[bytes], bytes]) -> Path:
    """The archive with one of its files changed; the others and their hashes as they were."""
    target = file.with_suffix(".edited")
    target.unlink(missing_ok=True)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for one in old.namelist():
            new.writestr(one, edit(old.read(one)) if one == name else old.read(one))
    return target


def test_a_damaged_or_forged_backup_is_refused(lived: Home, new_home: Callable[[], Home]) -> None:
    file = backup(lived)
    blank = new_home()
    raw = file.read_bytes()
    cases: list[Path] = []
    for number, content in enumerate([raw[:-200], raw[: len(raw) // 2], b"", b"PK\x05\x06" + bytes(18)]):
        cases.append(file.with_name(f"cut{number}.backup"))
        cases[-1].write_bytes(content)
    cases.append(edited(file, "tables/definition.jsonl", lambda old: old.replace(b"people", b"evil!!")))
    for case in cases:
        for command in (("backup", "verify", str(case)), ("backup", "restore", str(case))):
            refused = blank(*command, stdin=lived.recovery_key)
            assert refused.code == 4, (case, refused.err)
            assert "the backup is refused" in refused.err
            assert list(blank.folder.iterdir()) == []

    def rehashed(manifest: bytes) -> bytes:
        fields = json.loads(manifest)
        fields["created"] = "2030-01-01T00:00:00Z"
        return json.dumps(fields).encode()

    forged = edited(file, "manifest.json", rehashed)
    blank.ok("backup", "verify", str(forged))  # hashes alone prove no maker
    refused = blank("backup", "restore", str(forged), stdin=lived.recovery_key)
    assert refused.code == 4
    assert "changed after it was made" in refused.err
    assert not (blank.folder / "host").exists()


def test_a_living_installation_is_replaced_only_on_purpose(lived: Home) -> None:
    file = backup(lived)
    lived.store(REF, "later")
    refused = lived("backup", "restore", str(file), stdin=lived.recovery_key)
    assert refused.code == 4
    assert "--replace" in refused.err
    assert lived.ok("secrets", "get", REF, "--force").out == "later"

    before = dict(lived.sql("SELECT name, generation FROM keyring"))
    restored(lived, file, lived.recovery_key, "--replace")
    after = dict(lived.sql("SELECT name, generation FROM keyring"))
    assert all(after[name] > before[name] for name in before)
    assert lived.ok("secrets", "get", REF, "--force").out == VALUE + " 2"
    anchor = json.loads((lived.folder / "host" / "connectors.anchor").read_text())
    assert anchor["generation"] == after["connectors"]
    assert len(lived.sql("SELECT * FROM keyring_slot")) == 4  # no slot more: this host had one
    assert lived.sql("SELECT * FROM custody_event WHERE name LIKE 'lost-slot:%'") == []
    assert lived("run").code == 6


def test_a_backup_from_before_the_last_rotation_opens_with_the_recovery_key_of_then(
    lived: Home, new_home: Callable[[], Home]
) -> None:
    """Abuse 66: data keys, keyset secret and recovery key were all renewed since, and the host is gone."""
    file = backup(lived)
    archived, of_then = lived.recovery_key, sealed(lived)
    lived.ok("keys", "rotate")
    replaced = lived.ok("keys", "slots", "replace-recovery", "--json")
    current = json.JSONDecoder().raw_decode(replaced.out)[0]["recovery_key"]
    lived.ok("keys", "rotate")
    assert current != archived
    assert sealed(lived) != of_then
    shutil.rmtree(lived.folder)

    blank = new_home()
    refused = blank("backup", "restore", str(file), stdin=current)
    assert refused.code == 4
    assert current not in refused.err
    assert "for an old backup, the one of then" in " ".join(refused.err.split())
    assert not (blank.folder / "host").exists()

    restored(blank, file, archived)
    assert sealed(blank) == of_then
    assert blank.ok("secrets", "get", REF, "--force").out == VALUE + " 2"
    assert blank.ok("secrets", "get", "secret://smtp", "--force").out == "mail"
    blank.ok("secrets", "verify")
    blank.ok("resume")
    assert blank("plan", "--connector", "hr").code in (0, 6)


def test_a_restore_that_was_done_is_done(lived: Home, new_home: Callable[[], Home]) -> None:
    file = backup(lived)
    blank = restored(new_home(), file, lived.recovery_key)
    again = blank.ok("backup", "restore", str(file), "--json", stdin=lived.recovery_key).document
    assert again["resumed"]


def test_a_host_without_its_key_still_makes_a_backup_that_says_so(lived: Home, new_home: Callable[[], Home]) -> None:
    (lived.folder / "host" / "connectors.key").unlink()
    file = lived.folder.parent / "orphan.backup"
    made = lived.ok("backup", "create", "--to", str(file))
    assert "nobody vouches for this backup" in made.err
    blank = new_home()
    refused = blank("backup", "restore", str(file), stdin=lived.recovery_key)
    assert refused.code == 4
    assert "--unauthenticated" in refused.err
    restored(blank, file, lived.recovery_key, "--unauthenticated")
    assert blank.ok("secrets", "get", REF, "--force").out == VALUE + " 2"


def test_a_drill_opens_every_secret_and_notes_the_date(lived: Home) -> None:
    none = lived("drill", stdin=lived.recovery_key)
    assert none.code == 2
    assert "no backup was made here yet" in none.err
    file = backup(lived)
    done = lived.ok("drill", "--json", stdin=lived.recovery_key).document
    assert (done["file"], done["secrets"], done["versions"], done["problems"]) == (str(file), 2, 3, [])
    assert [row[0] for row in lived.sql("SELECT name FROM custody_event ORDER BY name")] == ["backup", "drill"]
    wrong = lived("drill", stdin=new_identity().reveal_text())
    assert wrong.code == 4
    assert "this recovery key opens none of its slots" in wrong.err
    assert "recovery sheet" in wrong.err
    file.unlink()
    assert "is not there any more" in lived("drill", stdin=lived.recovery_key).err


def test_a_file_that_exists_is_not_touched(embedded: Home, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("x")
    refused = embedded("backup", "create", "--to", str(file))
    assert refused.code == 2
    assert file.read_text() == "x"
    assert embedded("backup", "create", "--to", str(tmp_path / "no" / "where")).code == 2


@pytest.fixture(scope="module")
def forks() -> Iterator[Program]:
    with program() as running:
        yield running


@pytest.mark.parametrize("replaced", [False, True], ids=["blank machine", "living installation"])
def test_killed_at_every_sampled_step_the_same_command_carries_on(
    lived: Home, new_home: Callable[[], Home], forks: Program, request: pytest.FixtureRequest, *, replaced: bool
) -> None:
    """Into a blank machine with the one backup, and over the living installation with --replace."""
    file = backup(lived)
    server: PostgresServer | None = request.getfixturevalue("postgres_server") if lived.url else None

    @contextmanager
    def target() -> Iterator[tuple[Home, tuple[str, ...]]]:
        if replaced:
            yield lived, ("--replace",)
            return
        home = new_home()
        if server is None:
            yield home, ()
        else:
            database = server.create()
            home.url, home.password = database.url, database.password
            home.trust()
            yield home, ("--database", database.url)
            server.drop(database)
        shutil.rmtree(home.folder)

    def restore(home: Home, options: tuple[str, ...], point: int) -> Ended:
        arguments = ["--home", str(home.folder), "backup", "restore", str(file), *options]
        return forks(point, arguments, lived.recovery_key, home.environment)

    with target() as (home, options):
        whole = restore(home, options, 0)
        assert whole.returncode == 0, whole.stderr
    name = f"backup restore{' --replace' * replaced} ({'PostgreSQL' if server else 'SQLite'})"
    for point in points(name, whole.steps):
        with target() as (home, options):
            died = restore(home, options, point)
            assert died.returncode in (-signal.SIGKILL, 0), died.stderr
            again = restore(home, options, 0)
            assert again.returncode == 0, f"killed at {point} of {whole.steps}: {again.stderr}"
            assert home.ok("secrets", "get", REF, "--force").out == VALUE + " 2", point
            assert home("run").code == 6
