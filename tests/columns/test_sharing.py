"""Many rows are shared among processes: what they find is counted once, and none of them outlives the work."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from identitymesh.columns import postgresql_columns, service, sharing, sweeping
from identitymesh.columns.addresses import PostgresAddress
from identitymesh.columns.forks import Fork
from identitymesh.columns.formats import pooled_random
from identitymesh.columns.postgresql import _SHARED_LOCK, PostgresSession
from identitymesh.columns.sweeping import Progress
from identitymesh.errors import ColumnBroken, ColumnsBusy, ColumnsError, DatabaseUnreachable
from identitymesh.redaction import Secret
from tests.columns.conftest import Application
from tests.servers.postgresql import PostgresServer
from tests.servers.process import ServerFailed

ROWS = 4000


@pytest.fixture
def shared(pg: Application, monkeypatch: pytest.MonkeyPatch) -> Application:
    """A table that three processes share, in small batches."""
    monkeypatch.setattr(postgresql_columns, "SMALL", 100)
    monkeypatch.setattr(sweeping, "LARGEST_BATCH", 100)
    monkeypatch.setattr(sweeping, "FIRST_BATCH", 100)
    monkeypatch.setattr(sharing, "processors", lambda: 3)
    fill(pg)
    return pg


def fill(app: Application) -> None:
    app.execute("CREATE TABLE users (area INTEGER, name TEXT, totp_secret TEXT, PRIMARY KEY (area, name))")
    app.execute(f"INSERT INTO users SELECT n %% 7, 'user ' || n, 'SEED' || n FROM generate_series(1, {ROWS}) n")
    app.execute("ANALYZE users")


def left(app: Application) -> int:
    ((count,),) = app.execute("SELECT count(*) FROM users WHERE totp_secret_encrypted IS NULL")
    return int(count)


def test_every_row_is_encrypted_and_counted_once(shared: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Fork[object]] = []
    real = Fork.__enter__

    def enter(self: Fork[object]) -> Fork[object]:
        started.append(self)
        return real(self)

    monkeypatch.setattr(Fork, "__enter__", enter)
    seen: list[tuple[str, int]] = []

    outcome = service.encrypt(shared.plan, report=lambda phase, _place, done, _of: seen.append((phase, done)))

    report = shared.only(outcome)
    assert len(started) == 4  # two beside this one, for either step
    assert (report.written, report.verified, report.pending, report.broken) == (ROWS, ROWS, 0, 0)
    assert left(shared) == 0
    for phase in ("encrypting", "verifying"):
        counts = [done for name, done in seen if name == phase]
        assert counts == sorted(counts)
        assert counts[-1] > ROWS // 2
    assert shared.encrypt().written == 0


@pytest.mark.parametrize("form", ["compatible", "sealed"])
def test_what_is_broken_in_any_part_is_named(shared: Application, form: str) -> None:
    shared.settings = {"format": form}
    shared.encrypt()
    broken = [(0, "user 7"), (3, "user 1501"), (6, "user 3996")]
    for area, name in broken:
        shared.execute("UPDATE users SET totp_secret_encrypted = '\\x00' WHERE (area, name) = (?, ?)", (area, name))

    report = shared.verify()

    assert (report.verified, report.broken) == (ROWS - 3, 3)
    assert {finding.row for finding in report.findings} == {f"({area}, {name})" for area, name in broken}


def test_what_was_cut_short_in_one_process_is_done_by_the_next_run(
    shared: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill of one of them ends it; a kill of the whole is the bench's, at full size."""
    real, own = postgresql_columns.PostgresColumn.write, os.getpid()
    written = 0

    def write(self: postgresql_columns.PostgresColumn, *arguments: object) -> int:
        nonlocal written
        written += 1
        if os.getpid() != own and written == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(postgresql_columns.PostgresColumn, "write", write)
        with pytest.raises(ColumnsError, match="ended early"):
            shared.encrypt()
    assert 0 < left(shared) < ROWS

    report = shared.encrypt()

    assert (report.verified, report.pending, left(shared)) == (ROWS, 0, 0)


