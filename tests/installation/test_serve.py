"""The service as a process: it runs what is due, once, whatever is killed; and ends in order."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation.place import Place
from tests.installation.services import Services, exists, services
from tests.servers.postgresql import PostgresDatabase

pytestmark = pytest.mark.timeout(900)  # whole processes, one after the other, on a machine that does other things


@pytest.fixture
def ready(place: Place) -> Place:
    place.hire("e1", "e2", "e3")
    place.set_up()
    return place


@pytest.fixture
def served(ready: Place) -> Iterator[Services]:
    with services(ready) as made:
        yield made


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """What systemd would listen on."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(Path(folder) / "notify"))
        made.settimeout(60)
        yield made


def test_what_is_asked_for_is_run_and_the_service_ends_in_order(served: Services, manager: socket.socket) -> None:
    place = served.place
    asked = place("schedule", "run-now", "hr", "--json").json
    assert asked == {"connector": "hr", "mode": "full", "services": 0, "halted": ""}
    process = served.start(NOTIFY_SOCKET=manager.getsockname())
    served.until(served.settled())
    assert set(place.accounts()) == {"e1", "e2", "e3"}
    ((_, state, due),) = served.runs()
    assert (state, str(due)[:14]) == ("done", "hr/full@asked-")
    assert "service is running" not in place("schedule", "list").out
    assert served.stop(process) == 0
    told = []
    while "STOPPING=1" not in told:
        told.append(manager.recv(4096).decode())
    assert told[0] == "WATCHDOG=1"
    assert any(one.startswith("READY=1") for one in told)
    assert served.living() == []
    assert served.lease("schedule:hr").pid == process.pid
    assert place("run", "--json").code == 0, "no lease is held"
    log = served.log()
    for event in ("service started", "due run started", "run ended", "due run ended", "service stopped"):
        assert event in log
    assert place.crm.token not in log


def test_what_is_due_by_the_clock_imports_its_connector_and_releases_to_every_target(served: Services) -> None:
    place = served.place
    text = (place.folder / "mesh.yaml").read_text()
    (place.folder / "mesh.yaml").write_text(
        text.replace("    objects:\n", '    full_schedule: "0 2 * * *"\n    objects:\n', 1)
    )
    assert place("apply", "mesh.yaml").code == 0
    process = served.start()
    served.until(lambda: ("hr", "full") in served.schedules())
    served.stop(process)
    past = "UPDATE schedule SET nominal = '2026-01-01 02:00:00', due_at = '2026-01-01 02:00:07' WHERE connector = 'hr'"
    with served.database.write() as connection:
        connection.exec_driver_sql(past)
    assert any(one["code"] == "schedule-overdue" for one in place("doctor", "--json").json["findings"])
    process = served.start()
    served.until(lambda: served.states() == ["done"])
    assert served.runs()[0][2] == "hr/full@2026-01-01T02:00Z"
    assert set(place.accounts()) == {"e1", "e2", "e3"}
    shown = place("runs", "show", str(served.runs()[0][0]), "--json").json
    assert [one["connector"] for one in shown["imports"]] == ["hr"]
    served.until(lambda: served.schedules()["hr", "full"].last_state == "done")
    served.stop(process)
    assert len(served.runs()) == 1


def test_a_service_killed_in_the_middle_takes_its_child_along_and_the_next_one_carries_on(served: Services) -> None:
    place = served.place
    os.kill(place.crm.pid, signal.SIGSTOP)  # the target hangs: the run is in the middle of its import
    place("schedule", "run-now", "hr")
    first = served.start()
    child = served.child()
    served.kill(first)
    served.until(lambda: not exists(child))
    os.kill(place.crm.pid, signal.SIGCONT)
    findings = place("doctor", "--json").json["findings"]
    assert any(one["code"] == "service-gone" for one in findings)
    served.start()
    served.until(served.settled())
    assert served.states() == ["abandoned", "done"]
    assert len({due for _, _, due in served.runs()}) == 1
    assert set(place.accounts()) == {"e1", "e2", "e3"}


