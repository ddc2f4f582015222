"""What `identitymesh serve` does until it is told to stop: the scheduler's ticks, and a sign of life."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from typing import Final

from identitymesh.errors import MeshError
from identitymesh.runs.scheduler import Scheduler
from identitymesh.runs.schedules import ScheduleStore

PAUSE: Final = 1.0  # seconds between two looks at what is due
BEAT: Final = 10.0  # seconds between two signs of life

_log = logging.getLogger("identitymesh.service")

Notify = Callable[[str], None]


def notifier(address: str | None) -> Notify:
    """Tells the service manager how it goes, as sd_notify(3) does; nobody is told where there is none."""

    def tell(state: str) -> None:
        if not address:
            return
        place = "\0" + address[1:] if address.startswith("@") else address
        with suppress(OSError), closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as made:
            made.settimeout(1.0)  # a manager that does not listen holds nobody up
            made.connect(place)
            made.send(state.encode())

    return tell


class Service:
    """One `serve`. ``patience``: seconds that running children have to come to their end when it stops."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: ScheduleStore,
        *,
        clock: Callable[[], datetime],
        notify: Notify,
        patience: float,
        pulse: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._clock = clock
        self._notify = notify
        self._patience = patience
        self._pulse = pulse
        self._beaten = float("-inf")
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set.

        Raises:
            StorageError: the database cannot be used when it starts. Later that is waited out.
        """
        self._store.seen(self._clock())
        _log.info("service started")
        try:
            self.once()
            self._notify("READY=1\nSTATUS=waiting for what is due")
            while not stop.wait(PAUSE):
                self.once()
        finally:
            self._notify("STOPPING=1")
            self._stop()

    def once(self) -> None:
        """One look at what is due. What the database refuses is said once, and tried again the next time."""
        try:
            if self._pulse() - self._beaten >= BEAT:
                self._notify("WATCHDOG=1")
                self._beaten = self._pulse()
                self._store.seen(self._clock())
            self._scheduler.tick()
        except MeshError as error:
            if error.message != self._trouble:
                _log.error("the scheduler waits", extra={"code": error.code, "problem": error.message})
            self._trouble = error.message
        else:
            if self._trouble:
                _log.info("the scheduler goes on")
            self._trouble = ""

    def _stop(self) -> None:
        _log.info("service stops", extra={"seconds": self._patience})
        try:
            self._scheduler.stop(self._patience)
            self._store.gone(self._clock())
        except MeshError as error:  # the leases run out by themselves
            _log.warning("the end could not be recorded", extra={"code": error.code, "problem": error.message})
        _log.info("service stopped")
