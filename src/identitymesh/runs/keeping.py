"""Holds a lease for as long as work goes on, renewing it in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from identitymesh.errors import Busy, LeaseLost, MeshError
from identitymesh.lease import Lease
from identitymesh.runs.contract import LeaseStore

RENEWALS_PER_LIFE = 3


def wait_for(leases: LeaseStore, name: str, purpose: str, *, patience: float, waiting: Callable[[str], None]) -> Lease:
    """Take a lease, waiting up to ``patience`` seconds for one whose holder may just have died.

    Raises:
        Busy: the holder lives on.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return leases.acquire(name, purpose)
        except Busy as busy:
            if time.monotonic() >= deadline:
                raise
            waiting(str(busy))
            time.sleep(min(0.5, patience))


@contextmanager
def kept(leases: LeaseStore, lease: Lease) -> Iterator[Lease]:
    """Renew ``lease`` until the block ends, then give it back.

    A lease that was taken over is noticed by the next transaction that names its fence; the thread only ends.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(leases, lease, stop), name=f"lease-{lease.name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        with suppress(MeshError):  # it runs out by itself
            leases.release(lease)


def _renew(leases: LeaseStore, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(leases.seconds / RENEWALS_PER_LIFE):
        try:
            leases.renew(lease)
        except LeaseLost:
            return
        except MeshError:
            continue  # a locked or restarting database: the next try may be in time
