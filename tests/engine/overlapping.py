"""Exports that end themselves with SIGKILL while one chunk is sent, and another recorded or marked; forked."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from identitymesh.composition import open_installation
from identitymesh.connectors.facade import Facade
from identitymesh.runs import exports
from identitymesh.storage.exports import SqlExports
from tests.forks import serve

from .world import silent

CHUNK = 4
SENT = 2 * CHUNK + 2  # two chunks, and half of the third


def child(order: dict[str, Any], _answer: int) -> None:
    """``moment``: *recording* while the second chunk waits to be recorded, *marking* once the fourth is marked."""
    exports.CHUNK = exports.LARGEST_CHUNK = CHUNK
    marked = threading.Event()
    begin, record, create_many = SqlExports.begin, SqlExports.record, Facade.create_many
    counts = {"begin": 0, "record": 0, "sent": 0}

    def begin_counted(*given: Any, **named: Any) -> Any:
        found = begin(*given, **named)
        counts["begin"] += 1
        if counts["begin"] == 4:
            marked.set()
        return found

    def record_counted(*given: Any, **named: Any) -> Any:
        counts["record"] += 1
        if counts["record"] == 2 and order["moment"] == "recording":
            threading.Event().wait()  # until the end
        return record(*given, **named)

    def create_counted(*given: Any) -> Any:
        for outcome in create_many(*given):
            counts["sent"] += 1
            if counts["sent"] == SENT:
                assert order["moment"] == "recording" or marked.wait(60)
                os.kill(os.getpid(), signal.SIGKILL)
            yield outcome

    SqlExports.begin, SqlExports.record = begin_counted, record_counted  # type: ignore[method-assign]
    Facade.create_many = create_counted  # type: ignore[method-assign, assignment]
    with open_installation(Path(order["folder"])) as installation:
        installation.engine.run(delta=False, connectors=(), progress=silent)
    os._exit(0)


if __name__ == "__main__":
    serve(child)
