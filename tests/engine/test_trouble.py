"""What goes wrong at targets and sources, and what the next run makes of it."""

from __future__ import annotations

import random
import string
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select, text

from identitymesh.connectors import patience
from identitymesh.connectors.checking import MAX_KEY
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    CredentialRefused,
    DatabaseLocked,
    MeshError,
    ObjectExists,
    ObjectRefused,
    Throttled,
    Unreachable,
)
from identitymesh.model.attributes import Attributes, load
from identitymesh.runs.contract import Result
from identitymesh.runs.reports import RunReport
from identitymesh.storage.exports import SqlExports
from identitymesh.storage.tables.mesh import account
from identitymesh.storage.tables.runs import lease

from .directory import Directory
from .world import World, target


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(patience, "LEAST_PAUSE", 0.0)


@dataclass
class Trouble:
    """A hook of the directory that raises ``error`` for an operation, on some keys or all, some times or always."""

    operation: str
    error: Callable[[], MeshError]
    keys: Sequence[str] = ()
    times: int = 1_000
    met: list[str] = field(default_factory=list)

    def __call__(self, operation: str, key: str) -> None:
        if operation == self.operation and (not self.keys or key in self.keys) and len(self.met) < self.times:
            self.met.append(key)
            raise self.error()


def lost() -> ConnectionLost:
    return ConnectionLost("the answer never came")


def refused() -> ObjectRefused:
    return ObjectRefused("422 familyName: no digits, please")


def operations(directory: Directory) -> list[str]:
    return [operation for operation, _ in directory.calls]


def issues(report: RunReport) -> set[tuple[str, str, str]]:
    return {(one.connector, one.subject, one.code) for one in report.issues}


def key_of(world: World, person: str) -> str:
    return next(key for key, one in world.crm.objects.items() if one["externalId"] == person)


def errors_of(world: World, person: str) -> tuple[str | None, str]:
    """The state in words of the person's account, as `explain` shows it."""
    account = world.engine.explain(person).accounts[0]
    return account.key, account.state


# -- answers that are lost ---------------------------------------------------------


def test_a_create_whose_answer_was_lost_is_adopted_by_the_next_run(both: World) -> None:
    both.hire_many(5)
    both.crm.after = Trouble("create", lost, times=1)

    report = both.run()

    assert report.state == "problems"
    assert ("crm", "p0000", "connection-lost") in issues(report)
    assert len(both.accounts()) == 5, "the others went out"
    again = both.run()
    assert (again.state, again.row_count) == ("done", 0)
    assert operations(both.crm) == ["create"] * 5
    assert errors_of(both, "p0000")[0] == key_of(both, "p0000")


def test_a_delta_run_that_does_not_read_the_target_looks_the_account_up(both: World) -> None:
    both.hire_many(5)
    both.crm.after = Trouble("create", lost, times=1)
    both.run()
    looked_up: list[str] = []
    both.crm.before = lambda operation, key: looked_up.append(key) if operation == "lookup" else None

    report = both.run(delta=True)

    assert looked_up == ["p0000"]
    assert operations(both.crm) == ["create"] * 5
    assert report.exports[0].done == {"create": 1}
    assert both.run().row_count == 0


def test_a_create_that_was_not_carried_out_is_sent_again(both: World) -> None:
    both.hire_many(2)
    both.crm.before = Trouble("create", lost, times=1)
    both.run()

    both.run(delta=True)

    assert set(both.accounts()) == {"p0000", "p0001"}
    assert operations(both.crm) == ["create"] * 2


def test_who_changes_after_the_answer_was_lost_gets_one_account_and_the_newest_values(both: World) -> None:
    both.hire_many(2)
    both.crm.after = Trouble("create", lost, times=1)
    both.run()
    both.change("p0000", last="Later")

    report = both.run(delta=True)

    assert report.row_count == 1, "another row than the one that was sent"
    assert operations(both.crm)[:2] == ["create"] * 2
    assert len(both.accounts()) == 2
    both.run()
    assert both.accounts()["p0000"]["familyName"] == "Later"


def test_who_leaves_after_the_answer_was_lost_is_disabled_there(both: World) -> None:
    both.hire_many(5)
    both.crm.after = Trouble("create", lost, times=1)
    both.run()
    both.fire("p0000")

    both.run()
    both.run()

    assert both.accounts()["p0000"]["active"] is False
    assert operations(both.crm).count("create") == 5


