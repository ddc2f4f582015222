import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from identitymesh.errors import KeyringBroken, KeyringExists, KeyringMissing, ProviderError
from identitymesh.redaction import Secret
from identitymesh.secrets import setup
from identitymesh.secrets.age import recipient_of
from identitymesh.secrets.fingerprint import fingerprint
from identitymesh.secrets.keyring import KEYRINGS, Document
from identitymesh.secrets.references import parse
from identitymesh.secrets.setup import InitResult, initialise
from identitymesh.secrets.store import SecretStore
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.secrets import SqlSecretRows
from tests.house_rules.repository import ROOT
from tests.secrets.conftest import ACTOR, Installation, make_installation, make_schema


@pytest.fixture(autouse=True)
def _what_opens_is_forked() -> None:
    """Not here: the real process opens."""


@pytest.fixture
def mesh(database: Database, tmp_path: Path) -> Installation:
    """Made here, not copied."""
    return make_installation(database, tmp_path / "host")


@pytest.fixture
def embedded(new_database: Callable[[str], Database], tmp_path: Path) -> Installation:
    return make_installation(new_database("mesh"), tmp_path / "host")


def start(database: Database, host: Path, announce: Callable[[InitResult], None] = lambda _result: None) -> InitResult:
    rows = SqlSecretRows(database)
    return initialise(rows, host, provider="database", actor=ACTOR, label="test host", announce=announce)


def test_init_makes_keys_anchors_and_keyrings(mesh: Installation) -> None:
    files = {path.name: path.stat().st_mode & 0o7777 for path in mesh.host.iterdir() if path.suffix}
    assert files == {
        "connectors.key": 0o400,
        "connectors.anchor": 0o600,
        "application.key": 0o400,
        "application.anchor": 0o600,
    }
    assert mesh.host.stat().st_mode & 0o7777 == 0o700
    assert recipient_of(mesh.result.recovery_key) == mesh.result.recovery_recipient
    assert mesh.result.fingerprint == fingerprint(mesh.result.installation, mesh.result.recovery_recipient)
    records = [stored.record for stored in mesh.audit()]
    assert {(record.action, record.subject) for record in records} == {
        ("keyring.create", "connectors"),
        ("keyring.create", "application"),
    }
    assert mesh.result.recovery_key.reveal_text() not in repr(mesh.result) + repr(records)


def test_the_fingerprint_is_a_known_answer() -> None:
    recipient = "age1klu4wg0th9r2kdx5qcxyx8u4lg62nr5gjvx0j2uy8vf07nlhfdxsvedyyp"
    assert fingerprint("5b0c5a5e-6a1c-4c57-9d3f-1f9d1f0b7a10", recipient) == "7zqw-7gpb-sm77-dt3z-q71b"


def test_init_refuses_where_anything_is(mesh: Installation, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in mesh.host.iterdir()}
    rows = mesh.sql("SELECT name, sealed FROM keyring ORDER BY name")
    for host in (mesh.host, tmp_path / "new"):
        with pytest.raises(KeyringExists, match="installation already"):
            start(mesh.database, host)
    assert {path: path.read_bytes() for path in mesh.host.iterdir()} == before
    assert not (tmp_path / "new").exists()
    assert mesh.sql("SELECT name, sealed FROM keyring ORDER BY name") == rows


@pytest.mark.parametrize("name", ["connectors.key", "application.key", "connectors.anchor", "application.anchor"])
@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_init_refuses_where_a_host_key_or_anchor_is(database: Database, tmp_path: Path, name: str, kind: str) -> None:
    make_schema(database)
    host = tmp_path / "host"
    host.mkdir()
    if kind == "file":
        (host / name).write_text("x")
    else:
        (host / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyringExists, match="but the database has no keyring") as exists:
        start(database, host)
    assert "remove" in exists.value.hint
    assert [path.name for path in host.iterdir()] == [name]


def test_an_unknown_provider_stops_init_before_anything_is_made(database: Database, tmp_path: Path) -> None:
    make_schema(database)
    with pytest.raises(ProviderError, match="unknown provider"):
        initialise(
            SqlSecretRows(database), tmp_path / "h", provider="x", actor=ACTOR, label="", announce=lambda _result: None
        )
    assert not (tmp_path / "h").exists()


