"""Copies versions to the target and compares them there. Values are read, written, compared; none is kept or shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from identitymesh.errors import MeshError, MigrationRefused, ProviderError, SecretError, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.lookup import Followed
from identitymesh.secrets.migration.needs import Need, target_version
from identitymesh.secrets.migration.state import ItemRow, MigrationRow, MigrationRows, MigrationTransaction
from identitymesh.secrets.providers import Change, Found, Provider, Wanted, wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.sealing import check_value
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import hold_keyring

SHOWN: Final = 5


class Pace:
    """Lets calls through at most so often: ``per_second`` 0 is as often as they come. For several threads."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until the next call may be made."""
        if not self._gap:
            return
        with self._lock:
            now = self._clock()
            at = max(now, self._next)
            self._next = at + self._gap
        self._sleep(at - now)


@dataclass(frozen=True, slots=True)
class Sides:
    """Where values come from and go to, and how hard they may be asked."""

    rows: MigrationRows
    store: SecretStore
    source: Provider
    target: Provider
    pace: Pace
    workers: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the source had: values by need, what its own current version turned out to be, and what does not open."""

    values: Mapping[Need, Secret]
    followed: Sequence[Followed]
    failed: Mapping[Need, SecretError]
    session: KeyringSession


def read_source(sides: Sides, needs: Sequence[Need]) -> Reading:
    """Open these versions at the source. A need that is not the ledger's any more is left out of the answer."""
    with sides.rows.read() as view:
        session = sides.store.session(view)
        ledger = view.ledger({need.ref for need in needs})
        asked: dict[Need, Wanted] = {}
        for need in needs:
            row = ledger.get(need.ref)
            if row is not None:
                current = wanted(row) if need.version == row.current_version else None
                asked[need] = current or Wanted(need.ref, need.version)
        here = sides.source.look(view, list(asked.values()), session)
    found = sides.source.fetch(list(asked.values()), here)
    values: dict[Need, Secret] = {}
    failed: dict[Need, SecretError] = {}
    followed: list[Followed] = []
    for need, item in asked.items():
        held = found[item]
        try:
            if isinstance(held, SecretError):
                raise held
            value = held.open()
            check_value(value, need.ref)
        except SecretError as error:
            failed[need] = error
            continue
        if held.version == need.version:
            values[need] = value
        else:  # its operators have set another one: the ledger is told, and that one is needed then
            followed.append(Followed(need.ref, need.version, held.version, held.outside))
    return Reading(values, followed, failed, session)


def write_target(sides: Sides, reading: Reading) -> Sequence[tuple[Need, Change]]:
    """Write values to the target: several refs at once where it is remote, the versions of one ref in their order.

    Raises:
        ProviderError: the first that was not written. The others of this call may have been; they are written again.
    """

    def one_ref(needs: Iterable[Need]) -> list[tuple[Need, Change]]:
        done = []
        for need in needs:
            sides.pace.wait()
            ref = SecretReference(need.ref)
            change = sides.target.put(ref, reading.values[need], CONNECTORS, reading.session, pending=need.pending)
            done.append((need, change))
        return done

    refs = [list(group) for _ref, group in groupby(reading.values, key=lambda need: need.ref)]
    if not sides.target.remote or len(refs) < 2:
        return [pair for needs in refs for pair in one_ref(needs)]
    with ThreadPoolExecutor(min(sides.workers, len(refs))) as pool:
        return [pair for pairs in pool.map(one_ref, refs) for pair in pairs]


def record_copies(
    transaction: MigrationTransaction, migration: MigrationRow, reading: Reading, changes: Sequence[tuple[Need, Change]]
) -> None:
    """In the transaction of the batch: what was written becomes what the other provider has, too.

    Raises:
        KeyringConflict: the keyring changed since the values were sealed for it.
    """
    document = reading.session.open(CONNECTORS)
    hold_keyring(transaction, CONNECTORS, document)
    before = {
        (item.ref, item.second_version if migration.back else item.first_version): item
        for item in transaction.items({need.ref for need, _change in changes})
    }
    transaction.forget_items(
        [found for need, _change in changes if (found := before.get((need.ref, need.version))) is not None]
    )
    items = []
    for need, change in changes:
        version = change.record(transaction)
        first, second = (version, need.version) if migration.back else (need.version, version)
        items.append(ItemRow(need.ref, first, second, pending=need.pending))
    transaction.put_items(items)


def compare(
    sides: Sides, migration: MigrationRow, pairs: Sequence[tuple[Need, ItemRow]]
) -> tuple[Sequence[ItemRow], Sequence[ItemRow], Sequence[Followed]]:
    """Open both sides of each pair: items that are equal, items to be copied again, and what the source follows now.

    Raises:
        ProviderError: a provider does not answer.
    """
    reading = read_source(sides, [need for need, _item in pairs])
    asked = {item: Wanted(item.ref, target_version(item, migration)) for _need, item in pairs}
    theirs = _open_all(sides, list(asked.values()))
    equal: list[ItemRow] = []
    again: list[ItemRow] = []
    for need, item in pairs:
        value, other = reading.values.get(need), theirs[asked[item]]
        if isinstance(other, MeshError) and not isinstance(other, SecretMissing):
            raise other
        failed = reading.failed.get(need)
        if isinstance(failed, ProviderError):
            raise failed
        if isinstance(failed, SecretMissing) and isinstance(other, Secret):
            equal.append(replace(item, verified=True))  # lost at the source; where it goes is the only one left
        elif failed is not None:
            raise refuse_unreadable({need: failed}, sides.source.name)
        elif value is not None and other == value:
            equal.append(replace(item, verified=True))
        elif value is not None:
            again.append(item)
    return equal, again, reading.followed


def _open_all(sides: Sides, asked: Sequence[Wanted]) -> Mapping[Wanted, Secret | MeshError]:
    with sides.rows.read() as view:
        here: Found = sides.target.look(view, asked, sides.store.session(view))
    opened: dict[Wanted, Secret | MeshError] = {}
    for item, held in sides.target.fetch(asked, here).items():
        try:
            opened[item] = held if isinstance(held, SecretError) else held.open()
        except SecretError as error:
            opened[item] = error
    return opened


def refuse_unreadable(failed: Mapping[Need, SecretError], source: str) -> MigrationRefused:
    """What the source does not open cannot be moved, and is not left behind in silence."""
    names = sorted({need.ref for need in failed})
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    first = next(iter(failed.values()))
    return MigrationRefused(
        f"{len(names)} secrets do not open in {source}: {shown}; the first says: {first}",
        hint=f"Set these again or delete them (identitymesh secrets set {names[0]}), then run the command again.",
    )
