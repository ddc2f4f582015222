"""The log of real commands: what fails reaches syslog and the journal, and no credential does."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation.place import Place


@pytest.fixture
def log(place: Place, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        address = str(Path(folder) / "log")
        made.bind(address)
        made.settimeout(10)
        place.environment["IDENTITYMESH_LOGGING__DESTINATION"] = request.param
        place.environment["IDENTITYMESH_LOGGING__ADDRESS"] = address
        yield made


@pytest.mark.parametrize("log", ["syslog", "journal"], indirect=True)
def test_a_connector_and_a_secret_that_fail_are_logged_where_the_settings_say(place: Place, log: socket.socket) -> None:
    place.hire("p1")
    place.set_up()
    place.crm.stop()
    answer = place("run")
    assert answer.code == 5
    assert "identitymesh.runs" not in answer.err, "a command says it itself, once"
    failed, ended = (log.recv(65536).decode() for _ in range(2))
    assert "connector failed" in failed
    assert "connector=crm code=unreachable" in failed
    assert "run ended" in ended
    assert "state=problems" in ended
    assert place("secrets", "get", "secret://hr/none", "--force").code == 4
    missing = log.recv(65536).decode()
    assert "failed code=secret-missing" in missing
    assert place.crm.token not in failed + ended + missing


def test_at_debug_a_command_logs_to_standard_error(place: Place) -> None:
    place.hire("p1")
    place.set_up()
    place.environment["IDENTITYMESH_LOGGING__LEVEL"] = "debug"
    place.environment["IDENTITYMESH_LOGGING__FORMAT"] = "json"
    answer = place("run")
    assert answer.code == 0
    assert '"logger": "httpx2"' in answer.err
    assert '"event": "run ended"' in answer.err
    assert place.crm.token not in answer.err


def test_a_log_that_nobody_keeps_is_a_warning_and_a_finding(place: Place) -> None:
    place.set_up()
    place.environment["IDENTITYMESH_LOGGING__DESTINATION"] = "syslog"
    place.environment["IDENTITYMESH_LOGGING__ADDRESS"] = "/nowhere/log"
    answer = place("runs", "list")
    assert answer.code == 0
    assert "warning: logging.destination: the syslog at /nowhere/log does not answer" in answer.err
    assert any("/nowhere/log" in one["message"] for one in place("doctor", "--json").json["findings"])
