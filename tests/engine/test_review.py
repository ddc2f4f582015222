"""Objects that rules find several people for: a person decides, and that is remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import pytest
from sqlalchemy import text

from identitymesh.audit import Record
from identitymesh.errors import MeshError, NotFound, UsageError
from identitymesh.model.objects import ObjectId
from identitymesh.runs.review_contract import ReviewDecision, ReviewItem
from identitymesh.runs.review_desk import Review
from identitymesh.storage.batches import SqlMeshTransaction
from identitymesh.storage.reviews import SqlReviewRows, SqlReviews

from .world import World, silent

BY_NAME = """    - {name: crm-by-mail, connector: crm, object: user, source: userName, target: mail}
  flow:"""


@pytest.fixture
def namesakes(both: World) -> World:
    """Two people with one mail address, and an account that has it and no number."""
    both.apply(lambda text: text.replace("  flow:", BY_NAME, 1), release=True)
    both.hire("p1", "Ann", "Lee")
    both.hire("p2", "Ann", "Lee")
    both.crm.objects["old"] = {"userName": "ann.lee@example.org", "externalId": "", "active": True}
    both.run()
    return both


def only(world: World, *, decided: bool = False) -> Review:
    found = world.engine.reviews(decided=decided)
    assert len(found) == 1
    return found[0]


def test_an_ambiguous_object_is_listed_with_the_people_that_it_may_be(namesakes: World) -> None:
    found = only(namesakes)

    assert (found.connector, found.key, found.rule) == ("crm", "old", "crm-by-mail")
    assert [one.anchor for one in found.candidates] == ["p1", "p2"]
    assert found.values == {"userName": "ann.lee@example.org"}
    assert found.candidates[0].values == {"mail": "ann.lee@example.org"}
    number = found.id
    namesakes.run()
    assert only(namesakes).id == number, "it keeps its number"


def test_a_decision_is_followed_and_remembered(namesakes: World) -> None:
    namesakes.engine.decide(only(namesakes).id, "join", person="p2")
    assert namesakes.engine.reviews(decided=False) == []

    namesakes.run(delta=True, connectors=["hr"])

    joined = namesakes.engine.explain("p2").objects
    assert [(one.connector, one.key) for one in joined if one.key == "old"] == [("crm", "old")]
    assert only(namesakes, decided=True).person == "p2"
    del namesakes.crm.objects["old"]
    namesakes.run()
    namesakes.crm.objects["old"] = {"userName": "ann.lee@example.org", "externalId": "", "active": True}
    namesakes.run()
    joined = namesakes.engine.explain("p2").objects
    assert ("crm", "old") in [(one.connector, one.key) for one in joined], "also when it had been away"
    assert namesakes.engine.reviews(decided=False) == []


def test_a_decision_survives_a_change_of_rules(namesakes: World) -> None:
    namesakes.engine.decide(only(namesakes).id, "join", person="p1")
    namesakes.run()
    namesakes.apply(
        lambda text: text.replace("name: crm-by-mail", "name: crm-mail").replace('"Trim([first])"', '"[first]"'),
        release=True,
    )

    namesakes.run()

    objects = namesakes.engine.explain("p1").objects
    assert ("crm", "old") in [(one.connector, one.key) for one in objects]


def test_what_is_ignored_stays_nobodys(namesakes: World) -> None:
    namesakes.engine.decide(only(namesakes).id, "ignore")
    report = namesakes.run()

    assert report.issues == []
    assert namesakes.engine.reviews(decided=False) == []
    found = namesakes.engine.unmatched(connectors=(), limit=10)
    assert (found.total, found.accounts[0].key) == (1, "old")


def test_somebody_new_where_rules_make_people(both: World) -> None:
    by_mail = "    - {name: hr-by-mail, connector: hr, object: user, source: mail, target: mail}\n    - {name: hr-by-id"
    both.apply(lambda text: text.replace("    - {name: hr-by-id", by_mail), release=True)
    both.hire("p1")
    both.hire("p2")
    both.run()
    both.hire("p3", "Ann", "Lee", mail="ann.lee@example.org")
    both.run()
    assert "p3" not in both.accounts()

    both.engine.decide(only(both).id, "create")
    both.run()

    assert set(both.accounts()) == {"p1", "p2", "p3"}


def test_a_decision_is_undone(namesakes: World) -> None:
    number = only(namesakes).id
    namesakes.engine.decide(number, "join", person="p2")
    namesakes.run()
    namesakes.engine.undo_review(number)

    namesakes.run(delta=True, connectors=["hr"])

    assert only(namesakes).id == number
    joined = namesakes.engine.explain("p2").objects
    assert "old" not in [one.key for one in joined]


def test_what_is_undone_while_a_batch_goes_by_it_is_undone(namesakes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has read the decision and not yet written what follows from it."""
    number = only(namesakes).id
    namesakes.engine.decide(number, "join", person="p2")
    undoing = threading.Thread(target=namesakes.another_engine().undo_review, args=(number,), daemon=True)
    decisions = SqlReviewRows.decisions

    def read(rows: SqlReviewRows, ids: Collection[ObjectId]) -> dict[ObjectId, ReviewDecision]:
        found = decisions(rows, ids)
        if found and undoing.ident is None:
            undoing.start()
            if namesakes.database.dialect == "postgresql":  # SQLite lets nobody else write before the batch is stored
                done_or_waiting(namesakes, undoing)
        return found

    monkeypatch.setattr(SqlReviewRows, "decisions", read)
    namesakes.run(delta=True, connectors=["hr"])
    undoing.join(30)
    assert undoing.ident is not None
    assert not undoing.is_alive()
    namesakes.run(delta=True, connectors=["hr"])

    assert only(namesakes).id == number
    assert "old" not in [one.key for one in namesakes.engine.explain("p2").objects]


