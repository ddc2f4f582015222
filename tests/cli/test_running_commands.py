"""Schedules, health, history and audit on the command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from identitymesh.errors import ExitCode
from identitymesh.runs.timetable import Overview
from identitymesh.storage.audit_log import AuditWish
from tests.cli.conftest import Shell
from tests.cli.imitation import run_report
from tests.cli.running_imitation import FAILED, NIGHTLY

NO_SERVICE = "no service is running: nothing of this happens before one does: identitymesh serve"


def test_schedules_say_when_and_what_became_of_them(shell: Shell) -> None:
    answer = shell("schedule", "list")
    assert "0 2 * * * (Europe/Berlin)" in answer.out
    assert "waiting" in answer.out
    assert NO_SERVICE not in answer.out
    failed = replace(NIGHTLY, last_state="failed", last_error="there is no host key")
    shell.installation.running.timetable.answer = Overview([failed], 0, "restored; identitymesh resume")
    answer = shell("schedule", "list")
    assert "hr full: there is no host key" in answer.out
    assert "nothing starts: restored; identitymesh resume" in answer.out
    assert NO_SERVICE in answer.out
    shell.installation.running.timetable.answer = Overview([], 0, "")
    assert shell("schedule", "list").out.startswith("no schedules: give a connector")


def test_pause_and_resume_take_names_or_all(shell: Shell) -> None:
    assert shell("schedule", "pause").out == "paused: all schedules\n"
    assert shell("schedule", "resume", "hr", "crm").out == "resumed: hr, crm\n"
    assert shell("schedule", "pause", "hr", "--json").document == {"paused": ["hr"]}
    assert shell.installation.running.timetable.calls == [
        ("pause", []),
        ("resume", ["hr", "crm"]),
        ("pause", ["hr"]),
    ]


def test_run_now_says_whether_anybody_will(shell: Shell) -> None:
    assert shell("schedule", "run-now", "hr").out == "asked for: hr, full\n"
    shell.installation.running.timetable.answer = Overview([], 0, "all schedules were paused by ada")
    told = shell("schedule", "run-now", "hr", "--delta").out.splitlines()
    assert told == ["asked for: hr, delta", "nothing starts: all schedules were paused by ada", NO_SERVICE]


def test_a_connector_says_how_it_is(shell: Shell) -> None:
    fine = shell("connectors", "show", "hr").out
    assert "user: all 1,000 read" in fine
    assert "full 0 2 * * *: waiting, next" in fine
    assert "nothing went wrong since it last went well" in fine
    shell.installation.running.health.last_error = FAILED
    bad = shell("connectors", "show", "hr").out
    assert "export of run 7" in bad
    assert "no answer from crm" in bad
    assert "Start it." in bad
    assert shell("connectors", "show", "nobody").code == ExitCode.USAGE
    assert "3 create; no answer from crm" in shell("connectors", "log", "hr").out
    shell.installation.running.health.entries = ()
    assert shell("connectors", "log", "hr").out == "no run has read hr or written to it yet\n"


def test_runs_are_filtered_and_pruned(shell: Shell) -> None:
    assert shell("runs", "list").out == "no runs yet; begin with: identitymesh plan\n"
    assert shell("runs", "list", "--state", "failed", "--connector", "hr").out == "no such runs\n"
    assert shell.installation.engine.calls[-1] == ("runs", {"limit": 20, "state": "failed", "connector": "hr"})
    assert shell("runs", "list", "--state", "nice").code == ExitCode.USAGE
    assert shell("runs", "prune").out.startswith("removed: 3 runs that ended before ")
    assert shell("runs", "prune", "--dry-run").out.startswith("would be removed: 3 runs")
    shell.installation.engine.report = run_report()
    assert [
        one["connector"] for one in shell("runs", "show", "7", "--connector", "hr", "--json").document["imports"]
    ] == ["hr"]
    assert shell("runs", "show", "7", "--connector", "badges").code == ExitCode.USAGE


def test_the_audit_trail_names_who_what_and_whom(shell: Shell) -> None:
    answer = shell("audit", "list", "--person", "100001", "--action", "identity.*", "--run", "7", "--limit", "5")
    for word in ("ada@host", "identity.change", "100001", "changed: mail; connector=hr; rule=hr-mail"):
        assert word in answer.out
    assert shell.installation.running.audit.wishes == [AuditWish("100001", "identity.*", None, "7", None, 5)]
    assert shell("audit", "list", "--json").document["records"][0]["changed"] == ["mail"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_service_that_is_told_to_stop_says_so(shell: Shell, form: list[str]) -> None:
    answer = shell("serve", *form)
    assert (answer.code, answer.err) == (0, "")
    assert "stopped" in answer.out
