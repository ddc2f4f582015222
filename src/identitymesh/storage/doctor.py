"""What is wrong, or soon will be; every finding names the command that mends it. Looks, and changes nothing but notes.

A check that fails is a finding itself: one broken thing hides no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import MeshError, ProviderError
from identitymesh.runs.secret_usage import due, orphans, usage
from identitymesh.secrets.custody.service import KeyCustody
from identitymesh.secrets.migration.state import DRAIN
from identitymesh.secrets.migration.work import MigrationReport
from identitymesh.secrets.properties import SecretProperties
from identitymesh.secrets.rotation import RotationRow
from identitymesh.storage.backups import BACKUP
from identitymesh.storage.continuity import LOST_SLOT, Continuity
from identitymesh.storage.custody import SqlCustodyRows
from identitymesh.storage.database import Database
from identitymesh.storage.keeping import DRILL
from identitymesh.storage.overdue import unattended
from identitymesh.storage.tables.audit import audit

BACKUP_AGE: Final = timedelta(days=7)
DRILL_AGE: Final = timedelta(days=90)
CLOCK_SKEW: Final = timedelta(minutes=2)
STALE_SINCE: Final = timedelta(days=1)
STALLED: Final = timedelta(hours=1)
OPEN_TO_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be mended. ``code`` is stable; ``command`` is what to run, or to do."""

    code: str
    message: str
    command: str


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    database: Database
    database_file: Path | None
    host: Path
    keys: KeyCustody
    secrets: Callable[[], Sequence[SecretProperties]]
    connectors: Callable[[], Sequence[ConnectorDefinition]]
    rotations: Callable[[], Sequence[RotationRow]]
    migration: Callable[[], MigrationReport | None]
    continuity: Continuity
    check_provider: Callable[[], None]
    told: Sequence[str]  # what opening it had to say: a provider that differs


def examine(patient: Patient) -> Sequence[Finding]:
    """Every finding."""
    found: list[Finding] = [
        Finding("settings", told, "identitymesh secrets list, then correct identitymesh.toml") for told in patient.told
    ]
    around_keys = (_keyrings, _slots, _rows, _lost_slots, _provider, _secrets, _rotations, _migration)
    for check in (*around_keys, _files, _backups, _pause, _schedules, _clock):
        try:
            found += check(patient)
        except MeshError as error:
            found.append(Finding(error.code, str(error), error.hint or "identitymesh keys status"))
    return found


def _keyrings(patient: Patient) -> Iterator[Finding]:
    status = patient.keys.status()
    for one in status.keyrings:
        if one.problem:
            yield Finding("keyring-closed", one.problem, one.hint or "identitymesh keys join")
        if one.anchor_problem:
            yield Finding("anchor", one.anchor_problem, "identitymesh keys join")
        if one.rotation is not None and not one.rotation.working:
            message = f"keyring {one.keyring}: a rotation of its keys has stopped ({one.rotation.reason})"
            yield Finding("key-rotation-open", message, f"identitymesh keys rotate {one.keyring}")
    if not status.sheet_verified:
        message = "this host trusts its keyrings without a comparison with the recovery sheet"
        yield Finding("sheet-unverified", message, "identitymesh keys join --fingerprint F")


def _slots(patient: Patient) -> Iterator[Finding]:
    """Each slot within reach is really opened, in a fresh process."""
    results = patient.keys.open_test()
    for one in results:
        if one.problem and one.slot:  # else the keyring itself does not open, which is a finding already
            yield Finding("slot-does-not-open", f"keyring {one.keyring}: {one.problem}", "identitymesh keys status")


def _rows(patient: Patient) -> Iterator[Finding]:
    status = {one.keyring: one for one in patient.keys.status().keyrings}
    with SqlCustodyRows(patient.database).read() as view:
        for name, one in status.items():
            primary = [int(key.split()[0]) for key in one.data_keys if key.endswith(" primary")]
            total, by_key = view.sealed_numbers(name)
            old = total - by_key.get(primary[0], 0) if primary else 0
            if old and one.rotation is None:
                message = f"keyring {name}: {old} sealed values are not under its primary key"
                yield Finding("rows-not-on-primary", message, f"identitymesh keys rotate {name}")


def _files(patient: Patient) -> Iterator[Finding]:
    if os.name != "posix":
        return
    places = [(patient.host, 0o700)]
    if patient.database_file is not None:
        file = patient.database_file
        places += [(file.with_name(file.name + ending), 0o600) for ending in ("", "-wal")]
    for path, wanted in places:
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & OPEN_TO_OTHERS:
            mode = stat.S_IMODE(path.stat().st_mode)
            yield Finding("mode", f"{path} is open to other users (mode {mode:04o})", f"chmod {wanted:04o} {path}")


def _backups(patient: Patient) -> Iterator[Finding]:
    events, now = patient.continuity.events(), datetime.now(UTC)
    made, tried = events.get(BACKUP), events.get(DRILL)
    create = "identitymesh backup create --to FILE"
    if made is None:
        yield Finding("no-backup", "no backup was made yet", create)
    elif now - made.at > BACKUP_AGE:
        yield Finding("backup-old", f"the newest backup is of {made.at:%Y-%m-%d}", create)
    elif not Path(str(made.detail["file"])).is_file():
        yield Finding("backup-gone", f"the newest backup, {made.detail['file']}, is not there any more", create)
    if tried is None:
        yield Finding(
            "no-drill", "nobody has tried yet whether the recovery key brings back a backup", "identitymesh drill"
        )
    elif now - tried.at > DRILL_AGE:
        yield Finding("drill-old", f"the last drill was on {tried.at:%Y-%m-%d}", "identitymesh drill")


