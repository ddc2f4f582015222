"""A process that is killed, without a process: at a statement everything stops, and only what the disk has stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text

from identitymesh.storage.database import open_database

from .world import World


class Killed(BaseException):
    """Nothing handles this."""


class Killing:
    """Kills at the ``step``-th statement or commit of ``world``; its lease threads do not count."""

    def __init__(self, world: World, step: int) -> None:
        self._world = world
        self._step = step
        self._lock = threading.Lock()
        self._left: dict[str, bytes] | None = None

    def __call__(self, action: Callable[[], object]) -> bool:
        """Do it until it is killed; whether it was. Afterwards the world is as after a start of another process."""
        engine = self._world.database.engine
        for name in ("before_cursor_execute", "commit"):
            event.listen(engine, name, self._count)
        for directory in self._world.directories.values():
            directory.before = self._call
        try:
            action()
        except Killed:
            pass
        finally:
            for name in ("before_cursor_execute", "commit"):
                event.remove(engine, name, self._count)
            for directory in self._world.directories.values():
                directory.before = None
        if self._left is None:
            return False
        self._start_again(self._left)
        return True

    def _count(self, *_: Any) -> None:
        if threading.current_thread().name.startswith("lease-"):
            return
        with self._lock:
            self._step -= 1
            if self._step == 0:
                self._left = {path.name: path.read_bytes() for path in self._files() if path.exists()}
        if self._left is not None:
            raise Killed

    def _call(self, _operation: str, _key: str) -> None:
        if self._left is not None:
            raise Killed

    def _files(self) -> list[Any]:
        return [self._world.folder / name for name in ("mesh.db", "mesh.db-wal", "mesh.db-shm")]

    def _start_again(self, left: dict[str, bytes]) -> None:
        world = self._world
        world.database.close()
        for path in self._files():
            path.unlink(missing_ok=True)
            if path.suffix != ".db-shm" and path.name in left:
                path.write_bytes(left[path.name])
        world.database = open_database(f"sqlite:///{world.folder / 'mesh.db'}")
        world.engine = world.another_engine()
        with world.database.write() as connection:  # its process is gone
            connection.execute(text("UPDATE lease SET until = '2000-01-01 00:00:00'"))
