"""What has to be at the target before it can be used: decided from the ledger, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.migration.state import DRAIN, SCRUB, ItemRow, MigrationRow, MigrationView
from identitymesh.secrets.rotation import RotationRow
from identitymesh.secrets.rows import LedgerRow


@dataclass(frozen=True, slots=True)
class Need:
    """One version at the source. ``pending`` ones are written so that nobody takes them for current."""

    ref: str
    version: str
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How far it is: what the target lacks, what is not compared yet, and what it has too much."""

    needs: Sequence[Need]
    missing: Sequence[Need]
    unverified: Sequence[tuple[Need, ItemRow]]
    stale: Sequence[ItemRow]

    @property
    def ready(self) -> bool:
        """Whether the ledger could name the target's versions now."""
        return not self.missing and not self.unverified


def needed(ledger: Iterable[LedgerRow], rotations: Mapping[str, RotationRow]) -> Sequence[Need]:
    """Of each ref the old version that a rotation still keeps, the current one and the pending one, in this order."""
    found: list[Need] = []
    for row in ledger:
        if row.keyring != CONNECTORS:
            continue  # those of the application stay in the database
        rotation = rotations.get(row.ref)
        if rotation is not None and rotation.old_version not in (row.current_version, row.pending_version):
            found.append(Need(row.ref, rotation.old_version))
        if row.current_version is not None:
            found.append(Need(row.ref, row.current_version))
        if row.pending_version is not None:
            found.append(Need(row.ref, row.pending_version, pending=True))
    return found


def standing(view: MigrationView, migration: MigrationRow) -> Standing:
    """Compare what is needed with what was copied, in one snapshot. Past the cut over the ledger names the target."""
    own = target_version if migration.state in (DRAIN, SCRUB) else source_version
    rotations = {one.ref: one for one in view.rotations()}
    ledger = view.ledger()
    needs = needed((ledger[ref] for ref in sorted(ledger)), rotations)
    items = {(item.ref, own(item, migration)): item for item in view.items()}
    missing, unverified = [], []
    for need in needs:
        item = items.pop((need.ref, need.version), None)
        if item is None or item.pending != need.pending:
            missing.append(need)
        elif not item.verified:
            unverified.append((need, item))
    # What was current and has been replaced since is history at both; the rest is taken away again.
    stale = [item for item in items.values() if item.pending or item.ref not in ledger]
    return Standing(needs, missing, unverified, stale)


def source_version(item: ItemRow, migration: MigrationRow) -> str:
    return item.second_version if migration.back else item.first_version


def target_version(item: ItemRow, migration: MigrationRow) -> str:
    return item.first_version if migration.back else item.second_version
