"""Runs and services that are disturbed: a small server of processes that forks a fresh one for each order.

An order is a line of JSON on standard input, its answer one on standard output. Every step that changes something, or
stands between two that do, is an event: each statement for a database, both sides of each commit, of each HTTP
request and of each call of the facade. With ``kill`` the process ends itself with SIGKILL at that event; with ``gate``
it waits at event ``at`` until the test has done what it wants to (:mod:`tests.chaos.gate`). With ``warm`` the server
does the runs itself, unobserved, so that the processes begin with everything imported and read. With ``serve`` the
process is a service. The answer to a start is the number of the process; ``collect`` waits for its end, ``end`` kills
whoever was not collected.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.engine.default import DefaultDialect

from tests.chaos import clock
from tests.chaos.gate import wait_at
from tests.house_rules.repository import ROOT

_PR_SET_PDEATHSIG = 1  # prctl(2)
SMALL = 5  # rows of a page, objects of a batch, accounts of a chunk: many transactions in a short run


class Phase(threading.local):
    """What goes on, in each thread: exports of several targets go on at once."""

    name = "begin"


class Events:
    """Counts and names; ``action`` is what happens at event ``at``, once."""

    def __init__(self, at: int | None, action: Callable[[str], None]) -> None:
        self.names: list[str] = []
        self._phase = Phase()
        self._at = at
        self._action = action
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.names.append(f"{self._phase.name}: {name}")
            its_turn = self._at is not None and len(self.names) >= self._at
            if its_turn:
                self._at = None
        if its_turn:
            self._action(self.names[-1])

    def around(self, owner: Any, name: str, *, phase: str | None = None) -> None:
        """An event before and after each call of ``owner.name``; ``phase`` is what goes on meanwhile."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            before = self._phase.name
            self._phase.name = phase or before
            self(f"before {name}")
            try:
                return original(*args, **kwargs)
            finally:
                self(f"after {name}")
                self._phase.name = before

        setattr(owner, name, counted)


def instrument(events: Events) -> None:
    """Put events everywhere, in this process alone."""
    import httpx2

    from identitymesh.connectors.facade import Facade
    from identitymesh.connectors.kinds.sql import source
    from identitymesh.runs import cycle, exports, imports
    from identitymesh.storage.exports import SqlExports

    event.listen(SqlEngine, "before_cursor_execute", lambda *args: events(" ".join(args[2].split()[:3])))
    events.around(DefaultDialect, "do_commit")
    events.around(httpx2.Client, "send")
    events.around(cycle, "import_objects", phase="import")
    events.around(imports._Import, "_store_these", phase="import")  # in its own thread
    events.around(cycle, "make_plan", phase="plan")
    events.around(cycle, "release", phase="release")
    events.around(SqlExports, "begin", phase="mark")
    for operation in ("create", "write", "remove"):
        events.around(Facade, operation, phase="call")
    events.around(SqlExports, "record", phase="record")
    for module, name in ((source, "PAGE"), (imports, "BATCH"), (exports, "CHUNK"), (exports, "LARGEST_CHUNK")):
        setattr(module, name, SMALL)


