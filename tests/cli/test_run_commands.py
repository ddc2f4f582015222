"""`plan`, `run`, `runs` and `explain`: what they ask the engine for, and what they say of its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from identitymesh.errors import ExitCode, NotFound
from identitymesh.model.accounts import Difference
from identitymesh.runs.contract import Issue
from identitymesh.runs.reports import Decision, ExportReport, ImportReport, TargetReport, Walk
from tests.cli.conftest import Shell
from tests.cli.imitation import held_report, rows, run_report

IDLE = (TargetReport("crm", "empty", {}),)


def test_plan_asks_for_what_was_said(shell: Shell) -> None:
    shell("plan", "--delta", "--connector", "hr", "--connector", "crm", "--rows", "5", "--person", "100001")
    assert shell.installation.engine.calls == [
        ("plan", {"delta": True, "connectors": ["hr", "crm"]}),
        ("rows", {"run_id": 7, "limit": 5, "person": "100001"}),
        ("walk", (7, "100001")),
    ]


def test_a_plan_is_told_with_its_first_rows_and_where_the_others_are(shell: Shell) -> None:
    answer = shell("plan", "--rows", "2")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        "plan 7, full, definition 2, 1.2 s: done",
        "",
        "Read",
        "connector  object  mode   read    new  changed  gone  bad",
        "hr         user    full  1,000  1,000        -     -    -  complete",
        "crm        user    full      -      -        -     -    -  complete",
        "",
        "People: 1,000 created",
        "",
        "Plan 7",
        "target  create  update  disable  delete  state",
        "crm      1,000       -        -       -  ready",
        "",
        "Changes, 2 of 1,000",
        "create  crm/user  100001",
        "    + userName ada1@example.org",
        "    + active true",
        "create  crm/user  100002",
        "    + userName ada2@example.org",
        "    + active true",
        "… and 998 more: identitymesh runs show 7 --rows 1000",
        "",
        "Nothing was written. Write exactly this: identitymesh run --plan 7",
    ]


def test_differences_are_told_one_by_one(shell: Shell) -> None:
    long = "x" * 300
    differences = [
        Difference("added", None, ["a", "b", 1]),
        Difference("changed", "old", "new"),
        Difference("emptied", " spaces ", ""),
        Difference("looks", before="true", after=True),
        Difference("removed", b"\x00\x01", None),
        Difference("long", None, long),
        Difference("text", "null\nline", "→"),
    ]
    shell.installation.engine.plan_rows = [replace(rows(1)[0], kind="update", differences=differences, note="parked")]
    lines = [line.strip() for line in shell("plan").out.splitlines()]
    start = lines.index("update  crm/user  100001 (parked)")
    assert lines[start + 1 : start + 8] == [
        "+ added [a, b, 1]",
        "~ changed old → new",
        '~ emptied " spaces " → ""',
        '~ looks "true" → true',
        "- removed <2 bytes>",
        f"+ long {long[:100]}… (300 characters)",
        "~ text null\\x0aline → →",
    ]


def test_a_held_plan_says_why_and_how_to_approve_it(shell: Shell) -> None:
    shell.installation.engine.report = held_report()
    answer = shell("plan")
    assert answer.code == ExitCode.HELD
    for line in (
        "  crm: 25 deletes are more than 20",
        "    approve it:  identitymesh runs approve 8 --connector crm",
        "    look first:  identitymesh runs show 8 --rows 1000",
        "    drop it:     identitymesh runs drop 8 --connector crm",
        "Nothing was written. Approve and write exactly this: identitymesh run --plan 8",
    ):
        assert line in answer.out.splitlines()
    document = shell("plan", "--json").document
    assert document["state"] == "held"
    assert document["targets"][0]["reasons"] == ["25 deletes are more than 20"]
    assert document["row_count"] == 25


@pytest.mark.parametrize("command", ["plan", "run"])
def test_nothing_to_do_is_said(shell: Shell, command: str) -> None:
    shell.installation.engine.report = run_report(command=command, targets=IDLE)
    shell.installation.engine.plan_rows = []
    answer = shell(command)
    assert answer.code == 0
    assert answer.out.endswith("Nothing to do: every target holds what it should.\n")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_nothing_to_write_because_of_held_absences_is_not_called_nothing_to_do(shell: Shell, command: str) -> None:
    held = [ImportReport("hr", "user", "full", complete=True, held_absences=999, held_reason="999 of 999 are missing")]
    shell.installation.engine.report = replace(run_report(command=command, state="held", targets=IDLE), imports=held)
    shell.installation.engine.plan_rows = []
    answer = shell(command)
    assert answer.code == ExitCode.HELD
    assert "Nothing to do" not in answer.out
    assert answer.out.endswith("No target gets anything by this plan.\n")
    assert "    believe it:  identitymesh runs approve 7" in answer.out.splitlines()


def test_nobody_is_called_that(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cli.imitation.FakeEngine.walk", lambda _self, _run, who: Walk(who, None, [], []))
    answer = shell("plan", "--person", "424242")
    assert answer.code == NotFound("").exit_code
    assert "nobody is called '424242'" in answer.err


def test_nothing_is_planned_for_a_person(shell: Shell) -> None:
    answer = shell("plan", "--person", "424242")
    assert "Nothing is planned for 424242. What is known of this person: identitymesh explain 424242" in answer.out


@pytest.mark.parametrize(
    ("state", "error_code", "code"),
    [
        ("done", "", ExitCode.DONE),
        ("problems", "", ExitCode.PROBLEMS),
        ("held", "", ExitCode.HELD),
        ("failed", "busy", ExitCode.BUSY),
        ("failed", "database-unreachable", ExitCode.UNAVAILABLE),
        ("failed", "secret-missing", ExitCode.SECRET),
        ("failed", "nobody-knows", ExitCode.FAILED),
        ("abandoned", "", ExitCode.FAILED),
    ],
)
def test_the_state_of_a_run_decides_the_exit_code(shell: Shell, state: str, error_code: str, code: ExitCode) -> None:
    report = replace(run_report(command="run", state=state), error_code=error_code, error=error_code and "it broke")
    shell.installation.engine.report = report
    for call in (["run"], ["run", "--plan", "7"], ["plan"]):
        assert shell(*call).code == code
        assert shell(*call, "--json").code == code
        assert shell(*call, "--json").document["state"] == state


def test_run_asks_for_what_was_said(shell: Shell) -> None:
    shell("run")
    shell("run", "--delta", "--connector", "hr")
    shell("run", "--plan", "12")
    assert shell.installation.engine.calls == [
        ("run", {"delta": False, "connectors": []}),
        ("run", {"delta": True, "connectors": ["hr"]}),
        ("release", 12),
    ]


def test_what_a_run_could_not_do_is_told_in_words(shell: Shell) -> None:
    shell.installation.engine.report = replace(
        run_report(command="run", state="problems"),
        imports=[
            ImportReport("hr", "user", "full", error_code="unreachable", error="nobody answers", hint="Is it on?"),
            ImportReport("csv", "user", "full", read=10, held_absences=3, held_reason="3 of 13 are missing"),
        ],
        exports=[
            ExportReport("crm", {"create": 9}, parked=1, left=2, error_code="throttled", error="too fast", hint="Wait.")
        ],
        issues=[Issue("crm", f"10000{n}", "object-refused", "mail is taken") for n in range(12)],
        issue_count=40,
        notes=["carried on from run 6"],
    )
    out = shell("run").out
    for line in (
        "  hr: unreachable: nobody answers",
        "    Is it on?",
        "  csv: 3 absences held: 3 of 13 are missing; until that is approved they stay",
        "    believe it:  identitymesh runs approve 7",
        "  crm: throttled: too fast",
        "    Wait.",
        "Problems: 40",
        "  crm/100000: object-refused: mail is taken",
        "  … and 30 more",
        "note: carried on from run 6",
    ):
        assert line in out.splitlines()
    assert out.count("object-refused") == 10
    assert "hr         user    full     -    -        -     -    -  failed" in out


def test_no_runs_yet(shell: Shell) -> None:
    assert shell("runs", "list").out == "no runs yet; begin with: identitymesh plan\n"


def test_runs_are_listed(shell: Shell) -> None:
    shell.installation.engine.history = [held_report(), run_report()]
    lines = shell("runs", "list", "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "8", "7"]
    assert lines[1].split()[-2:] == ["delete", "-"]
    assert ("runs", {"limit": 2, "state": None, "connector": None}) in shell.installation.engine.calls


def test_one_run_is_shown_with_its_rows(shell: Shell) -> None:
    answer = shell("runs", "show", "7", "--rows", "1", "--person", "100002")
    assert answer.code == 0
    assert "create  crm/user  100002" in answer.out
    assert shell("runs", "show", "9").code == ExitCode.USAGE


def test_approve_and_drop(shell: Shell) -> None:
    answer = shell("runs", "approve", "8", "--connector", "crm")
    assert answer.out.splitlines() == [
        "approved: 25 rows of plan 8 (crm)",
        "  2 rows changed since and will be judged again",
        "Write it now: identitymesh run --plan 8; or with everything else: identitymesh run",
    ]
    assert shell("runs", "drop", "8").out == "dropped: 25 rows of plan 8 (crm)\n"
    assert shell.installation.engine.calls == [
        ("approve", {"run_id": 8, "connectors": ["crm"]}),
        ("drop", {"run_id": 8, "connectors": []}),
    ]


def test_a_plan_that_was_overtaken_has_nothing_to_approve(shell: Shell) -> None:
    shell.installation.engine.decision = Decision(8, ["crm"], rows=0, superseded=25)
    answer = shell("runs", "approve", "8")
    assert answer.out == "nothing of plan 8 could be approved: it is written, or has changed since\n"


def test_explain_tells_what_won_and_what_lost(shell: Shell) -> None:
    out = shell("explain", "100001").out
    assert out.splitlines()[0] == "user 100001 (identity 1): present"
    table = [line.split() for line in out.splitlines()]
    assert ["mail", "ada@example.org", "directory/u1", "dir-mail", "80", "2026-02-01T00:00:00Z"] in table
    assert ["not", "ada.old@example.org", "hr/100001", "hr-mail", "60"] in table
    assert "  crm/user 2819c223: as it should be (rule people-in-crm)" in out


def test_restricted_values_are_shown_on_request_alone(shell: Shell) -> None:
    for form in ([], ["--json"]):
        assert "C4" not in shell("explain", "100001", *form).out
        assert "C4" in shell("explain", "100001", "--restricted", *form).out


def test_the_first_line_of_init_is_the_recovery_key(shell: Shell) -> None:
    from tests.cli.imitation import RECOVERY_KEY

    for terminal in (False, True):
        answer = shell("init", terminal=terminal)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.splitlines()[0] == RECOVERY_KEY
        assert answer.out.count(RECOVERY_KEY) == 1
        assert "abcd-efgh-jkmn-pqrs-tvwx" in answer.out
    assert shell("init", "--json").document["recovery_key"] == RECOVERY_KEY


@pytest.mark.parametrize(
    "call",
    [
        ["run", "--plan", "99999999999999999999"],
        ["runs", "show", "2147483648"],
        ["runs", "list", "--limit", "99999999999999999999"],
        ["plan", "--rows", "99999999999999999999"],
        ["plan", "--person", "\udcff\udcfe"],
        ["explain", "\udcff"],
    ],
)
def test_what_no_database_takes_is_a_wrong_call(shell: Shell, call: list[str]) -> None:
    assert shell(*call).code == ExitCode.USAGE
