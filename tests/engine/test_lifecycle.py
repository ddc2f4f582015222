"""Joiners, movers, leavers and returners, each step looked at in the target."""

from __future__ import annotations

from .world import World, target


def test_people_flow_to_the_target(both: World) -> None:
    both.hire("p1", " Zoë ", "Ångström", phone=["+1", "+2"])
    both.hire("p2", "Ben", "Low", department="")

    report = both.run()

    assert report.state == "done"
    assert report.people["created"] == 2
    assert both.accounts()["p1"] == {
        "externalId": "p1",
        "userName": "zoë .ångström@example.org".replace("zoë .", " zoë ."),
        "givenName": "Zoë",
        "familyName": "Ångström",
        "active": True,
        "phone": ["+1", "+2"],
    }
    assert both.accounts()["p2"]["department"] == "", "empty is a value, and not absent"


def test_a_second_run_has_nothing_to_do(both: World) -> None:
    both.hire_many(30)
    both.run()
    written = list(both.crm.calls)

    report = both.run()

    assert report.state == "done"
    assert report.row_count == 0
    assert both.crm.calls == written


def test_a_plan_writes_nothing_and_says_what_the_run_does(both: World) -> None:
    both.hire_many(3)

    planned = both.plan()

    assert both.crm.objects == {}
    assert target(planned).counts == {"create": 3}
    done = both.run()
    assert done.exports[0].done == {"create": 3}


def test_a_change_reaches_the_target_as_the_smallest_update(both: World) -> None:
    both.hire("p1")
    both.run()
    both.change("p1", last="New")

    planned = both.plan()

    rows = both.engine.rows(planned.run_id, limit=10, person=None)
    assert [(one.name, one.before, one.after) for one in rows[0].differences] == [
        ("familyName", "Lee", "New"),
        ("userName", "ann.lee@example.org", "ann.new@example.org"),
    ]
    both.run()
    assert both.accounts()["p1"]["familyName"] == "New"


def test_a_value_that_goes_is_cleared_at_the_target(both: World) -> None:
    both.hire("p1", department="Sales")
    both.run()
    both.change("p1", department=None)

    both.run()

    assert "department" not in both.accounts()["p1"]


def test_a_leaver_is_disabled_and_keeps_the_last_values(both: World) -> None:
    both.hire_many(5)
    both.run()
    both.fire("p0003")

    report = both.run()

    assert report.people["left"] == 1
    account = both.accounts()["p0003"]
    assert (account["active"], account["note"], account["familyName"]) == (False, "left", "Last3")


def test_who_returns_gets_the_same_account_and_what_disable_wrote_is_cleared(both: World) -> None:
    both.hire_many(5)
    both.run()
    key = next(key for key, one in both.crm.objects.items() if one["externalId"] == "p0003")
    gone = both.fire("p0003")
    both.run()
    both.hr.objects.update(gone)

    report = both.run()

    assert report.people["returned"] == 1
    assert both.crm.objects[key]["active"] is True
    assert "note" not in both.crm.objects[key]
    assert len(both.crm.objects) == 5


def test_on_leave_delete_and_return_makes_a_new_account(world: World) -> None:
    world.apply(lambda text: text.replace("on_leave: disable", "on_leave: delete"), release=True)
    world.hire_many(5)
    world.run()
    gone = world.fire("p0001")
    world.run()
    assert len(world.crm.objects) == 4
    world.hr.objects.update(gone)

    world.run()

    assert len(world.accounts()) == 5


def test_on_leave_keep_leaves_the_account_alone(world: World) -> None:
    world.apply(lambda text: text.replace("on_leave: disable", "on_leave: keep"), release=True)
    world.hire_many(5)
    world.run()
    world.fire("p0001")

    report = world.run()

    assert report.people["left"] == 1
    assert world.accounts()["p0001"]["active"] is True


def test_out_of_scope_and_back(world: World) -> None:
    world.apply(
        lambda text: text.replace(
            "      on_leave: disable",
            "      when: '[department] == \"IT\"'\n      on_out_of_scope: disable\n      on_leave: delete",
        ),
        release=True,
    )
    world.hire("p1", department="IT")
    world.hire("p2", department="HR")
    world.run()
    assert set(world.accounts()) == {"p1"}
    assert world.engine.explain("p1").not_projected == []
    (reason,) = world.engine.explain("p2").not_projected
    assert reason.endswith("(crm/user): its `when` is false")
    world.change("p1", department="HR")
    world.run()
    assert world.accounts()["p1"]["active"] is False
    world.change("p1", department="IT")

    world.run()

    assert world.accounts()["p1"]["active"] is True


def test_leaving_wins_over_scope(world: World) -> None:
    world.apply(
        lambda text: text.replace(
            "      on_leave: disable",
            "      when: '[department] == \"IT\"'\n      on_out_of_scope: keep\n      on_leave: delete",
        ),
        release=True,
    )
    world.hire("p1", department="IT")
    world.run()
    world.change("p1", department="HR")
    world.fire("p1")

    world.run()

    assert world.crm.objects == {}


def test_present_when_is_leaving_without_a_row_going(world: World) -> None:
    world.apply(
        lambda text: text.replace("create: true}", "create: true, present_when: '[status] != \"gone\"'}"), release=True
    )
    world.hire_many(4)
    world.hire("p9", status="gone")
    world.run()
    assert "p9" not in world.accounts()
    world.change("p0001", status="gone")

    report = world.run()

    assert report.people["left"] == 1
    assert world.accounts()["p0001"]["active"] is False


def test_a_frozen_person_is_skipped(world: World) -> None:
    world.hire_many(3)
    world.run()
    world.apply(lambda text: text + '\nfrozen: ["p0001"]\n', release=True)
    world.change("p0001", last="Other")

    report = world.run()

    assert target(report).frozen == 1
    assert world.accounts()["p0001"]["familyName"] == "Last1"


def test_accounts_that_were_there_before_are_adopted(both: World) -> None:
    both.crm.objects["old"] = {"externalId": "p1", "userName": "old", "active": True, "own": "theirs"}
    both.hire("p1")

    both.run()
    both.engine.approve(both.engine.runs(1)[0].run_id, connectors=())
    both.run()

    assert list(both.crm.objects) == ["old"]
    assert both.crm.objects["old"]["familyName"] == "Lee"
    assert both.crm.objects["old"]["own"] == "theirs", "what is not ours stays"


def test_drift_at_the_target_is_put_right(both: World) -> None:
    both.hire("p1")
    both.run()
    key = next(iter(both.crm.objects))
    both.crm.objects[key]["familyName"] = "Edited"

    both.run()

    assert both.crm.objects[key]["familyName"] == "Lee"


def test_a_target_that_spells_values_its_own_way_is_not_written_for_ever(both: World) -> None:
    both.crm.spelling = lambda attributes: {**attributes, "userName": str(attributes["userName"]).upper()}
    both.hire("p1")
    both.run()
    written = list(both.crm.calls)

    both.run()
    report = both.run()

    assert both.crm.calls == written
    assert report.row_count == 0


def test_an_account_deleted_at_the_target_is_made_again(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.crm.objects.pop(next(iter(both.crm.objects)))

    both.run()

    assert len(both.accounts()) == 3
