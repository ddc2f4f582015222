"""What starts, when, and how often: with a clock in the hand of the test, on either database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from identitymesh.definition.schedules import Schedule
from identitymesh.lease import Lease
from identitymesh.redaction import Secret
from identitymesh.runs.scheduler import Scheduler
from identitymesh.runs.schedules import HOUSEKEEPING, Due, Entry, Outcome
from identitymesh.storage.continuity import Continuity, put_pause
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.leases import SqlLeases
from identitymesh.storage.runs import SqlRuns
from identitymesh.storage.schedules import SqlSchedules
from identitymesh.storage.tables import runs as r
from identitymesh.storage.tables.schedules import schedule as table
from tests.prepared import migrated_file

START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
NIGHTLY = Schedule("hr", "full", "0 2 * * *")
OFTEN = Schedule("hr", "delta", "*/15 * * * *")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def at(self, day: int, hour: int = 0, minute: int = 0) -> None:
        self.now = datetime(2026, 3, day, hour, minute, tzinfo=UTC)


class Hand:
    """An executor that does nothing by itself: the test says what came of it."""

    def __init__(self, database: Database, places: int = 4) -> None:
        self.database = database
        self.places = places
        self.going: list[Due] = []
        self.told: dict[str, Outcome] = {}
        self.broken: OSError | None = None

    def room(self) -> bool:
        return len(self.going) < self.places

    def start(self, due: Due) -> None:
        if self.broken is not None:
            raise self.broken
        self.going.append(due)

    def ended(self) -> Mapping[str, Outcome]:
        told, self.told = self.told, {}
        return told

    def stop(self, patience: float) -> Mapping[str, Outcome]:
        assert patience >= 0
        return {**self.ended(), **{self.going.pop().name: Outcome("", stopped=True) for _ in list(self.going)}}

    def begin(self) -> int:
        """The process records its run."""
        return SqlRuns(self.database).start("run", "full", "tester", 1, self.going[-1].name)

    def end(self, state: str = "done", **more: object) -> str:
        """The process ends after its run was recorded, or says what was in its way."""
        due = self.going.pop()
        if not more and due.mode != "housekeeping":
            runs = SqlRuns(self.database)
            run = next((one.id for one in runs.latest(1) if one.due == due.name and one.state == "running"), None)
            run = run or runs.start("run", due.mode, "tester", 1, due.name)
            runs.finish(run, state, {}, [], code="", error="")
        self.told[due.name] = Outcome(state, **more)  # type: ignore[arg-type]
        return due.name


class Desk:
    """One service: its scheduler, its executor, its leases."""

    def __init__(self, database: Database, clock: Clock, plan: list[Schedule], lease: float = 15.0) -> None:
        self.hand = Hand(database)
        self.leases = SqlLeases(database, seconds=lease)
        self.store = SqlSchedules(database, holder=self.leases.holder)
        self.plan: list[Schedule] | None = plan
        self.clock = clock
        self.scheduler = Scheduler(
            self.store, self.leases, self.hand, self.planned, clock=clock, stagger=timedelta(seconds=0)
        )

    def planned(self) -> tuple[list[Schedule], frozenset[str]] | None:
        if self.plan is None:
            return None
        return self.plan, frozenset({"crm", *(one.connector for one in self.plan)})

    def tick(self) -> list[str]:
        """What goes on after it."""
        self.scheduler.tick()
        return [due.name for due in self.hand.going]

    def entry(self, connector: str = "hr", mode: str = "full") -> Entry:
        return next(one for one in self.store.entries() if one.key == (connector, mode))

    def carry_out(self) -> list[str]:
        """Tick until nothing starts any more; what was carried out, in order."""
        done = []
        while going := self.tick():
            assert len(going) == 1
            done.append(self.hand.end())
        return done


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        migrated_file(tmp_path / "mesh.db")
        opened = open_database(f"sqlite:///{tmp_path / 'mesh.db'}")
    else:
        given = request.getfixturevalue("migrated_postgres")
        opened = open_database(given.url, password=Secret(given.password))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(database: Database, clock: Clock) -> Iterator[Desk]:
    made = Desk(database, clock, [NIGHTLY])
    yield made
    made.scheduler.stop(0)


def runs(database: Database) -> list[tuple[str, str]]:
    with database.read() as connection:
        query = select(r.run.c.due, r.run.c.state).order_by(r.run.c.id)
        return [tuple(row) for row in connection.execute(query)]


def test_it_runs_when_it_is_due_and_then_at_the_next_time(desk: Desk, clock: Clock) -> None:
    assert desk.tick() == []
    clock.at(2, 1, 59)
    assert desk.tick() == []
    clock.at(2, 2)
    assert desk.tick() == ["hr/full@2026-03-02T02:00Z"]
    clock.at(2, 2, 1)
    assert len(desk.tick()) == 1  # it goes on: nothing more
    desk.hand.end()
    assert desk.tick() == []
    entry = desk.entry()
    assert (entry.last_state, entry.tries, entry.nominal) == ("done", 0, datetime(2026, 3, 3, 2, tzinfo=UTC))
    clock.at(3, 2)
    assert desk.carry_out() == ["hr/full@2026-03-03T02:00Z"]


def test_what_was_missed_runs_once_and_not_once_for_each_time(desk: Desk, database: Database, clock: Clock) -> None:
    desk.plan = [NIGHTLY, OFTEN]
    desk.tick()
    desk.scheduler.stop(0)
    clock.at(9, 10, 7)
    desk = Desk(database, clock, [NIGHTLY, OFTEN])
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]  # the complete run did the work of the delta run, too
    assert desk.entry().nominal == datetime(2026, 3, 10, 2, tzinfo=UTC)
    assert desk.entry(mode="delta").nominal == datetime(2026, 3, 9, 10, 15, tzinfo=UTC)
    clock.at(9, 10, 15)
    assert desk.carry_out() == ["hr/delta@2026-03-09T10:15Z"]


def test_a_run_longer_than_its_interval_never_overlaps(desk: Desk, clock: Clock) -> None:
    desk.plan = [OFTEN]
    desk.tick()
    clock.at(2, 1, 15)
    assert desk.tick() == ["hr/delta@2026-03-02T01:15Z"]
    clock.at(2, 2, 40)
    assert len(desk.tick()) == 1
    desk.hand.end()
    assert desk.tick() == []
    assert desk.entry(mode="delta").nominal == datetime(2026, 3, 2, 2, 45, tzinfo=UTC)


def test_connectors_do_not_wait_for_each_others_exports_but_for_the_mesh(
    desk: Desk, database: Database, clock: Clock
) -> None:
    desk.plan = [NIGHTLY, Schedule("crm", "full", "0 2 * * *")]
    desk.tick()
    clock.at(2, 2)
    assert desk.tick() == ["crm/full@2026-03-02T02:00Z"]
    assert len(desk.tick()) == 1, "the first has not begun to import yet"
    importing = SqlLeases(database)
    mesh = importing.acquire("mesh", "a run")
    desk.hand.begin()
    assert len(desk.tick()) == 1, "the first imports"
    importing.release(mesh)
    assert desk.tick() == ["crm/full@2026-03-02T02:00Z", "hr/full@2026-03-02T02:00Z"]


def test_no_more_at_once_than_there_is_room_for(desk: Desk, clock: Clock) -> None:
    desk.plan = [NIGHTLY, Schedule("crm", "full", "0 2 * * *")]
    desk.hand.places = 1
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    desk.hand.begin()
    assert len(desk.tick()) == 1


@pytest.mark.parametrize("state", ["done", "problems", "held", "failed"])
def test_a_run_that_came_to_an_end_is_not_repeated_whatever_its_end(desk: Desk, clock: Clock, state: str) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    desk.hand.end(state)
    clock.at(2, 3)
    assert desk.tick() == []
    assert desk.entry().last_state == state


def test_what_holds_the_mesh_is_waited_for(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    for _ in range(5):  # however often
        assert desk.tick() == ["hr/full@2026-03-02T02:00Z"]
        desk.hand.end("failed", code="busy", error="a run holds mesh", retryable=True)
        assert desk.tick() == []
        clock.now += timedelta(seconds=5)
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_a_process_that_dies_again_and_again_is_given_up_in_words(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    for number in range(1, 4):
        assert desk.tick() == ["hr/full@2026-03-02T02:00Z"], number
        desk.hand.end("died", error="its process was ended by signal 9")
        assert desk.tick() == []
        clock.now += timedelta(seconds=20)
    assert desk.tick() == []
    entry = desk.entry()
    assert (entry.last_state, entry.last_error) == ("failed", "its process was ended by signal 9")
    clock.at(3, 2)
    assert desk.carry_out() == ["hr/full@2026-03-03T02:00Z"]


def test_what_can_never_work_is_not_tried_again_before_its_next_time(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    desk.hand.end("failed", code="host-key-missing", error="there is no host key")
    clock.at(2, 3)
    assert desk.tick() == []
    assert desk.entry().last_error == "there is no host key"


def test_no_process_to_be_had_is_tried_again(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.hand.broken = OSError("too many")
    assert desk.tick() == []
    assert desk.entry().last_error == "no process could be started (OSError)"
    desk.hand.broken = None
    clock.at(2, 2, 1)
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


# -- two services, kills ---------------------------------------------------------


def test_two_services_carry_out_each_due_run_once(desk: Desk, database: Database, clock: Clock) -> None:
    other = Desk(database, clock, [NIGHTLY])
    carried_out = []
    for day in range(2, 8):
        clock.at(day, 1)
        desk.tick()
        other.tick()
        clock.at(day, 2)
        first, second = (desk, other) if day % 2 else (other, desk)
        assert len(first.tick()) == 1
        assert second.tick() == []
        carried_out.append(first.hand.end())
        assert second.tick() == []
        first.tick()
        assert second.tick() == []
    assert carried_out == [f"hr/full@2026-03-{day:02}T02:00Z" for day in range(2, 8)]
    assert len(runs(database)) == len(carried_out)
    other.scheduler.stop(0)


def test_one_whose_service_was_killed_before_it_said_so_is_not_run_again(
    desk: Desk, database: Database, clock: Clock
) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    desk.hand.end()  # recorded; the service is killed before it settles that
    kill(desk, database)
    other = Desk(database, clock, [NIGHTLY])
    assert other.tick() == []
    assert other.entry().last_state == "done"
    assert other.entry().nominal == datetime(2026, 3, 3, 2, tzinfo=UTC)
    assert runs(database) == [("hr/full@2026-03-02T02:00Z", "done")]


def test_one_whose_process_was_killed_with_its_service_runs_again_when_the_lease_is_free(
    desk: Desk, database: Database, clock: Clock
) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    run = desk.hand.begin()
    living = SqlLeases(database)
    lease = living.acquire(f"run:{run}", "the run")
    other = Desk(database, clock, [NIGHTLY])
    assert other.tick() == [], "the lease of the connector is held"
    kill(desk, database)
    assert other.tick() == [], "its process lives on for the moment"
    living.release(lease)
    assert other.tick() == ["hr/full@2026-03-02T02:00Z"]
    SqlRuns(database).abandon(run)  # as the next run does with those that ended without a word
    other.hand.end()
    other.tick()
    assert runs(database) == [("hr/full@2026-03-02T02:00Z", "abandoned"), ("hr/full@2026-03-02T02:00Z", "done")]


def kill(desk: Desk, database: Database) -> None:
    """As SIGKILL leaves it: nothing is said, and the leases belong to a process that is no more."""
    with database.write() as connection:
        gone = r.lease.c.holder == desk.leases.holder
        connection.execute(update(r.lease).where(gone).values(holder="gone", pid=4_194_305))
    desk.hand.going.clear()


def test_what_is_stopped_with_its_service_is_carried_out_by_the_next(
    desk: Desk, database: Database, clock: Clock
) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    run = desk.hand.begin()
    SqlRuns(database).finish(run, "failed", {}, [], code="KeyboardInterrupt", error="stopped", stopped=True)
    desk.scheduler.stop(5)
    assert not desk.leases.held("schedule:hr")
    other = Desk(database, clock, [NIGHTLY])
    assert other.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_a_service_whose_lease_was_taken_over_settles_nothing(desk: Desk, database: Database, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    with database.write() as connection:  # it hung for longer than its lease lives
        connection.execute(update(r.lease).values(holder="another", fence=99))
    desk.hand.end("failed", code="secret-missing", error="no such secret")
    desk.tick()
    assert desk.entry().last_state is None


# -- clocks, definitions ---------------------------------------------------------


def test_a_clock_set_forward_runs_what_was_skipped_once(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(20, 12)
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]
    assert desk.entry().nominal == datetime(2026, 3, 21, 2, tzinfo=UTC)


def test_a_clock_set_back_repeats_nothing(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    assert len(desk.carry_out()) == 1
    clock.at(2, 1, 30)
    assert desk.tick() == []
    assert desk.entry().nominal == datetime(2026, 3, 3, 2, tzinfo=UTC), "what was carried out is not due again"
    clock.at(2, 2)
    assert desk.tick() == []
    clock.at(3, 2)
    assert desk.carry_out() == ["hr/full@2026-03-03T02:00Z"]


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule_for_years(desk: Desk, clock: Clock) -> None:
    clock.now = datetime(2031, 3, 2, 2, tzinfo=UTC)
    desk.tick()
    clock.now += timedelta(days=1)
    assert len(desk.carry_out()) == 1
    clock.at(2, 1)
    assert desk.tick() == []
    clock.at(2, 2)
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_another_expression_counts_from_now_and_what_was_due_stays_due(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.plan = [Schedule("hr", "full", "0 4 * * *")]
    desk.tick()
    clock.at(2, 2)
    assert desk.tick() == []
    clock.at(2, 4)
    desk.plan = [Schedule("hr", "full", "0 6 * * *")]
    assert desk.carry_out() == ["hr/full@2026-03-02T04:00Z"]
    assert desk.entry().nominal == datetime(2026, 3, 2, 6, tzinfo=UTC)


def test_a_schedule_or_connector_that_is_gone_runs_no_more(desk: Desk, clock: Clock) -> None:
    desk.plan = [NIGHTLY, Schedule("crm", "full", "0 2 * * *")]
    desk.tick()
    desk.plan = []  # crm is still a connector of the definition, hr is not
    clock.at(2, 1, 30)
    desk.tick()
    clock.at(2, 2)
    assert desk.tick() == []
    assert [one.key for one in desk.store.entries()] == [("crm", "full")]
    assert desk.entry("crm").nominal is None


def test_a_definition_that_this_host_cannot_read_changes_no_times(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.plan = None
    clock.at(2, 1, 30)
    desk.tick()
    assert desk.entry().nominal == datetime(2026, 3, 2, 2, tzinfo=UTC)


def test_it_is_staggered(database: Database, clock: Clock) -> None:
    leases = SqlLeases(database)
    store = SqlSchedules(database, holder=leases.holder)
    names = [f"c{number}" for number in range(20)]
    plan = ([Schedule(name, "full", "0 2 * * *") for name in names], frozenset(names))
    Scheduler(store, leases, Hand(database), lambda: plan, clock=clock, stagger=timedelta(seconds=60)).tick()
    begins = {one.connector: one.due_at - one.nominal for one in store.entries() if one.due_at and one.nominal}
    assert len(set(begins.values())) > 10
    assert max(begins.values()) < timedelta(seconds=60)


# -- what people say -------------------------------------------------------------


def test_a_paused_connector_waits_and_what_it_missed_runs_once_when_it_is_resumed(desk: Desk, clock: Clock) -> None:
    desk.tick()
    assert desk.store.pause(["hr"], "ada", clock()) == ["hr"]
    assert desk.store.pause(["hr"], "ada", clock()) == []
    clock.at(8, 3)
    assert desk.tick() == []
    assert desk.store.resume(["hr", "crm"], "ada") == ["hr"]
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_all_can_be_paused(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.store.pause(["*"], "ada", clock())
    clock.at(2, 2)
    assert desk.tick() == []
    desk.store.resume(["*"], "ada")
    assert len(desk.tick()) == 1


@pytest.mark.parametrize("name", ["hr", "*"])
def test_a_pause_that_comes_while_it_is_about_to_start_holds_it(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    begin = SqlSchedules.begin

    def after_a_pause(store: SqlSchedules, entry: Entry, lease: Lease, now: datetime) -> bool:
        store.pause([name], "ada", now)
        return begin(store, entry, lease, now)

    monkeypatch.setattr(SqlSchedules, "begin", after_a_pause)
    desk.tick()
    clock.at(2, 2)
    assert desk.tick() == []
    monkeypatch.undo()
    assert desk.tick() == []
    desk.store.resume([name], "ada")
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_nothing_starts_after_a_restore_until_a_person_resumes(desk: Desk, database: Database, clock: Clock) -> None:
    desk.tick()
    with database.write() as connection:
        put_pause(connection, "restored from a backup", "ada")
    clock.at(2, 2)
    desk.store.ask("hr", "full", "ada", clock())
    assert desk.tick() == []
    Continuity(database, "ada").resume()
    assert len(desk.tick()) == 1


def test_run_now_runs_at_once_also_what_is_paused_or_has_no_schedule(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.store.pause(["hr"], "ada", clock())
    desk.store.ask("hr", "full", "ada", clock())
    desk.store.ask("crm", "delta", "ada", clock())
    done = desk.carry_out()
    assert sorted(done) == [f"{one}@asked-2026-03-02T01:00:00.000000Z" for one in ("crm/delta", "hr/full")]
    assert desk.entry().nominal == datetime(2026, 3, 2, 2, tzinfo=UTC), "its own time is as it was"
    assert desk.entry("crm", "delta").last_state == "done"


def test_what_is_asked_for_while_it_runs_runs_once_more(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.store.ask("hr", "full", "ada", clock())
    desk.tick()
    clock.now += timedelta(minutes=1)
    desk.store.ask("hr", "full", "ada", clock())
    assert len(desk.tick()) == 1
    desk.hand.end()
    assert desk.carry_out() == ["hr/full@asked-2026-03-02T01:01:00.000000Z"]


@pytest.mark.parametrize("mode", ["full", "delta"])
def test_so_does_what_is_asked_for_on_a_host_whose_clock_is_behind(desk: Desk, clock: Clock, mode: str) -> None:
    desk.tick()
    desk.store.ask("hr", "full", "ada", clock())
    desk.tick()
    desk.store.ask("hr", mode, "ada", clock() - timedelta(minutes=5))
    desk.hand.end()
    assert desk.carry_out() == [f"hr/{mode}@asked-2026-03-02T00:55:00.000000Z"]


@pytest.mark.parametrize("mode", ["full", "delta"])
def test_what_is_asked_for_after_a_run_that_its_killed_service_did_not_settle_runs(
    desk: Desk, database: Database, clock: Clock, mode: str
) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.tick()
    desk.hand.end()
    kill(desk, database)
    clock.at(2, 3)
    desk.store.ask("hr", mode, "ada", clock())
    other = Desk(database, clock, [NIGHTLY])
    assert other.tick() == []
    assert other.entry().last_state == "done"
    assert other.carry_out() == [f"hr/{mode}@asked-2026-03-02T03:00:00.000000Z"]


def test_a_full_run_is_a_delta_run_that_was_asked_for_before_it(desk: Desk, clock: Clock) -> None:
    desk.tick()
    desk.store.ask("hr", "delta", "ada", clock())
    desk.store.ask("hr", "full", "ada", clock())
    assert desk.carry_out() == ["hr/full@asked-2026-03-02T01:00:00.000000Z"]


def test_what_is_due_and_asked_for_runs_once(desk: Desk, clock: Clock) -> None:
    desk.tick()
    clock.at(2, 2)
    desk.store.ask("hr", "full", "ada", clock())
    assert desk.carry_out() == ["hr/full@2026-03-02T02:00Z"]


def test_housekeeping_needs_no_mesh_and_is_due_every_night(desk: Desk, database: Database, clock: Clock) -> None:
    desk.plan = [HOUSEKEEPING]
    desk.tick()
    SqlLeases(database).acquire("mesh", "a long run")
    clock.at(2, 3, 17)
    assert desk.tick() == ["*/housekeeping@2026-03-02T03:17Z"]
    desk.hand.end()
    assert desk.tick() == []
    with database.read() as connection:
        assert connection.scalar(select(table.c.last_state)) == "done"