def test_nobody_begins_while_a_process_of_a_killed_command_is_at_work(pg: Application) -> None:
    pg.fill()
    assert pg.database is not None
    with pg.database.connect() as orphan:
        orphan.execute("SELECT pg_advisory_lock_shared(%s)", (_SHARED_LOCK,))
        with pytest.raises(ColumnsBusy, match="was killed"):
            pg.encrypt()
    assert pg.encrypt().verified == 4


def test_who_shares_the_work_holds_the_lock_while_it_writes(pg: Application) -> None:
    address = pg.plan.address
    assert isinstance(address, PostgresAddress)
    assert pg.database is not None
    session = PostgresSession(address, Secret(pg.database.password), None)
    with session.together(), pg.database.connect() as other:
        (free,) = other.execute("SELECT pg_try_advisory_lock(%s)", (_SHARED_LOCK,)).fetchone() or (None,)
        assert free is False
    session.close()


# Forks


def test_an_error_of_a_fork_is_raised_here() -> None:
    def piece(_step: Progress) -> None:
        raise ColumnBroken("row 7 does not open", hint="Mend it.")

    with Fork(piece) as fork, pytest.raises(ColumnBroken, match="row 7") as raised:
        fork.answer()
    assert raised.value.hint == "Mend it."


def test_leaving_ends_a_fork_that_is_at_work() -> None:
    def piece(step: Progress) -> None:
        while True:
            step(os.getpid())
            time.sleep(0.01)

    with Fork(piece) as fork:
        while not fork.done():
            time.sleep(0.01)
        pid = fork.done()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_fork_ends_when_its_parent_is_gone() -> None:
    reader, writer = os.pipe()

    def piece(step: Progress) -> None:
        os.write(writer, os.getpid().to_bytes(4, "big"))
        while True:
            step(1)
            time.sleep(0.01)

    child = os.fork()
    if child == 0:
        fork = Fork(piece)
        os.read(reader, 0)
        while not fork.done():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writer)
    pid = int.from_bytes(os.read(reader, 4), "big")
    ended = threading.Event()

    def wait() -> None:
        os.read(reader, 1)  # the end of the pipe: the last who could write to it is gone
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    assert ended.wait(30), f"process {pid} goes on without its parent"
    os.close(reader)


def test_a_fork_does_not_repeat_random_bytes() -> None:
    take = pooled_random()
    take(12)

    def piece(_step: Progress) -> bytes:
        return take(12)

    with Fork(piece) as fork:
        assert fork.answer() != take(12)


# Commits that are not waited for


def start_again(server: PostgresServer) -> None:
    """Its sessions end a moment after it, and until then its memory is theirs."""
    deadline = time.monotonic() + 60
    while True:
        try:
            server.process.start(server._answers)
        except ServerFailed:
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_a_crash_of_the_server_undoes_batches_from_the_end_and_the_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fsync on, and the server's memory lost: what it had not written is gone, and nothing else."""
    server = PostgresServer.start(durable=True)
    try:
        database = server.create()
        app = Application(tmp_path, database)
        fill(app)
        batches = 0

        def crash(_phase: str, _place: str, _done: int, _of: int | None) -> None:
            nonlocal batches
            batches += 1
            if batches == 12:
                server.process.kill()

        monkeypatch.setattr(sweeping, "LARGEST_BATCH", 100)
        monkeypatch.setattr(sweeping, "FIRST_BATCH", 100)
        with pytest.raises(DatabaseUnreachable, match="connection"):
            service.encrypt(app.plan, report=crash)
        start_again(server)
        ((cursor,),) = app.execute("SELECT cursor FROM identitymesh_columns")
        ((done,),) = app.execute("SELECT count(*) FROM users WHERE totp_secret_encrypted IS NOT NULL")
        assert done % 100 == 0
        assert (cursor == "") == (done == 0)
        report = app.encrypt(drop_plaintext=True)
        assert (report.verified, report.broken, left(app)) == (ROWS, 0, 0)
    finally:
        server.stop()
