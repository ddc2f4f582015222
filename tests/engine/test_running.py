"""Scheduled runs on the real engine; what is known of connectors and runs afterwards; what is kept, and what goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from identitymesh.errors import DueDone, NotFound, Paused, Unreachable, UsageError
from identitymesh.runs.health import Health
from identitymesh.runs.reports import ApplyReport, RunReport
from identitymesh.runs.scheduler import Plan, Scheduler
from identitymesh.runs.timetable import Timetable
from identitymesh.storage.audit_log import AuditEntry, AuditLog, AuditWish
from identitymesh.storage.continuity import put_pause
from identitymesh.storage.database import Database
from identitymesh.storage.history import ALWAYS, History
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.overdue import unattended
from identitymesh.storage.schedules import SqlSchedules
from identitymesh.storage.tables import runs as r
from tests.memory import glibc_only, resident
from tests.runs.test_scheduler import Hand

from .world import World, silent

DUE = "hr/full@2026-03-02T02:00Z"
NIGHTLY = ("hr: {type: memory,", 'hr: {type: memory, full_schedule: "0 2 * * *",')


def scheduled(world: World, due: str = DUE, connector: str = "hr", *, delta: bool = False) -> RunReport:
    return world.engine.scheduled(connector, delta=delta, due=due, progress=silent)


def store(database: Database) -> SqlSchedules:
    return SqlSchedules(database, holder="a-service")


def timetable(world: World) -> Timetable:
    engine = world.engine
    leases = SqlLeases(world.database)
    clock = engine._parts.clock
    return Timetable(store(world.database), leases, engine._definitions, actor="ada", clock=clock)


def health(world: World) -> Health:
    parts = world.engine._parts
    return Health(parts.mesh, parts.runs, parts.plans, world.engine._definitions, timetable(world))


# -- scheduled runs --------------------------------------------------------------


def test_a_scheduled_run_reads_its_connector_and_releases_to_every_target(both: World) -> None:
    both.hire_many(3)
    done = scheduled(both)
    assert {one.connector for one in done.imports} == {"hr"}
    assert len(both.accounts()) == 3
    both.hire("p9")
    assert {one.connector for one in scheduled(both, "crm/full@x", "crm").imports} == {"crm"}
    assert len(both.accounts()) == 3
    scheduled(both, "hr/delta@x", delta=True)
    assert len(both.accounts()) == 4


def test_a_due_moment_is_carried_out_once(both: World) -> None:
    both.hire_many(3)
    scheduled(both)
    with pytest.raises(DueDone, match="was carried out already"):
        scheduled(both)
    assert len(both.engine.runs(10)) == 1


def test_one_that_was_killed_is_carried_out_again(both: World) -> None:
    first = scheduled(both)
    with both.database.write() as connection:  # as its process leaves it when it is killed
        connection.execute(update(r.run).where(r.run.c.id == first.run_id).values(state="running", ended_at=None))
    again = scheduled(both)
    assert again.state == "done"
    assert [one.state for one in both.engine.runs(10)] == ["done", "abandoned"]


def test_one_that_was_stopped_is_carried_out_again_also_when_its_service_could_not_say_so(both: World) -> None:
    """The process of the run ended in order; its service was killed before it settled anything."""
    both.hire("p1")
    schedules = store(both.database)
    schedules.ask("hr", "full", "ada", both.clock())
    due = schedules.entries()[0].name(both.clock())

    def stopped(phase: str, subject: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both.engine.scheduled("hr", delta=False, due=due, progress=stopped)

    plan: Plan = ([], frozenset({"hr", "crm"}))
    hand = Hand(both.database)
    another = Scheduler(schedules, SqlLeases(both.database), hand, lambda: plan, clock=both.clock, stagger=timedelta())
    another.tick()
    assert [one.name for one in hand.going] == [due]
    assert scheduled(both, due).state == "done"
    assert [one.state for one in both.engine.runs(10)] == ["done", "failed"]
    another.stop(0)


def test_a_hold_is_obeyed_by_scheduled_runs(both: World) -> None:
    both.hire_many(10)
    both.run()
    both.apply(lambda text: text.replace('"[givenName]"', '"Concat([givenName], [sn])"'))
    held = scheduled(both)
    assert held.state == "held"
    again = scheduled(both, "hr/full@2026-03-03T02:00Z")
    assert again.state == "held"
    assert {str(one["givenName"])[:5] for one in both.accounts().values()} == {"First"}
    assert not any("Last" in str(one["givenName"]) for one in both.accounts().values())
    both.approve(again.run_id)
    scheduled(both, "hr/full@2026-03-04T02:00Z")
    assert all("Last" in str(one["givenName"]) for one in both.accounts().values())


def test_nothing_runs_after_a_restore(both: World) -> None:
    with both.database.write() as connection:
        put_pause(connection, "restored", "ada")
    with pytest.raises(Paused):
        scheduled(both)


def test_a_definition_edited_while_a_run_is_on_is_for_the_next_one(both: World) -> None:
    both.hire_many(2)
    edited: list[ApplyReport] = []

    def louder(text: str) -> str:
        return text.replace('userName: "[mail]"', 'userName: "ToUpper([mail])"')

    def edit() -> None:
        if not edited:
            edited.append(both.apply(louder, release=True))

    both.hr.before_read = edit
    first = scheduled(both)
    assert edited
    assert first.definition_version == 1
    assert {str(one["userName"]).islower() for one in both.accounts().values()} == {True}
    second = scheduled(both, "hr/full@2026-03-03T02:00Z")
    assert second.definition_version == 2
    assert {str(one["userName"]).isupper() for one in both.accounts().values()} == {True}


def test_a_renamed_connector_keeps_its_times_and_its_pause(both: World) -> None:
    both.apply(lambda text: text.replace(*NIGHTLY))
    times = timetable(both)
    times.pause(["hr"])
    times.ask("hr", delta=False)
    times.ask("crm", delta=True)

    def renamed(text: str) -> str:
        text = text.replace("connector: hr,", "connector: people,")
        return text.replace("  hr: {type: memory,", "  people: {type: memory, renamed_from: hr,")

    both.apply(renamed)
    entries = {one.key: one for one in store(both.database).entries()}
    assert set(entries) == {("people", "full"), ("crm", "delta")}
    assert entries["people", "full"].paused

    both.apply(lambda text: text.replace('"0 2 * * *"', '"0 3 * * *"'))
    entries = {one.key: one for one in store(both.database).entries()}
    assert entries["people", "full"].paused, "it was renamed once, although the line still says so"


# -- timetable -------------------------------------------------------------------


def test_the_timetable_shows_what_there_is_and_who_looks_after_it(both: World) -> None:
    both.apply(lambda text: text.replace(*NIGHTLY))
    times = timetable(both)
    (hr,) = times.overview().schedules
    assert (hr.connector, hr.mode, hr.expression, hr.timezone, hr.state) == (
        "hr",
        "full",
        "0 2 * * *",
        "UTC",
        "waiting",
    )
    assert times.overview().services == 0
    now = datetime.now(UTC)
    store(both.database).seen(now)
    assert times.overview().services == 0, "its process is not there"
    assert times.ask("crm", delta=True).mode == "delta"
    assert [(one.connector, one.state) for one in times.overview().schedules] == [("hr", "waiting"), ("crm", "due")]
    assert times.pause(["hr"]) == ["hr"]
    assert times.overview().schedules[0].state == "paused"
    assert times.resume([]) == []
    assert times.pause([]) == ["*"]
    assert times.overview().halted == "all schedules were paused by ada"
    for wrong in (lambda: times.pause(["nobody"]), lambda: times.ask("nobody", delta=False)):
        with pytest.raises(UsageError, match="no connector nobody"):
            wrong()


def test_what_people_say_to_schedules_is_audited(both: World) -> None:
    times = timetable(both)
    times.pause(["hr"])
    times.resume(["hr"])
    times.ask("crm", delta=False)
    found = AuditLog(both.database).list(AuditWish(action="schedule.*"))
    assert [(one.action, one.subject, one.actor) for one in found] == [
        ("schedule.ask", "crm", "ada"),
        ("schedule.resume", "hr", "ada"),
        ("schedule.pause", "hr", "ada"),
    ]


def test_doctor_finds_what_nobody_looks_after(both: World) -> None:
    def codes(now: datetime, *, planned: bool = True) -> list[str]:
        return [code for code, _, _ in unattended(both.database, scheduled=planned, now=now)]

    now = datetime.now(UTC)
    assert codes(now, planned=False) == []
    assert codes(now) == ["no-service"]
    timetable(both).ask("hr", delta=False)
    later = datetime.now(UTC) + timedelta(minutes=11)
    assert codes(later) == ["no-service", "schedule-overdue"]
    leases = SqlLeases(both.database)
    for name in ("schedule:hr", "mesh"):
        lease = leases.acquire(name, "a run")
        assert codes(later) == ["no-service"], "it runs, or waits for one that does"
        leases.release(lease)
    SqlSchedules(both.database, holder="elsewhere").seen(now)
    assert codes(later) == ["service-gone", "schedule-overdue"]
    timetable(both).pause([])
    assert codes(later) == ["service-gone", "schedules-paused"]


# -- health and history ----------------------------------------------------------


def test_a_connector_says_when_all_of_it_was_read_and_what_went_wrong_since(both: World) -> None:
    both.hire_many(4)
    before = health(both).show("hr")
    assert (before.last_complete, before.last_error, before.objects[0].complete_at) == (None, None, None)
    both.run()
    fine = health(both).show("hr")
    assert fine.last_complete is not None
    assert (fine.objects[0].objects, fine.last_error) == (4, None)

    def refuse() -> None:
        raise Unreachable("hr: no answer", hint="Start it.")

    both.hr.before_read = refuse
    failed = both.run()
    now = health(both).show("hr")
    assert now.last_complete == fine.last_complete
    assert now.last_error is not None
    assert (now.last_error.run_id, now.last_error.error_code) == (failed.run_id, "unreachable")
    assert "no answer" in now.last_error.error
    assert health(both).show("crm").last_error is None
    both.hr.before_read = None
    both.run()
    assert health(both).show("hr").last_error is None
    with pytest.raises(UsageError, match="no connector nobody"):
        health(both).show("nobody")


def test_the_log_of_a_connector_is_what_runs_did_with_it(both: World) -> None:
    both.hire_many(4)
    both.run()
    entries = health(both).log("crm", 10)
    assert [(one.activity, one.done) for one in entries] == [("export", "4 create"), ("import", "0 read")]
    assert health(both).log("hr", 10)[0].done == "4 read, 4 added"
    assert len(health(both).log("crm", 1)) == 1
    with pytest.raises(UsageError, match="no connector"):
        health(both).log("nobody", 1)


def test_runs_are_found_by_their_end_and_by_connector(both: World) -> None:
    both.hire_many(4)
    both.run()
    both.run(connectors=["crm"])
    both.plan(connectors=["hr"])
    engine = both.engine
    assert len(engine.runs(10)) == 3
    assert len(engine.runs(10, connector="hr")) == 2
    assert len(engine.runs(10, connector="h")) == 0
    assert len(engine.runs(10, state="failed")) == 0
    assert [one.command for one in engine.runs(1, state="done", connector="crm")] == ["run"]


def age(database: Database, days: int) -> None:
    with database.write() as connection:
        moment = datetime.now(UTC) - timedelta(days=days)
        connection.execute(update(r.run).values(started_at=moment, ended_at=moment))


def rows(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def test_old_runs_go_with_their_plans_and_what_is_still_needed_stays(both: World) -> None:
    both.hire_many(3)
    complete = both.run().run_id  # the last complete import of both connectors
    for number in range(3):
        both.change("p0000", first=f"Name{number}")
        both.plan(delta=True)
    first_plans = rows(both.database, "plan_row")
    with both.database.write() as connection:  # many runs that came after: the latest stay, however old
        one = {"command": "run", "mode": "none", "state": "done", "actor": "x", "summary": "{}"}
        connection.execute(r.run.insert(), [one | {"started_at": datetime.now(UTC)} for _ in range(ALWAYS)])
    history = History(both.database, keep=timedelta(days=90))
    assert history.prune().runs == 0, "none is old enough"
    age(both.database, 91)
    would = history.prune(dry_run=True)
    assert rows(both.database, "run") == ALWAYS + 4
    assert history.prune().runs == would.runs == 2
    with both.database.read() as connection:
        left = list(connection.scalars(select(r.run.c.id).order_by(r.run.c.id)))
    assert left[0] == complete
    assert len(left) == ALWAYS + 2, "the newest plan of the target, the complete import, and the latest runs"
    assert rows(both.database, "plan_row") < first_plans
    assert history.prune().runs == 0
    both.run()
    assert {one["givenName"] for one in both.accounts().values()} >= {"Name2"}


def test_a_run_that_goes_on_is_never_removed(both: World) -> None:
    both.run()
    age(both.database, 400)
    with both.database.write() as connection:
        connection.execute(update(r.run).values(state="running"))
    assert History(both.database, keep=timedelta(days=1)).prune().runs == 0


# -- audit -----------------------------------------------------------------------


def test_the_audit_trail_of_a_person_names_what_changed_and_no_value(both: World) -> None:
    both.hire("p1", "Ada", "Lovelace")
    both.hire("p2", "Bob", "Lee")
    both.run()
    both.change("p1", last="Byron")
    done = both.run()
    log = AuditLog(both.database)

    def listed(**wish: object) -> Sequence[AuditEntry]:
        return log.list(AuditWish(**wish))  # type: ignore[arg-type]

    found = listed(person="p1")
    assert {one.person for one in found} == {"p1"}
    change = next(one for one in found if one.action == "identity.change")
    assert set(change.changed) == {"sn", "mail"}
    assert "Byron" not in repr(found)
    assert change.run == str(done.run_id)
    assert [one.action for one in listed(action="run.*", run=str(done.run_id))] == ["run.end", "run.start"]
    assert len(listed(limit=1)) == 1
    assert listed(actor="nobody") == []
    older = listed(before=found[0].sequence, person="p1")
    assert [one.sequence for one in older] == [one.sequence for one in found[1:]]
    with pytest.raises(NotFound, match="nobody is called 'p9'"):
        listed(person="p9")


@glibc_only
def test_a_run_gives_free_memory_back(both: World) -> None:
    """100 MB of blocks that Python does not keep for itself, and the last one stays: the heap cannot shrink alone."""
    blocks = [b"%05d" % number * 400 for number in range(50_000)]
    last = blocks[-1]
    blocks.clear()
    held = resident()

    both.run()

    assert held - resident() > 70
    assert last