def test_when_the_recovery_key_cannot_be_shown_nothing_is_stored(database: Database, tmp_path: Path) -> None:
    make_schema(database)

    def announce(result: InitResult) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        start(database, tmp_path / "host", announce)
    assert not (tmp_path / "host").exists()
    with SqlSecretRows(database).read() as view:
        assert view.installation() is None
        assert view.keyring("connectors") is None
    assert start(database, tmp_path / "host").keyrings == KEYRINGS


def test_a_slot_that_a_fresh_process_cannot_open_is_never_stored(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_schema(database)
    original = setup._prove

    def broken_disk(made: list[tuple[Document, bytes]], result: InitResult) -> None:
        path = result.host / "application.key"
        content = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(content[:40] + b"\n")
        path.chmod(0o400)
        original(made, result)

    monkeypatch.setattr(setup, "_prove", broken_disk)
    announced: list[InitResult] = []
    with pytest.raises(KeyringBroken, match="did not open in a fresh process: the host key"):
        start(database, tmp_path / "host", announced.append)
    assert not announced
    assert not (tmp_path / "host").exists()


def test_two_inits_at_once_make_one_installation(database: Database, tmp_path: Path) -> None:
    make_schema(database)
    barrier = threading.Barrier(2, timeout=30)
    outcomes: list[str] = []

    def run(host: Path) -> None:
        try:
            start(database, host, lambda _result: (barrier.wait(), None)[1])
            outcomes.append("made")
        except KeyringExists:
            outcomes.append("refused")

    threads = [threading.Thread(target=run, args=(tmp_path / name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "refused"]
    assert len([name for name in ("one", "two") if (tmp_path / name).exists()]) == 1


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from identitymesh.secrets.setup import initialise
    from identitymesh.storage.database import open_database
    from identitymesh.storage.secrets import SqlSecretRows

    folder, point = Path(sys.argv[1]), sys.argv[2]
    count, fsync = 0, os.fsync

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(handle):
        global count
        fsync(handle)
        count += 1
        if point == str(count):
            die()

    def announce(result):
        sys.stdout.write(result.recovery_key.reveal_text())
        sys.stdout.flush()
        if point == "announced":
            die()

    os.fsync = counted
    rows = SqlSecretRows(open_database(f"sqlite:///{folder}/mesh.db"))
    initialise(rows, folder / "host", provider="database", actor="a", label="", announce=announce)
    if point == "stored":
        die()
    print(count)
    """
)


@pytest.mark.parametrize("point", ["1", "2", "3", "4", "5", "6", "7", "8", "9", "announced", "stored"])
def test_killed_at_any_moment_init_leaves_nothing_or_everything(tmp_path: Path, point: str) -> None:
    database = open_database(f"sqlite:///{tmp_path}/mesh.db")
    make_schema(database)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), point],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath},
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    store = SecretStore(SqlSecretRows(database), tmp_path / "host")
    if point == "stored":
        assert child.stdout.startswith(b"AGE-SECRET-KEY-1")
        store.put(parse("secret://a"), Secret("x"), actor=ACTOR)
        with pytest.raises(KeyringExists, match="installation already"):
            start(database, tmp_path / "host")
    else:
        with pytest.raises(KeyringMissing):
            store.put(parse("secret://a"), Secret("x"), actor=ACTOR)
        if any(not path.name.startswith(".") for path in (tmp_path / "host").iterdir()):
            with pytest.raises(KeyringExists, match="no keyring") as exists:
                start(database, tmp_path / "host")
            assert f"remove {tmp_path / 'host'} and run it again" in exists.value.hint
            for path in (tmp_path / "host").iterdir():
                path.unlink()
        assert start(database, tmp_path / "host").keyrings == KEYRINGS
    database.close()


def test_the_child_that_opens_keyrings_learns_nothing_from_arguments_or_environment(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_schema(database)
    monkeypatch.setenv("CANARY", "hunter2")
    seen: list[tuple[list[str], dict[str, str]]] = []
    run = subprocess.run

    def spy(command: list[str], **options: object) -> object:
        seen.append((command, options["env"]))  # type: ignore[arg-type]
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", spy)
    result = start(database, tmp_path / "host")
    ((command, environment),) = seen
    key = result.recovery_key.reveal_text()
    assert key not in " ".join(command) + repr(environment)
    assert set(environment) == {"PATH", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
