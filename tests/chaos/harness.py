"""Carries out one plan: a day begins, is disturbed, and everything that must hold afterwards is looked at."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from identitymesh.errors import StorageError
from tests.installation.services import exists

from .children import Children
from .disturbances import DISTURBANCES, LEASE, Scene, copied
from .estate import Estate
from .gate import Gate, Waiting
from .invariants import End, Morning, check_leases, check_passwords, check_rest, check_watermark, end, morning
from .plans import RUN, SERVICE, Plan

PATIENCE = 60.0  # seconds
BUSY = 1.0  # seconds that SQLite waits for its lock
USUAL = 15.0  # seconds that a lease lives
SERVICE_STEPS = 40  # of a service: its start and a few looks at what is due


class Runs:
    """Runs of an estate in processes of their own."""

    def __init__(self, children: Children, folder: Path) -> None:
        self._children = children
        self._folder = folder

    def __call__(self, runs: Sequence[str], **order: Any) -> Any:
        return self.collect(self.start(runs, **order))

    def start(self, runs: Sequence[str], **order: Any) -> int:
        return self._children.start(self._folder, runs=list(runs), **order)

    def serve(self, folder: Path | None = None, **order: Any) -> int:
        return self._children.start(folder or self._folder, serve=True, **order)

    def collect(self, pid: int) -> Any:
        return self._children.collect(pid)

    def end(self) -> None:
        self._children.end()


class Harness:
    """One kind of product database, with its morning and the undisturbed end."""

    def __init__(self, estate: Estate, children: Children) -> None:
        self.estate = estate
        self._runs = Runs(children, estate.folder)
        self._events: dict[str, dict[str, list[int]]] = {}
        self._morning = Morning(0, {})
        self.undisturbed: End | None = None
        self.outcomes: Counter[str] = Counter()  # what became of the runs that were disturbed

    def learn(self) -> None:
        """How the day goes when nobody disturbs it: its end, and what there is to be disturbed at."""
        self.estate.prepare(lambda: self._clean(self._runs(["full"])))
        self.estate.begin()
        self._morning = morning(self.estate)
        for mode, connector in (("delta", ""), ("full", ""), ("delta", ":hr"), ("full", ":hr")):
            self.estate.begin()
            answer = self._runs([mode + connector], names=True)
            self._clean(answer)
            by_phase: dict[str, list[int]] = {}
            for number, name in enumerate(answer["events"], start=1):
                by_phase.setdefault(name.partition(":")[0], []).append(number)
            self._events[mode + connector] = by_phase
        self.estate.begin()
        self._recover(["full", "full"])
        self.undisturbed = end(self.estate, self._morning)

    def survive(self, plan: Plan) -> str:
        """One disturbance, and everything that must hold after it; answers the phase that was disturbed, or ""."""
        try:
            return self._survive(plan)
        finally:
            self._runs.end()  # who is left of a day that failed must not disturb the next: it has the same servers

    def _survive(self, plan: Plan) -> str:
        self.estate.begin()
        order: dict[str, Any] = {"busy": BUSY} if plan.what in {"locked", "full disk"} else {}
        if plan.what in {"frozen", "kill elsewhere"}:
            order["lease"] = LEASE
        disturbed = self._run(plan, order) if plan.who == RUN else self._serve(plan, order)
        check_watermark(self.estate)
        check_leases(self.estate, order.get("lease", USUAL))
        clock = {"clock": plan.seconds} if plan.what == "clock" and plan.stays else {}
        # After a kill a delta run must do as well: it reads no target, and so finds lost creates by asking for them.
        delta = ["delta"] if plan.mode == "delta" and plan.what.startswith("kill") else []
        self._recover([*delta, "full", "full"], **clock)
        found = end(self.estate, self._morning)
        self._compare(found)
        check_rest(self.estate)
        check_passwords(self.estate)
        return disturbed

    # -- a run -------------------------------------------------------------------

    def _run(self, plan: Plan, order: dict[str, Any]) -> str:
        elsewhere = {"host": "elsewhere"} if plan.what == "kill elsewhere" else {}
        with Gate(self.estate.disk) as gate:
            at = self._at(plan, plan.mode)
            pid = self._runs.start([plan.mode], gate=gate.path, at=at, **order, **elsewhere)
            waiting = gate.wait(lambda: not exists(pid))
            with self._disturbed(plan, waiting, []) as scene:
                answer = self._runs.collect(pid)
        self._in_words(answer)
        self.outcomes[f"{plan.what}: {_outcome(answer)}"] += 1
        for meanwhile in scene.meanwhile if scene else ():
            self._in_words(meanwhile)
        return waiting.event.partition(":")[0] if waiting else ""

    @contextmanager
    def _disturbed(self, plan: Plan, waiting: Waiting | None, services: list[int]) -> Iterator[Scene | None]:
        if waiting is None:
            yield None
            return
        scene = Scene(plan, self.estate, waiting, services, self._runs)
        with waiting.line, DISTURBANCES[plan.what](scene):
            waiting.go(**scene.orders)
            yield scene

    def _at(self, plan: Plan, mode: str) -> int:
        numbers = self._events[mode].get(plan.phase) or self._events[mode]["begin"]
        return numbers[int(plan.place * len(numbers))]

    # -- a service ---------------------------------------------------------------

    def _serve(self, plan: Plan, order: dict[str, Any]) -> str:
        with self.estate.opened() as installation:
            installation.running.timetable.ask("hr", delta=plan.mode == "delta")
        folders = [self.estate.folder]
        if plan.what == "two services":
            folders.append(self.estate.folder)
        elif plan.what == "two folders":
            folders.append(copied(self.estate.folder))
        at = 1 + int(plan.place * SERVICE_STEPS) if plan.who == SERVICE else self._at(plan, f"{plan.mode}:hr")
        with Gate(self.estate.disk) as gate:
            services = [self._runs.serve(one, who=plan.who, gate=gate.path, at=at, **order) for one in folders]
            waiting = gate.wait(lambda: self._settled(plan))
            with self._disturbed(plan, waiting, services):
                living = [pid for pid in services if exists(pid)]
                if plan.what.startswith("two") and waiting is not None and plan.stays:
                    os.kill(services[0], signal.SIGKILL)  # the other one carries on
                    living = services[1:]
                elif not living:
                    living = [self._runs.serve(who=plan.who, **order)]
                    services += living
                self._until(lambda: self._settled(plan))
        for pid in living:
            os.kill(pid, signal.SIGTERM)
        for pid in services:
            status = self._runs.collect(pid)["status"]
            assert status == (0 if pid in living else -signal.SIGKILL), f"a service ended with {status}\n{self._log()}"
        return waiting.event.partition(":")[0] if waiting else ""

    def _settled(self, plan: Plan) -> bool:
        query = text("SELECT asked_at, last_state FROM schedule WHERE connector = 'hr' AND mode = :mode")
        try:
            with self.estate.database() as database, database.read() as connection:
                row = connection.execute(query, {"mode": plan.mode}).one_or_none()
        except StorageError:  # it is being disturbed
            return False
        return row is not None and row.asked_at is None and row.last_state is not None

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"what was due was not carried out\n{self._log()}"
            time.sleep(0.05)

    def _log(self) -> str:
        """What the services wrote, those of another host's folder too."""
        return "\n".join(log.read_text() for log in sorted(self.estate.folder.parent.glob("*/serve.log")))

    # -- afterwards --------------------------------------------------------------

    def _recover(self, runs: Sequence[str], **order: Any) -> None:
        """The next run ends clean, and the last one has nothing to do."""
        answer = self._runs(runs, **order)
        self._clean(answer)
        assert answer["runs"][-1]["rows"] == 0, "the last run had something to do"

    @staticmethod
    def _clean(answer: Any) -> None:
        assert "error" not in answer, answer
        for run in answer["runs"]:
            assert (run["state"], run["issues"]) == ("done", []), run

    @staticmethod
    def _in_words(answer: Any) -> None:
        """A run that was disturbed may fail, but never with a traceback."""
        assert answer["killed"] or "error" not in answer or answer["in_words"], answer

    def _compare(self, found: End) -> None:
        expected = self.undisturbed
        assert expected is not None
        for target, accounts in expected.accounts.items():
            assert found.accounts[target] == accounts, f"{target} is not as on an undisturbed day"
        assert found.people == expected.people
        missing, surplus = expected.audit - found.audit, found.audit - expected.audit
        assert (missing, surplus) == (Counter(), Counter()), "the audit is not that of an undisturbed day"


def _outcome(answer: Any) -> str:
    """Killed, the error that ended it, or the state that it ended in."""
    if answer["killed"]:
        return "killed"
    return str(answer["error"]).partition(":")[0] if "error" in answer else str(answer["runs"][0]["state"])
