"""One timed pass in a process of its own: ``python -m identitymesh.benchmark FOLDER PASS``; prints JSON.

``make`` makes an installation with so many people in a file, on the database of a URL if one is given; ``first`` plans
everything, ``bare`` inserts the rows that this left once more, with the driver alone; ``done`` takes its exports as
done, ``unchanged`` reads the people again, ``rules`` applies a rule that concerns everybody and plans without reading
people, ``read`` reads only the two sides that a pass compares: the file, and the stored hashes.
"""

from __future__ import annotations

import csv
import gc
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from identitymesh.benchmark.bare import insert_again
from identitymesh.benchmark.company import FILE, company_of_files, take_exports_as_done
from identitymesh.composition import open_installation
from identitymesh.installation import Installation


def first(installation: Installation) -> None:
    installation.engine.plan(delta=False, connectors=(), progress=silent)


def unchanged(installation: Installation) -> None:
    installation.engine.plan(delta=False, connectors=("hr",), progress=silent)


def rules(installation: Installation) -> None:
    """The target alone is read, and it is empty."""
    installation.engine.plan(delta=False, connectors=("badges",), progress=silent)


def other_rules(installation: Installation) -> None:
    """What ``rules`` works with: every display name is another one."""
    _, text = installation.engine.definition() or (0, "")
    changed = text.replace('Concat([first], " ", [last])', 'Concat([last], ", ", [first])')
    if changed == text:
        raise RuntimeError("the rule that was to be changed is not there")
    installation.engine.apply(changed, source="bench", base=None, replace=True, release=False, allow_audience=())


def read(folder: Path) -> None:
    """No check, no document, no comparison: the least that must be read."""
    rows = 0
    with (folder / FILE).open(newline="", encoding="utf-8") as people:
        for _ in csv.reader(people):
            rows += 1
    connection = sqlite3.connect(folder / "identitymesh.db")
    stored = dict(connection.execute("SELECT key, digest FROM connector_object WHERE connector = 'hr'"))
    connection.close()
    if len(stored) != rows - 2:  # the names of the columns, and the closing row
        raise RuntimeError(f"{len(stored):,} objects are stored, and the file has {rows - 2:,}")


def main(place: str, name: str, *more: str) -> None:
    folder = Path(place)
    passes: dict[str, Callable[[Installation], None]] = {"first": first, "unchanged": unchanged, "rules": rules}
    alone: dict[str, Callable[[], float]] = {
        "make": lambda: timed(lambda: make(folder, *more)),
        "bare": lambda: insert_again(folder / "identitymesh.db", folder),
        "done": lambda: timed(lambda: take_exports_as_done(folder)),
        "read": lambda: timed(lambda: read(folder)),
    }
    if name in alone:
        gc.disable()  # as it is while the product reads
        spent = alone[name]()
    else:
        with open_installation(folder) as installation:
            _ = installation.engine  # loads what runs are made with: a part of the start, which is not timed
            if name == "rules":
                other_rules(installation)
            spent = timed(lambda: passes[name](installation))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": spent, "resident": resident}) + "\n")


def make(folder: Path, people: str, url: str | None = None) -> None:
    """An installation that has read nobody yet."""
    company_of_files(folder, int(people), database_url=url)


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def silent(phase: str, subject: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


if __name__ == "__main__":
    main(*sys.argv[1:])