def test_an_update_whose_answer_was_lost_is_found_done(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    both.crm.after = Trouble("update", lost, times=4)  # the facade may repeat it: it is guarded

    both.run()
    both.run()

    assert both.accounts()["p0001"]["familyName"] == "New"
    assert operations(both.crm).count("update") == 1
    assert both.run().row_count == 0


def test_a_delete_whose_answer_was_lost_is_found_done(both: World) -> None:
    both.apply(lambda text: text.replace("on_leave: disable", "on_leave: delete"), release=True)
    both.hire_many(5)
    both.run()
    both.fire("p0001")
    both.crm.after = Trouble("delete", lost, times=4)

    both.run()
    report = both.run()

    assert len(both.accounts()) == 4
    assert (report.state, report.row_count) == ("done", 0)
    assert operations(both.crm).count("delete") == 1


class Silent:
    """The answer to an update is lost, and after it the target cannot be reached."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __call__(self, operation: str, _: str) -> None:
        if operation == "update":
            self._directory.after = None
            self._directory.before = Trouble("get", lambda: Unreachable("down"))
            raise lost()


def told_of_updates(world: World) -> list[str]:
    """Outcomes of changes of accounts, as the audit has them."""
    with world.database.read() as connection:
        query = text("SELECT outcome FROM audit WHERE action = 'account.update' ORDER BY sequence")
        return list(connection.execute(query).scalars())


@pytest.mark.parametrize("delta", [False, True])
def test_a_change_whose_answer_was_lost_is_audited_although_the_target_then_went_away(both: World, delta: bool) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    both.crm.after = Silent(both.crm)

    report = both.run(delta=True)

    assert ("crm", "p0001", "connection-lost") in issues(report)
    assert both.accounts()["p0001"]["familyName"] == "New"
    assert told_of_updates(both) == ["failed"]
    both.crm.before = None
    both.run(delta=delta)
    assert told_of_updates(both) == ["failed", "done"]
    assert operations(both.crm).count("update") == 1


def test_a_change_that_was_given_up_and_is_seen_to_be_done_is_audited(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    for _again in range(2):
        both.crm.before = Trouble("update", lost)
        both.run(delta=True)
    both.crm.before, both.crm.after = None, Silent(both.crm)
    both.run(delta=True)
    both.crm.before = None
    assert errors_of(both, "p0001")[1].startswith("parked")

    report = both.run()

    assert (report.state, report.row_count) == ("done", 0)
    assert told_of_updates(both) == ["failed", "failed", "failed", "done"]


def test_a_change_whose_answer_was_lost_is_audited_although_something_newer_is_wanted(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="First")

    def lost_meanwhile(operation: str, _: str) -> None:
        if operation == "update":
            both.change("p0001", last="Second")
            both.another_engine().plan(delta=True, connectors=["hr"], progress=lambda *_: None)
            Silent(both.crm)(operation, "")

    both.crm.after = lost_meanwhile
    both.run(delta=True)
    both.crm.before = None

    both.run()

    assert both.accounts()["p0001"]["familyName"] == "Second"
    assert told_of_updates(both) == ["failed", "done", "done"]


def steps_of_updates(world: World) -> list[tuple[str, Any, Any]]:
    """Outcomes of changes of accounts, with the family name before and after."""
    with world.database.read() as connection:
        query = text("SELECT outcome, payload FROM audit WHERE action = 'account.update' ORDER BY sequence")
        rows = [(outcome, load(payload)) for outcome, payload in connection.execute(query)]
    return [(outcome, told["before"].get("familyName"), told["after"].get("familyName")) for outcome, told in rows]


@pytest.mark.parametrize("times", [1, 4], ids=["seen by the next try", "seen by the next run"])
def test_what_was_made_of_a_change_whose_answer_was_lost_is_audited(both: World, times: int) -> None:
    both.hire_many(3)
    both.run()

    def halfway(attributes: Attributes) -> Attributes:
        return {**attributes, "familyName": str(attributes["familyName"]).replace("-", " ")}

    both.crm.spelling = halfway
    both.change("p0001", last="Half-Done")
    looks = Trouble("get", lambda: Unreachable("down"), times=times if times > 1 else 0)

    def lost_and_down(operation: str, _: str) -> None:
        both.crm.after, both.crm.before = None, looks
        raise lost()

    both.crm.after = lost_and_down
    both.run(delta=True)
    both.crm.before = None
    both.run(delta=True)
    both.run(delta=True)

    told = [one for one in steps_of_updates(both) if one[0] == "done"]
    assert told == [("done", "Last1", "Half Done"), ("done", "Half Done", "Half-Done")]
    assert both.run().row_count == 0


def test_what_somebody_else_did_is_not_told_as_ours(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    key = key_of(both, "p0001")

    def by_hand(operation: str, _: str) -> None:
        if operation == "get":
            both.crm.objects[key]["familyName"] = "By hand"

    both.crm.before = by_hand
    both.run(delta=True)

    assert steps_of_updates(both) == [("stale", "Last1", "New")]


def test_three_losses_in_a_row_stop_the_target_until_the_next_run(world: World) -> None:
    world.hire_many(8)
    world.crm.before = Trouble("create", lost)

    report = world.run()

    assert world.crm.before.met == ["p0000", "p0001", "p0002"]
    assert report.exports[0].error_code == "connection-lost"
    assert report.exports[0].left == 8
    world.crm.before = None
    assert world.run().exports[0].done == {"create": 8}
    assert len(world.accounts()) == 8


def test_losses_that_are_not_in_a_row_do_not(world: World) -> None:
    world.hire_many(8)
    world.crm.before = Trouble("create", lost, keys=["p0000", "p0002", "p0004", "p0006"])

    report = world.run()

    assert report.exports[0].error_code == ""
    assert report.exports[0].done == {"create": 4}


# -- what a target refuses ---------------------------------------------------------


def test_a_refused_person_is_parked_with_the_words_of_the_server_and_the_rest_goes_on(both: World) -> None:
    both.hire_many(5)
    trouble = Trouble("create", refused, keys=["p0002"])
    both.crm.before = trouble

    report = both.run()

    assert report.state == "problems"
    assert report.exports[0].parked == 1
    assert [one.message for one in report.issues] == ["422 familyName: no digits, please"]
    assert set(both.accounts()) == {"p0000", "p0001", "p0003", "p0004"}
    assert "no digits, please" in errors_of(both, "p0002")[1]
    rows = both.engine.rows(both.plan().run_id, limit=5, person="p0002")
    assert "no digits, please" in rows[0].note

    both.run(delta=True)
    assert len(trouble.met) == 1, "a delta run leaves it alone"
    both.run()
    assert len(trouble.met) == 2, "a full run tries once more"
    both.crm.before = None
    both.run()
    assert "p0002" in both.accounts()


def test_a_dropped_plan_takes_the_release_of_its_parked_rows_with_it(both: World) -> None:
    both.hire_many(3)
    both.crm.before = Trouble("create", refused, keys=["p0001"])
    both.run()
    released = select(account.c.released.is_not(None)).where(account.c.status == "parked")
    with both.database.read() as connection:
        assert connection.scalar(released)

    both.engine.drop(both.plan().run_id, connectors=())

    with both.database.read() as connection:
        assert not connection.scalar(released)


def test_a_parked_row_that_changes_is_tried_afresh(both: World) -> None:
    both.hire_many(3)
    both.crm.before = Trouble("create", refused, keys=["p0001"], times=1)
    both.run()
    both.change("p0001", last="Better")

    report = both.run(delta=True)

    assert report.exports[0].done == {"create": 1}
    assert both.accounts()["p0001"]["familyName"] == "Better"


def test_an_account_that_exists_without_our_number_is_not_touched(world: World) -> None:
    """The server says 409 for another attribute than the one that we find people by."""
    world.hire_many(2)
    world.crm.before = Trouble("create", lambda: ObjectExists("409 userName is taken"), keys=["p0001"])

    report = world.run()

    assert ("crm", "p0001", "object-exists") in issues(report)
    assert report.exports[0].parked == 1
    assert set(world.accounts()) == {"p0000"}


def test_an_account_that_somebody_made_meanwhile_is_looked_at_before_it_is_changed(both: World) -> None:
    both.hire_many(2)

    def made_by_hand(operation: str, key: str) -> None:
        if operation == "create" and key == "p0001":
            both.crm.before = None
            both.crm.add({"externalId": "p0001", "userName": "by-hand", "note": "mine"})
            raise ObjectExists("409 externalId is taken")

    both.crm.before = made_by_hand

    report = both.run()

    assert report.exports[0].stale == 1
    assert both.accounts()["p0001"] == {"externalId": "p0001", "userName": "by-hand", "note": "mine"}
    both.run()
    assert both.accounts()["p0001"]["familyName"] == "Last1"
    assert len(both.crm.objects) == 2


def test_a_create_that_was_answered_is_not_lost_because_the_look_after_it_was(both: World) -> None:
    both.hire_many(2)

    def made_by_hand(operation: str, key: str) -> None:
        if operation == "create" and key == "p0001":
            both.crm.add({"externalId": "p0001", "userName": "by-hand", "note": "mine"})
            both.crm.before = Trouble("lookup", lost)
            raise ObjectExists("409 externalId is taken")

    both.crm.before = made_by_hand

    report = both.run()

    assert ("crm", "p0001", "object-exists") in issues(report)
    both.crm.before = None
    both.run(delta=True)
    assert both.accounts()["p0001"] == {"externalId": "p0001", "userName": "by-hand", "note": "mine"}


def test_a_target_that_cannot_be_reached_gets_its_rows_by_the_next_run_without_new_approval(both: World) -> None:
    both.hire_many(10)
    both.run()
    both.apply(lambda text: text.replace('givenName: "[givenName]"', 'givenName: "ToUpper([givenName])"'))
    held = both.run()
    both.approve(held.run_id)
    both.crm.before = Trouble("get", lambda: Unreachable("no route to host"))

    report = both.run()

    assert report.exports[0].error_code == "unreachable"
    assert report.exports[0].left == 10
    assert report.exports[0].parked == 0
    both.crm.before = None
    again = both.run()
    assert target(again).state == "released"
    assert again.exports[0].done == {"update": 10}


@pytest.mark.parametrize(
    "error",
    [
        lambda: Throttled("429, come back in an hour", retry_after=3600),
        lambda: CredentialRefused("401 who are you?"),
        lambda: Unreachable("connection refused"),
    ],
    ids=["throttled", "credential refused", "unreachable"],
)
def test_what_concerns_the_whole_target_ends_its_export_in_words(
    world: World, error: Callable[[], ConnectorError]
) -> None:
    world.hire_many(6)
    world.crm.before = Trouble("create", error, keys=["p0002"])

    report = world.run()

    assert report.state == "problems"
    assert (report.exports[0].error_code, report.exports[0].error) == (error().code, str(error()))
    assert (report.exports[0].done, report.exports[0].left) == ({"create": 2}, 4)
    world.crm.before = None
    assert world.run(delta=True).exports[0].done == {"create": 4}
    assert operations(world.crm) == ["create"] * 6


def test_throttled_for_a_moment_is_waited_for(world: World) -> None:
    world.hire_many(3)
    world.crm.before = Trouble("create", lambda: Throttled("429", retry_after=0.05), times=2)

    assert world.run().exports[0].done == {"create": 3}


def test_one_target_that_holds_still_does_not_hold_the_other(both: World) -> None:
    both.directories["erp"] = erp = Directory()
    both.text = second_target(both.text)
    both.apply(release=True)
    both.hire_many(5)
    release = threading.Event()
    reached = threading.Event()

    def holds_still(operation: str, _: str) -> None:
        if operation == "create":
            reached.set()
            assert release.wait(30)

    both.crm.before = holds_still
    slow: list[RunReport] = []
    running = threading.Thread(target=lambda: slow.append(both.run()))
    running.start()
    try:
        assert reached.wait(30)
        deadline = threading.Event()
        for _ in range(300):
            if len(erp.objects) == 5:
                break
            deadline.wait(0.1)
        assert len(erp.objects) == 5, "the same run has written to the other target"
        both.hire("p9999")
        both._lease = 1.0  # how long it waits for the other
        other = both.another_engine().run(delta=True, connectors=["hr"], progress=lambda *_: None)
    finally:
        release.set()
        running.join()

    assert "p9999" in {one["externalId"] for one in erp.objects.values()}, "and so has another run"
    crm = next(one for one in other.exports if one.connector == "crm")
    assert crm.error_code == "busy"
    assert slow[0].exports[0].error_code == ""
    both.run()
    assert "p9999" in both.accounts()


def second_target(text: str) -> str:
    """The same projection once more, to a directory `erp`."""
    block = text[text.index("    - name: people-in-crm") :].split("\nlimits:", maxsplit=1)[0]
    copy = block.replace("people-in-crm", "people-in-erp").replace("connector: crm", "connector: erp")
    known = "  crm: {type: memory, base: crm, objects: {user: {}}}\n"
    assert known in text
    return text.replace(known, known + "  erp: {type: memory, base: erp, objects: {user: {}}}\n") + copy


# -- accounts that are not what they were ------------------------------------------


def test_an_account_changed_between_plan_and_export_is_left_alone_and_planned_anew(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    planned = both.plan()
    both.crm.objects[key_of(both, "p0001")]["familyName"] = "Edited"

    report = both.release(planned.run_id)

    assert report.exports[0].stale == 1
    assert ("crm", "p0001", "object-changed") in issues(report)
    assert both.accounts()["p0001"]["familyName"] == "Edited"
    again = both.run()
    assert again.exports[0].done == {"update": 1}
    assert both.accounts()["p0001"]["familyName"] == "New"


def test_an_account_gone_between_plan_and_export_is_planned_anew(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="New")
    planned = both.plan()
    both.crm.objects.pop(key_of(both, "p0001"))

    report = both.release(planned.run_id)

    assert report.exports[0].stale == 1
    assert ("crm", "p0001", "object-missing") in issues(report)
    both.run()
    assert both.accounts()["p0001"]["familyName"] == "New"


def test_two_accounts_of_one_person_are_not_touched_until_one_is_left(both: World) -> None:
    both.crm.objects["one"] = {"externalId": "p0001", "userName": "one"}
    both.crm.objects["two"] = {"externalId": "p0001", "userName": "two"}
    both.hire_many(3)

    report = both.run()

    assert ("crm", "p0001", "account-ambiguous") in issues(report)
    assert "2 accounts there carry the correlate value" in errors_of(both, "p0001")[1]
    both.run()
    assert both.crm.objects["one"] == {"externalId": "p0001", "userName": "one"}
    assert both.crm.objects["two"] == {"externalId": "p0001", "userName": "two"}
    assert len(both.crm.objects) == 4
    del both.crm.objects["two"]
    both.run()
    both.run()
    assert both.accounts()["p0001"]["familyName"] == "Last1"
    assert key_of(both, "p0001") == "one"


def test_two_accounts_found_after_a_lost_answer_are_not_touched(both: World) -> None:
    """Only the lookup sees them: no run has read the target since."""
    both.hire_many(2)
    both.crm.after = Trouble("create", lost, times=1)
    both.run()
    both.crm.add({"externalId": "p0000", "userName": "second"})

    for _ in range(2):
        report = both.run(connectors=["hr"])
        assert "2 accounts carry externalId" in report.issues[0].message

    assert operations(both.crm).count("create") == 2, "and no third one is made"
    both.crm.objects.popitem()
    both.run()
    assert set(both.accounts()) == {"p0000", "p0001"}


def test_a_person_who_changes_while_the_change_is_sent_gets_both_changes_in_order(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="First")

    def another_run(operation: str, _: str) -> None:
        if operation == "update":
            both.crm.before = None
            both.change("p0001", last="Second")
            engine = both.another_engine()
            engine.plan(delta=True, connectors=["hr"], progress=lambda *_: None)

    both.crm.before = another_run

    both.run()

    assert both.accounts()["p0001"]["familyName"] == "First"
    report = both.run()
    assert report.row_count == 1
    assert both.accounts()["p0001"]["familyName"] == "Second"
    assert operations(both.crm).count("update") == 2


def test_a_person_who_changes_while_a_create_is_lost_still_gets_one_account(both: World) -> None:
    both.hire_many(1)

    def lost_meanwhile(operation: str, _: str) -> None:
        if operation == "create":
            both.crm.after = None
            both.change("p0000", last="Second")
            both.another_engine().plan(delta=True, connectors=["hr"], progress=lambda *_: None)
            raise lost()

    both.crm.after = lost_meanwhile
    both.run()

    both.run(delta=True)

    assert operations(both.crm).count("create") == 1
    assert len(both.crm.objects) == 1
    both.run()
    assert both.accounts()["p0000"]["familyName"] == "Second"


def test_approval_is_used_up_when_it_was_carried_out(both: World) -> None:
    """The same change, once more: nobody has approved that."""
    both.apply(
        lambda text: (
            text.replace("create: true}", "create: true, present_when: '[status] != \"gone\"'}")
            + "\nlimits:\n  default: {disable: {count: 1}, update: {percent: 100}}\n"
        ),
        release=True,
    )
    both.hire_many(5)
    both.run()
    for person in list(both.hr.objects)[:3]:
        both.change(person, status="gone")
    held = both.run()
    assert target(held).state == "held"
    both.approve(held.run_id)
    both.run()
    assert sum(one["active"] is False for one in both.accounts().values()) == 3
    for person in both.hr.objects:
        both.change(person, status="active")
    both.run()
    assert all(one["active"] for one in both.accounts().values())
    for person in list(both.hr.objects)[:3]:
        both.change(person, status="gone")

    report = both.run()

    assert target(report).state == "held"
    assert all(one["active"] for one in both.accounts().values())


# -- rules that fail ---------------------------------------------------------------


FAILS_WITHOUT_A_DATE = 'FormatDate([department], "yyyy")'


def test_a_projection_that_fails_keeps_the_last_decision_for_that_person(both: World) -> None:
    both.apply(
        lambda text: text.replace('department: "[department]"', f"department: '{FAILS_WITHOUT_A_DATE}'"), release=True
    )
    both.hire_many(4)
    for person in both.hr.objects:
        both.change(person, department="2026-11-22")
    both.run()
    assert both.accounts()["p0001"]["department"] == "2026"
    both.change("p0000", last="Moved")
    both.change("p0001", last="Moved", department="no date")

    report = both.run()

    assert ("crm", "p0001", "rule-failed") in issues(report)
    assert report.state == "problems"
    assert both.accounts()["p0000"]["familyName"] == "Moved"
    assert both.accounts()["p0001"]["familyName"] == "Last1", "what was decided last stands"
    both.change("p0001", department="2027-01-01")
    both.run()
    assert (both.accounts()["p0001"]["department"], both.accounts()["p0001"]["familyName"]) == ("2027", "Moved")


def test_a_flow_that_fails_keeps_the_last_value(both: World) -> None:
    both.apply(lambda text: text.replace('value: "[department]"', f"value: '{FAILS_WITHOUT_A_DATE}'"), release=True)
    both.hire_many(4)
    for person in both.hr.objects:
        both.change(person, department="2026-11-22")
    both.run()
    both.change("p0001", last="Moved", department="no date")

    report = both.run()

    assert ("hr", "p0001", "rule-failed") in issues(report)
    assert both.accounts()["p0001"]["familyName"] == "Moved", "other values go on"
    assert both.accounts()["p0001"]["department"] == "2026", "what was decided last stands"
    both.change("p0001", department=None)
    both.run()
    assert "department" not in both.accounts()["p0001"], "absent is no failure"


def test_a_flow_that_fails_lets_a_better_rule_win(world: World) -> None:
    better = (
        "    - {name: hr-better, connector: hr, object: user, target: department,"
        ' value: "[better]", confidence: 95}\n  project:'
    )
    world.apply(
        lambda text: text.replace('value: "[department]"', f"value: '{FAILS_WITHOUT_A_DATE}'").replace(
            "  project:", better
        ),
        release=True,
    )
    world.hire("p0001", department="2026-11-22")
    world.run()
    world.change("p0001", department="no date", better="Sales")

    world.run()

    assert world.accounts()["p0001"]["department"] == "Sales"


def test_present_when_that_fails_makes_nobody_leave_or_come(both: World) -> None:
    both.apply(
        lambda text: text.replace(
            "create: true}", f"create: true, present_when: '{FAILS_WITHOUT_A_DATE} == \"2026\"'}}"
        ),
        release=True,
    )
    both.hire_many(3)
    for person in both.hr.objects:
        both.change(person, department="2026-11-22")
    both.run()
    both.change("p0001", department="no date")
    both.hire("p0007", department="no date")

    report = both.run()

    assert {("hr", "p0001", "rule-failed"), ("hr", "p0007", "rule-failed")} <= issues(report)
    assert report.people["left"] == 0
    assert set(both.accounts()) == {"p0000", "p0001", "p0002"}
    assert both.accounts()["p0001"]["active"] is True


# -- joining -----------------------------------------------------------------------


def with_source(text: str, *joins: str, flows: Sequence[str] = ()) -> str:
    """One more source, `badge`, with these join rules; it gives `phone`."""
    known = "  crm: {type: memory, base: crm, objects: {user: {}}}\n"
    rules = "".join(f"    - {{connector: badge, object: user, {one}}}\n" for one in joins)
    given = flows or ['name: badge-phone, target: phone, value: "[phone]", confidence: 95']
    flow = "".join(f"    - {{connector: badge, object: user, {one}}}\n" for one in given)
    return (
        text.replace(known, known + "  badge: {type: memory, base: badge, objects: {user: {}}}\n")
        .replace("  flow:\n", rules + "  flow:\n")
        .replace("  project:\n", flow + "  project:\n")
    )


BY_MAIL = "name: badge-by-mail, source: mail, target: mail"


@pytest.fixture
def badges(both: World) -> Directory:
    """A second source that only joins, by mail address."""
    both.directories["badge"] = badge = Directory()
    both.apply(lambda text: with_source(text, BY_MAIL), release=True)
    return badge


def test_an_object_that_fits_two_people_is_joined_to_neither(both: World, badges: Directory) -> None:
    both.hire("p1", "Ann", "Lee")
    both.hire("p2", "Ann", "Lee")
    badges.objects["b1"] = {"mail": "ann.lee@example.org", "phone": "+1"}

    report = both.run()

    assert ("badge", "b1", "ambiguous") in issues(report)
    assert set(both.accounts()) == {"p1", "p2"}, "the run goes on"
    assert all("phone" not in account for account in both.accounts().values())
    both.change("p2", last="Low")
    both.run()
    assert both.accounts()["p1"]["phone"] == "+1", "one of them is called otherwise now"
    assert "phone" not in both.accounts()["p2"]


def test_an_object_waits_for_its_person_over_pages_runs_and_connectors(both: World, badges: Directory) -> None:
    badges.objects["b1"] = {"mail": "first19.last19@example.org", "phone": "+19"}
    badges.objects["b2"] = {"mail": "later.comer@example.org", "phone": "+2"}
    both.hire_many(20)

    both.run()

    assert both.accounts()["p0019"]["phone"] == "+19", "whoever is read first"
    both.hire("p9", "Later", "Comer")
    report = both.run(delta=True, connectors=["hr"])
    assert [one.connector for one in report.imports] == ["hr"], "the badge itself was not read again"
    assert both.accounts()["p9"]["phone"] == "+2"


def test_an_object_waits_for_somebody_who_is_known_and_changes(both: World, badges: Directory) -> None:
    both.hire("p1", "Ann", "Lee")
    badges.objects["b1"] = {"mail": "ann.low@example.org", "phone": "+1"}
    both.run()
    both.change("p1", last="Low")

    both.run(delta=True, connectors=["hr"])

    assert both.accounts()["p1"]["phone"] == "+1"


def test_an_object_waits_with_every_value_that_it_has(both: World, badges: Directory) -> None:
    for mails in (["a.b@example.org", "later.comer@example.org"], ["later.comer@example.org", "a.b@example.org"]):
        badges.objects[f"b{len(badges.objects)}"] = {"mail": list(mails), "phone": f"+{len(badges.objects)}"}
    both.run()
    both.hire("p9", "Later", "Comer")

    both.run(delta=True, connectors=["hr"])

    joined = {one.key for one in both.engine.explain("p9").objects if one.connector == "badge"}
    assert joined == {"b0", "b1"}


def test_the_first_rule_that_finds_somebody_wins(both: World) -> None:
    both.directories["badge"] = badge = Directory()
    both.apply(
        lambda text: with_source(text, "name: badge-by-id, source: number, target: employeeId", BY_MAIL), release=True
    )
    both.hire("p1", "Ann", "Lee")
    both.hire("p2", "Ben", "Low")
    badge.objects["b1"] = {"number": "p1", "mail": "ben.low@example.org", "phone": "+1"}

    both.run()

    assert both.accounts()["p1"]["phone"] == "+1"
    joined = {one.connector: one.joined_by for one in both.engine.explain("p1").objects}
    assert joined["badge"] == "badge-by-id"


def test_a_source_that_creates_makes_no_second_person_with_the_same_anchor(both: World) -> None:
    """Its join attribute says nobody, its anchor says somebody."""
    both.directories["badge"] = badge = Directory()
    both.apply(
        lambda text: with_source(
            text,
            "name: badge-by-mail, source: mail, target: mail, create: true",
            flows=['name: badge-id, target: employeeId, value: "[number]", confidence: 50'],
        ),
        release=True,
    )
    both.hire("p1", "Ann", "Lee")
    badge.objects["b1"] = {"number": "p1", "mail": "somebody@example.org"}
    badge.objects["b2"] = {"mail": "nobody@example.org"}
    badge.objects["b3"] = {"number": "p3", "mail": "p3@example.org"}

    report = both.run()

    assert {("badge", "b1", "anchor-taken"), ("badge", "b2", "no-anchor")} <= issues(report)
    assert report.people["created"] == 2
    assert both.engine.explain("p3").present


def test_a_person_of_two_sources_leaves_when_both_are_gone(both: World) -> None:
    both.directories["badge"] = badge = Directory()
    both.apply(
        lambda text: with_source(
            text,
            "name: badge-by-id, source: number, target: employeeId, create: true",
            flows=['name: badge-id, target: employeeId, value: "[number]", confidence: 50'],
        ),
        release=True,
    )
    both.hire_many(5)
    badge.objects["b1"] = {"number": "p0001"}
    both.run()
    both.fire("p0001")
    assert both.run().people["left"] == 0
    badge.objects.clear()

    report = both.run()

    assert report.people["left"] == 1
    assert both.accounts()["p0001"]["active"] is False


def test_an_account_that_a_join_rule_finds_is_taken_over(both: World) -> None:
    """It carries no correlate value of ours; it is found by its mail address."""
    both.apply(
        lambda text: text.replace(
            "  flow:\n",
            "    - {name: crm-by-mail, connector: crm, object: user, source: userName, target: mail}\n  flow:\n",
        ),
        release=True,
    )
    both.crm.objects["old"] = {"userName": "ann.lee@example.org"}
    both.hire("p1", "Ann", "Lee")
    both.hire("p2", "Ben", "Low")

    both.run()
    both.run()

    assert len(both.crm.objects) == 2
    assert both.crm.objects["old"]["externalId"] == "p1"
    assert errors_of(both, "p1")[0] == "old"


def test_a_key_that_comes_twice_is_reported_and_counts_as_present(both: World) -> None:
    both.hire_many(20)
    both.run()
    twice = both.hr

    class Twice(dict[str, Attributes]):
        def items(self) -> Any:
            return [*super().items(), ("p0003", {"id": "p0003", "last": "Other"})]

    twice.objects = Twice(twice.objects)
    both.change("p0001", last="Moved")

    report = both.run()

    assert ("hr", "p0003", "bad-object") in issues(report)
    assert any("duplicate key" in one.message for one in report.issues)
    assert both.accounts()["p0003"]["familyName"] == "Last3"
    assert both.accounts()["p0001"]["familyName"] == "Moved"
    assert report.people["left"] == 0


def test_values_too_long_to_be_indexed_are_values_still(both: World, badges: Directory) -> None:
    """As join key, anchor, correlate value or key they find nobody, and end no run."""
    chance = random.Random(7)  # noqa: S311  no secret
    noise = "".join(chance.choices(string.ascii_lowercase + string.digits, k=9000))
    long_key = "".join(chr(0x20000 + chance.randrange(40_000)) for _ in range(MAX_KEY))  # four bytes each
    both.hire("p1", "Ann", "Lee", department=noise)
    both.hire(noise[:1000], "Long", "Key")
    both.hire("p3", noise, "Long")
    badges.objects["b1"] = {"mail": noise, "phone": "+1"}
    badges.objects[long_key] = {"mail": "ann.lee@example.org", "phone": "+2"}
    both.crm.add({"externalId": noise, "userName": "theirs"})

    report = both.run()

    assert report.error_code == ""
    assert any("its key has 4,096 bytes" in one.message for one in report.issues)
    assert both.accounts()["p1"]["department"] == noise
    assert both.accounts()["p3"]["givenName"] == noise


def test_the_lease_of_a_run_goes_with_the_run(both: World) -> None:
    both.hire("p1")
    for _ in range(2):
        both.run()
    with both.database.read() as connection:
        names = list(connection.scalars(select(lease.c.name)))

    assert [name for name in names if name.startswith("run:")] == []


def test_a_run_that_fails_at_one_target_tells_what_was_done_at_the_other(
    both: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.directories["erp"] = erp = Directory()
    both.text = second_target(both.text)
    both.apply(release=True)
    both.hire_many(2)
    record = SqlExports.record

    def fails(exports: Any, results: Sequence[Result], *given: Any) -> None:
        if results and results[0].place[1] == "crm":
            raise DatabaseLocked("not now")
        record(exports, results, *given)

    monkeypatch.setattr(SqlExports, "record", fails)
    with pytest.raises(DatabaseLocked):
        both.run()

    assert len(erp.objects) == 2
    failed = both.engine.runs(1)[0]
    assert [(one.connector, one.done) for one in failed.exports] == [("erp", {"create": 2})]