def _pause(patient: Patient) -> Iterator[Finding]:
    pause = patient.continuity.pause()
    if pause is not None:
        message = f"nothing runs since {pause.since:%Y-%m-%d %H:%M} UTC: {pause.reason}"
        yield Finding("paused", message, "identitymesh resume")


def _lost_slots(patient: Patient) -> Iterator[Finding]:
    listed = {slot.id for one in patient.keys.status().keyrings for slot in one.slots}
    for name, event in patient.continuity.events().items():
        slot = name.removeprefix(LOST_SLOT)
        if name.startswith(LOST_SLOT) and slot in listed:
            what = f"{event.detail['label']} ({event.detail['type']})"
            message = f"keyring {event.detail['keyring']}: the slot {what} was perhaps lost with its host"
            yield Finding("lost-slot", message, f"identitymesh keys slots remove {slot}")


def _provider(patient: Patient) -> Iterator[Finding]:
    """The active provider is really asked; what it says against that is a finding with its own words."""
    try:
        patient.check_provider()
    except ProviderError as error:
        yield Finding(error.code, str(error), error.hint or "docs/howto/azure-key-vault.md")
    since = datetime.now(UTC) - STALE_SINCE
    stale = (audit.c.at > since) & audit.c.action.in_(["secret.open", "secret.reveal"])
    query = select(func.count()).where(stale & audit.c.payload.contains('"stale_seconds"'))
    with patient.database.read() as connection:
        count = connection.scalar(query)
    if count:
        message = f"{count} openings since {since:%Y-%m-%d %H:%M} UTC used values of a vault that did not answer"
        yield Finding("served-stale", message, "see to the vault, then: identitymesh doctor")


def _secrets(patient: Patient) -> Iterator[Finding]:
    secrets = patient.secrets()
    for one in secrets:
        if one.problem:
            yield Finding("audience", one.problem, f"identitymesh apply FILE --allow-audience {one.ref}")
    for late in due(secrets, datetime.now(UTC), timedelta()):
        message = f"{late.ref} should have been changed on {late.due:%Y-%m-%d}"
        yield Finding("rotation-overdue", message, f"identitymesh secrets rotate {late.ref}")
    for orphan in orphans(usage(secrets, patient.connectors())):
        if orphan.state == "missing":
            users = ", ".join(sorted({use.connector for use in orphan.uses}))
            message = f"{orphan.ref} is named by {users}, but not stored"
            yield Finding("secret-missing", message, f"identitymesh secrets set {orphan.ref}")
        else:
            yield Finding("secret-unused", f"nothing uses {orphan.ref}", f"identitymesh secrets delete {orphan.ref}")


def _rotations(patient: Patient) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for one in patient.rotations():
        if one.open and now - one.changed > STALLED:
            message = f"{one.ref}: a rotation is open since {one.started:%Y-%m-%d %H:%M} UTC"
            yield Finding("rotation-open", message, f"identitymesh secrets rotate {one.ref}")
        elif one.retire_at is not None and one.retire_at <= now:
            yield Finding("retire-due", f"{one.ref}: its old value can be destroyed", "identitymesh secrets retire")


def _schedules(patient: Patient) -> Iterator[Finding]:
    scheduled = any(one.settings.schedule or one.settings.full_schedule for one in patient.connectors())
    for found in unattended(patient.database, scheduled=scheduled, now=datetime.now(UTC)):
        yield Finding(*found)


def _migration(patient: Patient) -> Iterator[Finding]:
    one = patient.migration()
    if one is None:
        return
    way = f"the migration of secrets from {one.source} to {one.target}"
    if one.state != DRAIN:
        message = f"{way} is not over: {one.copied} of {one.versions} versions copied, state {one.state}"
        yield Finding("migration-open", message, "identitymesh secrets migrate")
        return
    if one.fallbacks:
        message = f"{way}: {one.source} was asked {one.fallbacks} times for what {one.target} does not have"
        yield Finding("migration-fallback", message, "identitymesh secrets verify")
    message = f"{way} drains since the cut over: {one.source} still has every value"
    yield Finding("migration-drains", message, "identitymesh secrets migrate --scrub")


def _clock(patient: Patient) -> Iterator[Finding]:
    now = datetime.now(UTC)
    with patient.database.read() as connection:
        latest = connection.scalar(select(func.max(audit.c.at)))
        theirs = connection.scalar(select(func.clock_timestamp())) if patient.database.dialect == "postgresql" else now
    if latest is not None and latest > now + CLOCK_SKEW:
        message = f"the clock of this host is behind: something was recorded at {latest:%Y-%m-%d %H:%M} UTC"
        yield Finding("clock", message, "set the clock, then: identitymesh doctor")
    if theirs is not None and abs(theirs - now) > CLOCK_SKEW:
        message = f"the clocks of this host and of the database differ by {abs(theirs - now)}"
        yield Finding("clock", message, "set the clock, then: identitymesh doctor")
