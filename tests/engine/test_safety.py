"""Nobody is removed because a source was empty, cut short or wrongly filtered; a person decides what is large."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from identitymesh.connectors.contract import BadEntry
from identitymesh.errors import DefinitionOutdated, NotFound, UsageError
from identitymesh.redaction import MASKED

from .world import World, silent, target

PROJECTION_CHANGE = ('givenName: "[givenName]"', 'givenName: "ToUpper([givenName])"')


def disabled(world: World) -> set[object]:
    return {person for person, account in world.accounts().items() if account["active"] is False}


# -- absence -----------------------------------------------------------------------


def test_an_emptied_source_removes_nobody(both: World) -> None:
    both.hire_many(50)
    both.run()
    both.hr.objects.clear()

    report = both.run()

    assert report.imports[0].held_absences == 50
    assert report.state == "held"
    assert disabled(both) == set()


def test_eleven_percent_missing_are_held_while_other_changes_go_on(both: World) -> None:
    both.hire_many(100)
    both.run()
    both.fire(*[f"p{number:04}" for number in range(11)])
    both.change("p0050", last="Moved")
    both.hire("p9999")

    report = both.run()

    assert report.imports[0].held_absences == 11
    assert "11 of 100" in report.imports[0].held_reason
    assert disabled(both) == set()
    assert both.accounts()["p0050"]["familyName"] == "Moved"
    assert "p9999" in both.accounts()


def test_ten_percent_are_ordinary_leavers(world: World) -> None:
    world.hire_many(30)
    world.run()
    world.fire("p0000", "p0001", "p0002")

    world.run()  # 3 disables of 30 are more than 2 %: the limits hold, not the import
    assert disabled(world) == set()
    world.approve(world.engine.runs(1)[0].run_id)
    world.run()

    assert disabled(world) == {"p0000", "p0001", "p0002"}


def test_eight_of_nine_is_an_ordinary_leaver(both: World) -> None:
    both.hire_many(9)
    both.run()
    both.fire("p0004")

    both.run()

    assert disabled(both) == {"p0004"}


def test_held_absences_stay_held_until_somebody_approves(world: World) -> None:
    world.hire_many(100)
    world.run()
    world.fire(*[f"p{number:04}" for number in range(20)])
    first = world.run()
    world.hire_many(400, start=1000)  # now 20 are less than 10 %
    world.run()
    world.run()
    assert disabled(world) == set()

    decision = world.engine.approve(first.run_id, connectors=())
    assert decision.absences == 20
    report = world.run()
    assert report.people["left"] == 20
    world.approve(report.run_id)
    world.run()

    assert len(disabled(world)) == 20


def test_a_rule_change_does_not_forget_what_is_held(world: World) -> None:
    world.hire_many(100)
    world.run()
    world.fire(*[f"p{number:04}" for number in range(20)])
    world.run()
    world.hire_many(400, start=1000)
    world.run()
    world.apply(lambda text: text.replace("hr-by-id", "hr-by-another-name"), release=True)  # every link is made anew

    report = world.run()

    assert report.imports[0].held_absences == 20
    assert disabled(world) == set()


def test_who_is_seen_again_is_not_held_any_more(world: World) -> None:
    world.hire_many(100)
    world.run()
    gone = world.fire(*[f"p{number:04}" for number in range(20)])
    held = world.run()
    world.hr.objects.update(gone)

    report = world.run()

    assert report.imports[0].held_absences == 0
    assert world.engine.approve(held.run_id, connectors=()).absences == 0


def test_a_row_without_a_key_holds_absences(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.fire("p0003")
    world.hr.bad.append(BadEntry("no key", position="row 7"))

    report = world.run()

    assert disabled(world) == set()
    assert report.imports[0].held_absences == 1
    assert "no readable key" in report.imports[0].held_reason
    assert any(issue.code == "bad-object" and "row 7" in issue.message for issue in report.issues)


def test_a_bad_row_whose_key_is_read_counts_as_present(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.fire("p0003")
    world.hr.bad.append(BadEntry("a value is too large", key="p0003"))

    world.run()

    assert disabled(world) == set()


def test_another_scope_holds_absences(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.directories["hr"] = world.hr
    world.fire("p0003")
    world.apply(lambda text: text.replace("base: hr,", "base: hr/sales,"), release=True)

    report = world.run()

    assert report.imports[0].held_absences == 1
    assert "has changed" in report.imports[0].held_reason
    assert disabled(world) == set()
    assert world.run().imports[0].held_absences == 1, "still held by the next run, whose scope is not new any more"


def test_a_read_without_proof_believes_no_absence_and_releases_nothing(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.fire("p0003")
    world.hire("p9999")
    world.hr.proves = False

    report = world.run()

    assert report.imports[0].error_code == "import-incomplete"
    assert target(report).state == "incomplete"
    assert disabled(world) == set()
    assert "p9999" not in world.accounts()
    with pytest.raises(UsageError, match="never released"):
        world.engine.approve(report.run_id, connectors=())
    world.hr.proves = True
    world.run()
    assert "p9999" in world.accounts()
    assert disabled(world) == {"p0003"}


def test_a_connection_lost_half_way_repairs_itself(both: World) -> None:
    both.hire_many(50)
    both.run()
    both.fire("p0049")
    both.change("p0001", last="Changed")
    both.hr.lose_connection_after = 2

    report = both.run()

    assert report.state == "problems"
    assert report.imports[0].error_code == "connection-lost"
    assert disabled(both) == set()
    both.run()
    assert disabled(both) == {"p0049"}
    assert both.accounts()["p0001"]["familyName"] == "Changed"


# -- limits ------------------------------------------------------------------------


def test_the_first_creates_are_not_held_and_not_counted(world: World) -> None:
    world.hire_many(200)
    assert world.run().state == "done"
    world.hire_many(20, start=500)

    report = world.run()

    assert target(report).state == "released", target(report).reasons
    assert len(world.accounts()) == 220


def test_many_creates_into_a_target_that_has_accounts_are_held(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.hire_many(11, start=500)

    report = world.run()

    assert target(report).state == "held"
    assert target(report).reasons == ("11 creates, more than 50 % of 20 linked objects",)
    assert len(world.accounts()) == 20


def test_what_went_out_in_24_hours_counts_and_is_forgotten_then(world: World) -> None:
    world.hire_many(100)
    world.run()
    world.fire("p0000", "p0001")
    assert target(world.run()).state == "released"
    world.fire("p0002")

    report = world.run()

    assert target(report).reasons == ("3 disables (with 2 in the last 24 hours), more than 2 % of 100 linked objects",)
    world.ahead = timedelta(hours=25)
    assert target(world.run()).state == "released"


def test_limits_of_a_target_override_key_by_key(world: World) -> None:
    limits = "\nlimits:\n  default: {disable: {count: 1}}\n  crm: {disable: {percent: 90}}\n"
    world.apply(lambda text: text + limits, release=True)
    world.hire_many(20)
    world.run()
    world.fire("p0000", "p0001")

    report = world.run()

    assert target(report).reasons == ("2 disables, more than 1",)


# -- holds and approval ------------------------------------------------------------


def test_a_rule_change_reaches_every_account_after_approval(both: World) -> None:
    both.hire_many(30)
    both.run()
    applied = both.apply(lambda text: text.replace(*PROJECTION_CHANGE))
    assert applied.waiting == {"crm": "its projection changed"}

    held = both.run()

    assert target(held).state == "held"
    assert both.accounts()["p0001"]["givenName"] == "First1"
    both.approve(held.run_id)
    assert both.engine.show(held.run_id).state == "done", "nothing of it waits any more"
    both.run()
    assert {account["givenName"] for account in both.accounts().values()} == {f"FIRST{n}" for n in range(30)}


def test_apply_release_does_not_wait(world: World) -> None:
    world.hire_many(3)
    world.run()
    world.apply(lambda text: text.replace(*PROJECTION_CHANGE), release=True)

    world.engine.approve(world.plan().run_id, connectors=())  # 3 of 3 updates are a matter of the limits
    world.run()

    assert world.accounts()["p0001"]["givenName"] == "FIRST1"


def test_a_held_plan_can_be_approved_after_ten_newer_ones(both: World) -> None:
    both.hire_many(30)
    both.run()
    both.apply(lambda text: text.replace(*PROJECTION_CHANGE))
    held = both.run()
    for _ in range(10):
        both.run()

    both.approve(held.run_id)
    both.run()

    assert both.accounts()["p0001"]["givenName"] == "FIRST1"


def test_approval_covers_exactly_those_rows(both: World) -> None:
    both.hire_many(30)
    both.run()
    both.apply(lambda text: text.replace(*PROJECTION_CHANGE))
    held = both.run()
    both.change("p0001", last="Later")

    decision = both.engine.approve(held.run_id, connectors=["crm"])
    both.run()

    assert decision.rows == 30, "the account still said the same when it was approved"
    assert both.accounts()["p0000"]["givenName"] == "FIRST0"
    assert both.accounts()["p0001"]["familyName"] == "Later", "one more update is within the limits"


def test_rows_that_changed_since_the_plan_are_judged_again(world: World) -> None:
    world.hire_many(30)
    world.run()
    world.apply(lambda text: text.replace(*PROJECTION_CHANGE))
    held = world.run()
    for number in range(20):
        world.change(f"p{number:04}", last="Later")
    world.plan()

    decision = world.engine.approve(held.run_id, connectors=())
    report = world.run()

    assert (decision.rows, decision.superseded) == (10, 20)
    assert target(report).state == "held", "20 of 30 are more than 30 %"
    assert report.exports[0].done == {"update": 10}, "what was approved goes out"


def test_a_dropped_plan_is_not_written(world: World) -> None:
    world.hire_many(30)
    world.run()
    world.apply(lambda text: text.replace(*PROJECTION_CHANGE))
    held = world.run()

    world.engine.drop(held.run_id, connectors=())

    assert target(world.engine.show(held.run_id)).state == "dropped"
    assert target(world.run()).state == "held", "the rules still want it, so the next plan asks again"
    assert world.accounts()["p0001"]["givenName"] == "First1"


def test_run_plan_id_writes_exactly_that_plan(both: World) -> None:
    both.hire_many(3)
    planned = both.plan()
    both.hire("p9999")
    both.plan()

    report = both.release(planned.run_id)

    assert report.state == "done"
    assert list(report.notes) == [f"this writes plan {planned.run_id}"]
    assert set(both.accounts()) == {"p0000", "p0001", "p0002"}


def test_unknown_plans_and_targets(world: World) -> None:
    world.hire("p1")
    run = world.run()
    with pytest.raises(NotFound, match="run 99 made no plan"):
        world.engine.approve(99, connectors=())
    with pytest.raises(UsageError, match="no target erp"):
        world.engine.approve(run.run_id, connectors=["erp"])


# -- definitions -------------------------------------------------------------------


def test_a_file_that_started_from_an_older_version_is_refused(world: World) -> None:
    text = world.text
    world.engine.apply(
        text.replace("Trim([first])", "[first]"),
        source="elsewhere.yaml",
        base=1,
        replace=False,
        release=False,
        allow_audience=(),
    )
    world.text = text.replace("Trim([last])", "[last]")

    with pytest.raises(DefinitionOutdated, match=r"started from version 1, but version 2 of tester is in force"):
        world.apply()

    assert world.apply(replace=True).version == 3


def test_the_same_file_again_is_no_new_version(world: World) -> None:
    assert world.apply().unchanged


def test_a_preview_changes_nothing_and_says_what_a_run_would_do(both: World) -> None:
    both.hire_many(10)
    both.run()
    text = both.text.replace(*PROJECTION_CHANGE)

    report, rows = both.engine.preview(text, source="new.yaml", progress=lambda *_: None)

    assert target(report).counts == {"update": 10}
    assert len(rows) == 10
    assert both.engine.definition() == (1, both.text)
    assert both.run().row_count == 0
    assert not list(both.folder.glob(".preview-*"))


def test_a_renamed_rule_keeps_its_links(world: World) -> None:
    world.hire_many(3)
    world.run()
    world.apply(
        lambda text: text.replace("{name: hr-by-id,", "{name: hr-number, renamed_from: hr-by-id,"), release=True
    )

    report = world.run()

    assert report.people == {"created": 0, "changed": 0, "left": 0, "returned": 0}
    assert world.engine.explain("p0001").objects[0].joined_by == "hr-number"


def test_restricted_values_are_masked_in_plans_unless_asked_for(world: World) -> None:
    world.apply(
        lambda text: text.replace(
            "{name: department, type: string}", "{name: department, type: string, sensitivity: restricted}"
        ),
        release=True,
    )
    world.hire("p1", department="Witness protection")
    planned = world.plan()

    (row,) = world.engine.rows(planned.run_id, limit=10, person="p1")
    (shown,) = world.engine.rows(planned.run_id, limit=10, person="p1", restricted=True)

    assert {one.name: one.after for one in row.differences}["department"] == MASKED
    assert {one.name: one.after for one in row.differences}["familyName"] == "Lee"
    assert {one.name: one.after for one in shown.differences}["department"] == "Witness protection"


def test_absences_are_approved_by_the_name_of_their_source(world: World) -> None:
    world.hire_many(20)
    world.run()
    world.hr.objects.clear()
    held = world.run()

    assert world.engine.approve(held.run_id, connectors=["hr"]).absences == 20


def test_a_frozen_person_stays_frozen_when_the_source_renumbers_the_person(world: World) -> None:
    world.hire_many(3)
    world.run()
    world.apply(lambda text: text + '\nfrozen: ["p0001"]\n', release=True)
    world.hr.objects["p0001"]["id"] = "X1"

    report = world.run()

    assert target(report).frozen == 1
    assert "p0001" in world.accounts()


def test_frozen_names_that_fit_nobody_are_told(world: World) -> None:
    world.hire_many(3)
    world.apply(lambda text: text + '\nfrozen: ["p0001", "P0002"]\n', release=True)

    report = world.run()

    assert list(report.notes) == ["`frozen` names 1 that nobody is called: P0002"]


def test_being_renumbered_to_somebody_else_is_told_and_a_swap_is_not(world: World) -> None:
    world.hire_many(4)
    world.run()
    world.hr.objects["p0001"]["id"], world.hr.objects["p0002"]["id"] = "p0002", "p0001"
    swapped = world.run()
    world.hr.objects["p0003"]["id"] = "p0000"

    report = world.run()

    assert not [issue for issue in swapped.issues if issue.code == "anchor-taken"]
    (issue,) = [issue for issue in report.issues if issue.code == "anchor-taken"]
    assert issue.message == "p0003 is called p0000 now, as another person is; correct the source"


def test_copies_of_killed_previews_are_removed(world: World) -> None:
    left = world.folder / ".preview-999999999-x"
    mine = world.folder / f".preview-{os.getpid()}-x"
    left.mkdir()
    mine.mkdir()

    world.engine.preview(world.text, source="mesh.yaml", progress=silent)

    assert not left.exists()
    assert mine.exists(), "its process lives"
