"""Runs that kill themselves: a small server of processes, started once, that forks a fresh process for each order.

An order is a line of JSON on standard input, its answer one on standard output. Every step that changes something, or
stands between two that do, is an event: each statement for a database, both sides of each commit, of each HTTP
request and of each call of the facade. With ``kill`` the process ends itself with SIGKILL at that event. With ``warm``
the server does the runs itself, unobserved, so that the processes begin with everything imported and read.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.engine.default import DefaultDialect

SMALL = 5  # rows of a page, objects of a batch, accounts of a chunk: many transactions in a short run


class Events:
    """Counts, names and, when it is time, ends."""

    def __init__(self, kill: int | None) -> None:
        self.names: list[str] = []
        self.phase = "begin"
        self._kill = kill
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.names.append(f"{self.phase}: {name}")
            if self._kill is not None and len(self.names) >= self._kill:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, *, phase: str | None = None) -> None:
        """An event before and after each call of ``owner.name``; ``phase`` is what goes on meanwhile."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            before = self.phase
            self.phase = phase or before
            self(f"before {name}")
            try:
                return original(*args, **kwargs)
            finally:
                self(f"after {name}")
                self.phase = before

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
    events.around(cycle, "make_plan", phase="plan")
    events.around(cycle, "release", phase="release")
    events.around(SqlExports, "begin", phase="mark")
    for operation in ("create", "write", "remove"):
        events.around(Facade, operation, phase="call")
    events.around(SqlExports, "record", phase="record")
    for module, name in ((source, "PAGE"), (imports, "BATCH"), (exports, "CHUNK"), (exports, "LARGEST_CHUNK")):
        setattr(module, name, SMALL)


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Do the runs of an order; answers their ends, and the events of the first."""
    from identitymesh.composition import open_installation

    events = Events(order.get("kill"))
    if not order.get("warm"):
        instrument(events)
    told = []
    with open_installation(Path(order["folder"])) as installation:
        for mode in order["runs"]:
            report = installation.engine.run(delta=mode == "delta", connectors=(), progress=lambda *_: None)
            issues = [f"{one.connector} {one.subject} {one.code} {one.message}" for one in report.issues]
            told.append({"state": report.state, "rows": report.row_count, "issues": issues})
    return {"runs": told, "events": events.names if order.get("names") else []}


def _forked(order: dict[str, Any], answer: int) -> None:
    """The child's whole life."""
    try:
        content = carry_out(order)
    except BaseException as error:  # noqa: BLE001  whatever it is, the test must see it
        content = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(answer, "w", encoding="utf-8") as pipe:
        json.dump(content, pipe)
    os._exit(0)


def main() -> None:
    """Fork for each order, wait, and say what became of it."""
    from identitymesh.connectors.catalogue import kinds

    for kind in kinds().values():
        assert kind.name
    for line in sys.stdin:
        order = json.loads(line)
        if order["warm"]:
            sys.stdout.write(json.dumps(carry_out(order)) + "\n")
            sys.stdout.flush()
            continue
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _forked(order, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            content = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = json.loads(content) if content else {}
        answer["killed"] = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