def done_or_waiting(world: World, thread: threading.Thread) -> None:
    """Until the thread has ended, or its connection waits for a row."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 30
    while thread.is_alive():
        with world.database.read() as connection:
            if connection.scalar(waiting):
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_item_that_a_run_closes_meanwhile_is_not_decided(namesakes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = only(namesakes).id
    decide = SqlReviews.decide

    def later(store: SqlReviews, item: ReviewItem, choice: str | None, identity: int | None, event: Record) -> None:
        namesakes.change("p2", last="Berg")
        namesakes.run()
        decide(store, item, choice, identity, event)

    monkeypatch.setattr(SqlReviews, "decide", later)
    with pytest.raises(NotFound, match=f"review item {number}"):
        namesakes.engine.decide(number, "ignore")
    with namesakes.database.read() as connection:
        decided = connection.execute(text("SELECT subject FROM audit WHERE action LIKE 'review%'")).all()
    assert decided == []


def test_who_decides_while_the_object_goes_does_not_wait_in_a_circle(
    namesakes: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = only(namesakes).id
    told: list[MeshError] = []

    def decide() -> None:
        try:
            namesakes.another_engine().decide(number, "ignore")
        except MeshError as error:
            told.append(error)

    deciding = threading.Thread(target=decide, daemon=True)
    remove = SqlMeshTransaction.remove_objects

    def removed(tx: SqlMeshTransaction, ids: Sequence[ObjectId]) -> None:
        remove(tx, ids)
        if ids and deciding.ident is None:
            deciding.start()
            if namesakes.database.dialect == "postgresql":
                done_or_waiting(namesakes, deciding)

    monkeypatch.setattr(SqlMeshTransaction, "remove_objects", removed)
    del namesakes.crm.objects["old"]
    namesakes.run()
    deciding.join(30)

    assert [type(one) for one in told] == [NotFound]
    assert namesakes.engine.reviews(decided=True) == []


def test_an_item_closes_when_rules_find_one_person(namesakes: World) -> None:
    namesakes.change("p2", last="Berg")

    namesakes.run()

    assert namesakes.engine.reviews(decided=True) == []
    assert "crm" in [one.connector for one in namesakes.engine.explain("p1").objects]


def test_what_cannot_be_decided(namesakes: World) -> None:
    number = only(namesakes).id
    with pytest.raises(NotFound, match="there is no review item 999"):
        namesakes.engine.decide(999, "ignore")
    with pytest.raises(NotFound, match="nobody is known as 'p9'"):
        namesakes.engine.decide(number, "join", person="p9")
    with pytest.raises(UsageError, match="no join rule of crm has create: true"):
        namesakes.engine.decide(number, "create")
    with pytest.raises(UsageError, match="nothing was decided"):
        namesakes.engine.undo_review(number)


def test_decisions_are_audited(namesakes: World) -> None:
    number = only(namesakes).id
    namesakes.engine.decide(number, "join", person="p2")
    namesakes.engine.undo_review(number)

    with namesakes.database.read() as connection:
        rows = connection.execute(text("SELECT action, subject, actor, payload FROM audit WHERE action LIKE 'review%'"))
        found = [tuple(row) for row in rows]
    assert [row[:3] for row in found] == [
        ("review.decide", "crm/user/old", "tester"),
        ("review.undo", "crm/user/old", "tester"),
    ]
    assert '"anchor":"p2"' in found[0][3]


def test_a_preview_goes_by_decisions(namesakes: World) -> None:
    namesakes.engine.decide(only(namesakes).id, "ignore")
    namesakes.run()
    report, _ = namesakes.engine.preview(namesakes.text, source="mesh.yaml", progress=silent)

    assert report.issues == []


# -- accounts of nobody, frozen people, one person's walk ----------------------------


def test_accounts_of_nobody_are_listed_and_never_touched(both: World) -> None:
    both.crm.objects["x1"] = {"externalId": "x1", "userName": "guest"}
    both.hire("p1")
    both.run()

    found = both.engine.unmatched(connectors=["crm"], limit=10)

    assert (found.total, [(one.key, one.correlate) for one in found.accounts]) == (1, [("x1", "x1")])
    assert both.crm.objects["x1"] == {"externalId": "x1", "userName": "guest"}
    with pytest.raises(UsageError, match="hr is no target"):
        both.engine.unmatched(connectors=["hr"], limit=10)
    both.hire("x1")
    both.run()
    assert both.engine.unmatched(connectors=(), limit=10).total == 0


def test_frozen_people_are_in_the_plan_as_skipped(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.apply(lambda text: text + '\nfrozen: ["p0001"]\n', release=True)
    both.change("p0001", last="Other")
    report = both.plan()

    rows = both.engine.rows(report.run_id, limit=10, person=None)

    assert [(one.anchor, one.kind, one.note) for one in rows] == [("p0001", "update", "frozen: skipped")]
    assert report.row_count == 0


def test_the_walk_of_one_person(both: World) -> None:
    both.hire_many(3)
    both.run()
    both.change("p0001", last="Other")
    walk = both.engine.walk(both.plan().run_id, "p0001")

    assert walk.explanation is not None
    assert [(one.connector, one.joined_by) for one in walk.explanation.objects] == [("hr", "hr-by-id")]
    assert [(one.connector, one.decision) for one in walk.steps] == [("crm", "change")]
    both.apply(lambda text: text + '\nfrozen: ["p0001"]\n')
    walk = both.engine.walk(both.plan().run_id, "p0001")
    assert [(one.connector, one.decision) for one in walk.steps] == [("crm", "skip")]
    walk = both.engine.walk(both.plan().run_id, "p0002")
    assert [(one.connector, one.decision) for one in walk.steps] == [("crm", "nothing to do")]


def test_the_walk_of_somebody_who_is_held_and_of_nobody(namesakes: World) -> None:
    namesakes.apply(lambda text: text.replace('"[sn]"', '"ToUpper([sn])"'))
    walk = namesakes.engine.walk(namesakes.plan().run_id, "p1")
    assert [(one.decision, one.reason) for one in walk.steps] == [
        ("hold", "first plan after a change: its projection changed")
    ]
    nobody = namesakes.engine.walk(namesakes.plan().run_id, "old")
    assert nobody.explanation is None
    assert [(one.connector, one.key, one.state) for one in nobody.alone] == [("crm", "old", "ambiguous")]