def test_a_killed_child_is_replaced(served: Services) -> None:
    place = served.place
    os.kill(place.crm.pid, signal.SIGSTOP)
    place("schedule", "run-now", "hr")
    served.start()
    os.kill(served.child(), signal.SIGKILL)
    os.kill(place.crm.pid, signal.SIGCONT)
    served.until(served.settled())
    assert served.states() == ["abandoned", "done"]
    assert "ended by signal 9" in served.log()
    assert set(place.accounts()) == {"e1", "e2", "e3"}


def test_a_service_that_stops_ends_what_does_not_end_and_the_next_one_carries_it_out(served: Services) -> None:
    place = served.place
    os.kill(place.crm.pid, signal.SIGSTOP)
    place("schedule", "run-now", "hr")
    first = served.start(IDENTITYMESH_SCHEDULE__STOP_SECONDS="0")
    child = served.child()
    assert served.stop(first) == 0
    assert not exists(child)
    assert served.schedules()["hr", "full"].asked_at is not None
    os.kill(place.crm.pid, signal.SIGCONT)
    served.start()
    served.until(served.settled())
    assert served.states()[-1] == "done"
    assert [due for _, _, due in served.runs() if due is not None][-1].startswith("hr/full@asked-")
    assert set(place.accounts()) == {"e1", "e2", "e3"}


def test_two_services_in_one_folder_run_each_thing_once(served: Services) -> None:
    first, second = served.start(), served.start()
    once_each(served)
    assert (served.stop(first), served.stop(second)) == (0, 0)


def test_two_services_on_one_postgresql_run_each_thing_once(place: Place, postgres_url: PostgresDatabase) -> None:
    password = place.folder / "database.password"
    password.write_text(postgres_url.password + "\n")
    password.chmod(0o400)
    place.environment = {"IDENTITYMESH_DATABASE__PASSWORD_FILE": str(password)}
    assert place("init", "--database-url", postgres_url.url).code == 0
    place.hire("e1", "e2", "e3")
    place.prepare()
    with services(place, postgres_url.url, postgres_url.password) as served:
        first, second = served.start(), served.start()
        once_each(served)
        # And when the one that works is killed, its lease is free again within its time, and the other carries on.
        os.kill(place.crm.pid, signal.SIGSTOP)
        place("schedule", "run-now", "hr")
        child = served.child()
        worker, other = (first, second) if served.lease("schedule:hr").pid == first.pid else (second, first)
        served.kill(worker)
        served.until(lambda: not exists(child))
        os.kill(place.crm.pid, signal.SIGCONT)
        served.until(served.settled())
        assert served.states()[-2:] == ["abandoned", "done"]
        assert served.stop(other) == 0


def once_each(served: Services) -> None:
    for connector in ("hr", "crm"):
        assert served.place("schedule", "run-now", connector).code == 0
    for connector in ("hr", "crm"):
        served.until(served.settled(connector))
    dues = [str(due).partition("@")[0] for _, state, due in served.runs() if state == "done"]
    assert sorted(dues) == ["crm/full", "hr/full"]
    assert len(served.runs()) == len(dues)


def test_nothing_starts_while_the_installation_is_paused(served: Services) -> None:
    place = served.place
    with served.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO pause (singleton, reason, since, actor) VALUES (1, 'restored', '2026-01-01 00:00:00', 'ada')"
        )
    place("schedule", "run-now", "hr")
    served.start()
    served.until(lambda: "nothing starts" in served.log())
    assert served.runs() == []
    assert "restored" in place("schedule", "list").out
    assert place("resume").code == 0
    served.until(served.settled())
    assert served.states() == ["done"]


def test_without_a_database_it_does_not_start_and_says_why(place: Place) -> None:
    (place.folder / "identitymesh.toml").write_text('[database]\nurl = "sqlite:///none.db"\n')
    answer = place("serve")
    assert answer.code == 8
    assert "there is no database" in answer.err
