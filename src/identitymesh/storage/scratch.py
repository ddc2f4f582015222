"""A copy of the mesh to try rules on: a SQLite file of its own, gone afterwards, whatever the database is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import insert, select

from identitymesh.runs.preview import ScratchParts
from identitymesh.storage.database import Database, open_database
from identitymesh.storage.leases import SqlLeases, process_start
from identitymesh.storage.mesh import SqlMesh
from identitymesh.storage.plans import SqlPlans
from identitymesh.storage.runs import SqlDefinitions, SqlRuns
from identitymesh.storage.tables import every_table
from identitymesh.storage.tables import mesh as m
from identitymesh.storage.tables import runs as r

_COPIED = (
    m.identity,
    m.connector_object,
    m.waiting_key,
    m.join_key,
    m.reserved_value,
    m.target_value,
    m.review_item,
    m.account,
    r.import_state,
    r.released,
    r.target_gate,
)
_PREFIX = ".preview-"
_ROWS = 2_000


@contextmanager
def scratch(database: Database, folder: Path) -> Iterator[ScratchParts]:
    """Copy what previews need into a private folder (mode 0700) below ``folder``; it is removed at the end."""
    _sweep(folder)
    place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder))
    copy = open_database(f"sqlite:///{place / 'mesh.db'}")
    try:
        every_table().create_all(copy.engine)
        _copy(database, copy)
        yield ScratchParts(SqlMesh(copy), SqlPlans(copy), SqlRuns(copy), SqlLeases(copy), SqlDefinitions(copy))
    finally:
        copy.close()
        shutil.rmtree(place, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the copies of processes that were killed: they hold people's data."""
    for left in folder.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and process_start(int(pid)) is None:
            shutil.rmtree(left, ignore_errors=True)


def _copy(source: Database, target: Database) -> None:
    with source.read() as reading, target.write() as writing:
        for table in _COPIED:
            rows = reading.execution_options(yield_per=_ROWS).execute(select(table))
            for some in rows.mappings().partitions(_ROWS):
                writing.execute(insert(table), [dict(row) for row in some])
