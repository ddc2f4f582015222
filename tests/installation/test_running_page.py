"""The page about running: its commands are carried out, its unit fits the service, its numbers are the code's."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys

import pytest

from identitymesh.cli.application import parser
from identitymesh.runs.executor import TO_GIVE_UP
from identitymesh.runs.service import BEAT
from identitymesh.settings.tables import HistorySettings, ScheduleSettings
from identitymesh.storage.history import ALWAYS
from tests.house_rules.repository import ROOT
from tests.installation.place import Place

PAGE = (ROOT / "docs/howto/running.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def unit() -> configparser.SectionProxy:
    read = configparser.ConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # names of a unit have capitals
    read.read_string(blocks("ini")[0])
    return read["Service"]


@pytest.mark.timeout(900)
def test_the_commands_of_the_page(place: Place) -> None:
    programs = place.folder / "bin"
    programs.mkdir()
    start = "from identitymesh.composition import main; main()"
    (programs / "identitymesh").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    (programs / "identitymesh").chmod(0o755)
    place.hire("100042", "100043")
    assert place("init").code == 0
    assert place("secrets", "set", "secret://crm/token", given=place.crm.token).code == 0
    times = '    schedule: "*/15 * * * *"\n    full_schedule: "0 2 * * *"\n'
    text = place.definition().replace("    objects:\n", f"{times}    objects:\n", 1)
    (place.folder / "mesh.yaml").write_text(text.replace("version: 1\n", "version: 1\ntimezone: Europe/Berlin\n"))
    start_it, stop_it, *others = blocks("sh")
    wait = 'until identitymesh runs list --json | grep -q \'"state": "done"\'; do sleep 0.2; done\n'
    script = "".join([start_it, wait, stop_it, "echo stopped with $?\n", *others])
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=place.folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(place.accounts()) == {"100042", "100043"}
    for told in ("asked for: hr, full", "stopped with 0", "paused: hr", "resumed: hr", "2 read, 2 added"):
        assert told in done.stdout


def test_the_unit_fits_the_service() -> None:
    service = unit()
    _program, command = service["ExecStart"].rsplit(" ", 1)
    assert command in parser("identitymesh", []).commands
    assert (service["Type"], service["KillMode"], service["NotifyAccess"]) == ("notify", "mixed", "main")
    assert int(service["TimeoutStopSec"]) >= ScheduleSettings().stop_seconds + TO_GIVE_UP + 5
    assert int(service["WatchdogSec"]) >= 3 * BEAT


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"`schedule.stop_seconds` ({ScheduleSettings().stop_seconds:g})" in PAGE
    assert f"`history.days` ({HistorySettings().days})" in PAGE
    assert ALWAYS == 50
    assert "The fifty latest runs" in PAGE
    assert ScheduleSettings().stagger_seconds == 60
    assert "every ten seconds" in PAGE
    assert BEAT == 10