def kill(_event: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(order: dict[str, Any]) -> Events:
    """What an order says of this process: where it is killed or waits, and what else is other than usual."""
    gate = order.get("gate")
    events = Events(order.get("at") or order.get("kill"), functools.partial(wait_at, gate) if gate else kill)
    clock.install()
    clock.step(order.get("clock", 0))
    conditions(order)
    if not order.get("warm"):
        instrument(events)
    return events


def conditions(order: dict[str, Any]) -> None:
    """Patience as short as a test has it; leases and the name of the host as the order says."""
    from identitymesh.connectors import patience
    from identitymesh.runs import scheduler, service
    from identitymesh.storage import database
    from identitymesh.storage.leases import SqlLeases

    patience.FIRST_PAUSE = 0.05  # type: ignore[misc]
    scheduler.AGAIN = timedelta(seconds=0.5)  # type: ignore[misc]
    service.PAUSE = 0.2  # type: ignore[misc]
    database.BUSY_SECONDS = order.get("busy", database.BUSY_SECONDS)
    if seconds := order.get("lease"):
        SqlLeases.__init__.__kwdefaults__ = {"seconds": seconds}
    if name := order.get("host"):
        socket.gethostname = lambda: name


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Do the runs of an order; answers their ends, and the events of the first."""
    from identitymesh.composition import open_installation

    events = prepare(order) if not order.get("warm") else Events(None, kill)
    told = []
    with open_installation(Path(order["folder"])) as installation:
        for mode in order["runs"]:
            kind, _, connector = mode.partition(":")
            only = (connector,) if connector else ()
            report = installation.engine.run(delta=kind == "delta", connectors=only, progress=lambda *_: None)
            issues = [f"{one.connector} {one.subject} {one.code} {one.message}" for one in report.issues]
            told.append({"state": report.state, "rows": report.row_count, "issues": issues})
    return {"runs": told, "events": events.names if order.get("names") else []}


def _forked(order: dict[str, Any], answer: int) -> None:
    """The child's whole life."""
    from identitymesh.errors import MeshError

    try:
        content = carry_out(order)
    except BaseException as error:  # noqa: BLE001  whatever it is, the test must see it
        content = {"error": f"{type(error).__name__}: {error}", "in_words": isinstance(error, MeshError)}
    with os.fdopen(answer, "w", encoding="utf-8") as pipe:
        json.dump(content, pipe)
    os._exit(0)


def _served(order: dict[str, Any]) -> None:
    """A service's whole life; its runs are processes of :mod:`tests.chaos.worker`."""
    from identitymesh import serving
    from identitymesh.composition import open_installation

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(Path(order["folder"]) / "serve.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    order = {"gate": None} | order
    worker, own = (order | {"gate": None}, order) if order["who"] == "service" else (order, order | {"gate": None})
    os.environ["TESTS_CHAOS_ORDER"] = json.dumps(worker if worker["gate"] else worker | {"at": None})
    prepare(own if own["gate"] else own | {"at": None})
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.chaos.worker import main; sys.exit(main())"
    serving.CHILD = (sys.executable, "-c", start)  # type: ignore[misc, assignment]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with open_installation(Path(order["folder"]), quiet=False) as installation:
        serving.serve(installation, stop)
    os._exit(0)


def _serve(order: dict[str, Any]) -> None:
    try:
        _served(order)
    except BaseException:  # noqa: BLE001 - into its log
        traceback.print_exc()
    os._exit(1)


class Forked:
    """The processes that were started and not yet collected, with the ends of the pipes that they answer into."""

    def __init__(self) -> None:
        self._pipes: dict[int, int] = {}

    def start(self, order: dict[str, Any]) -> dict[str, Any]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            if order.get("serve"):
                os.close(writing)
                _serve(order)
            _forked(order, writing)
        os.close(writing)
        self._pipes[pid] = reading
        return {"pid": pid}

    def collect(self, pid: int) -> dict[str, Any]:
        """What it said, when it has come to its end."""
        with os.fdopen(self._pipes.pop(pid), encoding="utf-8") as pipe:
            content = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer: dict[str, Any] = json.loads(content) if content else {}
        answer["killed"] = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answer["status"] = os.waitstatus_to_exitcode(status)
        return answer

    def end(self) -> dict[str, Any]:
        """Kill whoever was not collected."""
        for pid in tuple(self._pipes):
            os.kill(pid, signal.SIGKILL)
            self.collect(pid)
        return {}


def main() -> None:
    """Fork for each order, and say later what became of it."""
    from identitymesh.connectors.catalogue import kinds

    for kind in kinds().values():
        assert kind.name
    clock.import_all()
    forked = Forked()
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("warm"):
            answer = carry_out(order)
        elif "collect" in order:
            answer = forked.collect(order["collect"])
        elif "end" in order:
            answer = forked.end()
        else:
            answer = forked.start(order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
