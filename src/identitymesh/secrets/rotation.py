"""Rotation of one credential: its states, and the transactions between them. No connector is known here.

::

    (none) --begin--> pending --changing--> changing --switch--> switched --retire--> (none)
                         |                     |
                         +-------drop----------+      the old version was never anything but current

``pending``: the new value is stored beside the current one. ``changing``: the server may have been given it, so
either may be valid there. ``switched``: the new one is current, the old one is kept until it is retired. Each arrow is
one transaction with its audit record, so a kill leaves a state from which the same command carries on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from identitymesh.audit import Record
from identitymesh.errors import KeyringConflict, RotationRefused, SecretError, SecretRefused, UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import CONNECTORS
from identitymesh.secrets.openings import missing
from identitymesh.secrets.providers import PINNED, Change, Provider, wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import LedgerRow, SecretRows, SecretTransaction, SecretView
from identitymesh.secrets.sealing import check_value
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import again, assert_provider, hold_keyring, installation

PENDING: Final = "pending"
CHANGING: Final = "changing"
SWITCHED: Final = "switched"


@dataclass(frozen=True, slots=True)
class RotationRow:
    """One rotation as stored."""

    ref: str
    state: str
    old_version: str
    new_version: str
    at_server: bool
    retire_days: int
    actor: str
    started: datetime
    changed: datetime
    retire_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether it still has to be decided which version is used."""
        return self.state in (PENDING, CHANGING)


@dataclass(frozen=True, slots=True)
class Retired:
    """Old versions of one ref that were destroyed."""

    ref: str
    versions: tuple[str, ...]


class RotationView(SecretView, Protocol):
    """A snapshot that knows rotations."""

    def rotation(self, ref: str) -> RotationRow | None: ...

    def rotations(self) -> Sequence[RotationRow]: ...


class RotationTransaction(SecretTransaction, RotationView, Protocol):
    """A write transaction that knows rotations."""

    def put_rotation(self, row: RotationRow) -> None:
        """Insert or replace the rotation of a ref."""

    def delete_rotation(self, ref: str) -> None: ...


class RotationRows(SecretRows, Protocol):
    """Opens snapshots and transactions."""

    def read(self) -> AbstractContextManager[RotationView]: ...

    def write(self) -> AbstractContextManager[RotationTransaction]: ...


class Rotations:
    """Moves rotations from state to state."""

    def __init__(self, rows: RotationRows, store: SecretStore) -> None:
        self._rows = rows
        self._store = store

    def find(self, ref: SecretReference) -> RotationRow | None:
        """The rotation of a ref, open or waiting to be retired."""
        with self._rows.read() as view:
            return view.rotation(ref.text)

    def list(self) -> Sequence[RotationRow]:
        """All of them, by ref."""
        with self._rows.read() as view:
            return view.rotations()

    def begin(
        self, ref: SecretReference, value: Secret, *, at_server: bool, retire_days: int, actor: str
    ) -> RotationRow:
        """Store the new value as pending, beside the current one.

        Raises:
            SecretMissing: nothing is stored that could be rotated.
            UsageError: a rotation is open already.
            SecretRefused: the value is empty, too large, or the one that is stored.
        """
        check_value(value, ref.text)
        if self._store.same_as_current(ref, value):
            raise SecretRefused(
                f"{ref}: the new value is the one that is stored", hint="Nothing was changed. Give another one."
            )
        return again(lambda: self._begin(ref, value, actor, at_server=at_server, retire_days=retire_days))

    def _begin(
        self, ref: SecretReference, value: Secret, actor: str, *, at_server: bool, retire_days: int
    ) -> RotationRow:
        with self._rows.read() as view:
            session = self._store.session(view)
            active = installation(view).provider
            known = view.ledger([ref.text]).get(ref.text)
        if known is None:
            raise missing(ref.text)
        document = session.open(known.keyring)
        change = self._store.providers.of(known.keyring, active).put(ref, value, known.keyring, session, pending=True)
        now = datetime.now(UTC)
        with self._rows.write() as transaction:
            hold_keyring(transaction, known.keyring, document)
            row = transaction.lock_ledger(ref.text)
            if row is None or row.current_version is None:
                raise missing(ref.text)
            assert_provider(transaction, known.keyring, self._store.providers.of(known.keyring, active))
            open_one = transaction.rotation(ref.text)
            if open_one is not None and open_one.open:
                raise UsageError(f"{ref}: a rotation is open already", hint=f"identitymesh secrets rotate {ref}")
            version = change.record(transaction)
            transaction.put_ledger(replace(row, pending_version=version))
            rotation = RotationRow(
                ref.text, PENDING, row.current_version, version, at_server, retire_days, actor, now, now
            )
            transaction.put_rotation(rotation)
            payload = {"old": rotation.old_version, "new": version, "at_server": at_server}
            transaction.audit([Record("secret.rotate-begin", ref.text, actor, payload=payload)])
        return rotation

    def changing(self, rotation: RotationRow, actor: str) -> RotationRow:
        """From now on either version may be valid at the server."""
        changed = replace(rotation, state=CHANGING, changed=datetime.now(UTC))
        with self._rows.write() as transaction:
            _still(transaction, rotation)
            transaction.put_rotation(changed)
            payload = {"new": rotation.new_version}
            transaction.audit([Record("secret.rotate-at-server", rotation.ref, actor, payload=payload)])
        return changed

    def switch(self, rotation: RotationRow, actor: str) -> RotationRow:
        """The new version is current from now on, if the old one still was.

        Raises:
            RotationRefused: somebody stored another value meanwhile; the pending one is kept.
        """
        now = datetime.now(UTC)
        retire_at = now + timedelta(days=rotation.retire_days)
        switched = replace(rotation, state=SWITCHED, changed=now, retire_at=retire_at)
        with self._rows.write() as transaction:
            row = transaction.lock_ledger(rotation.ref)
            _still(transaction, rotation)
            if row is None or (row.current_version, row.pending_version) != (
                rotation.old_version,
                rotation.new_version,
            ):
                raise RotationRefused(
                    f"{rotation.ref}: another value was stored while it was rotated; nothing was switched",
                    hint=f"Keep that one: identitymesh secrets rotate {rotation.ref} --abandon",
                )
            transaction.put_ledger(
                replace(row, current_version=rotation.new_version, pending_version=None, changed=now)
            )
            transaction.put_rotation(switched)
            payload = {"old": rotation.old_version, "new": rotation.new_version}
            transaction.audit([Record("secret.rotate", rotation.ref, actor, payload=payload)])
        return switched

    def drop(self, rotation: RotationRow, reason: str, actor: str) -> None:
        """Forget the pending version. The caller knows that it is not valid at any server.

        Raises:
            KeyringConflict: another command carried the rotation on, or secrets moved; the pending version is kept.
            ProviderError: it is forgotten, but a vault keeps the version, unused, until ``secrets retire REF``.
        """
        provider, known = self._provider(rotation.ref)
        restored = self._restored(provider, known) if known is not None and provider.remote else None
        gone = [rotation.new_version]
        retired = None if provider.remote else provider.retire(SecretReference(rotation.ref), gone)
        with self._rows.write() as transaction:
            row = transaction.lock_ledger(rotation.ref)
            _still(transaction, rotation)
            assert_provider(transaction, known.keyring if known else CONNECTORS, provider)
            version = restored.record(transaction) if restored is not None else None
            if row is not None and row.pending_version == rotation.new_version:
                row = replace(row, pending_version=None)
                if version is not None and known is not None and row.current_version == known.current_version:
                    row, version = replace(row, current_version=version), None
                transaction.put_ledger(row)
            if retired is not None:
                retired.record(transaction)
            transaction.delete_rotation(rotation.ref)
            payload = {"new": rotation.new_version, "reason": reason}
            transaction.audit([Record("secret.rotate-drop", rotation.ref, actor, payload=payload)])
        if retired is None:
            # Only now: what a vault destroyed does not come back, and before the commit others may switch to it.
            provider.retire(SecretReference(rotation.ref), gone if version is None else [*gone, version])

    def _provider(self, ref: str) -> tuple[Provider, LedgerRow | None]:
        with self._rows.read() as view:
            row = view.ledger([ref]).get(ref)
            active = installation(view).provider
        return self._store.providers.of(row.keyring if row else CONNECTORS, active), row

    def _old(self, provider: Provider, row: LedgerRow) -> Sequence[str]:
        """What is newer than the current one stays: a vault has it already, and the ledger perhaps in a moment."""
        now = self._store.versions([row.ref]).get(row.ref, ())
        used = {one for one in (*now, row.current_version, row.pending_version) if one is not None}
        older = provider.older(self._rows, row.ref, used)
        with self._rows.read() as view:
            rotation = view.rotation(row.ref)
        if rotation is None:
            return older
        if rotation.open:
            return []
        # The one that it switched from, also where a vault cannot tell which of two came first.
        if rotation.old_version in {*used, *older}:
            return older
        kept = provider.versions(self._rows, [row.ref]).get(row.ref, ())
        return [rotation.old_version, *older] if rotation.old_version in kept else older

    def _restored(self, provider: Provider, row: LedgerRow) -> Change | None:
        """A vault calls the newest version current. So that its operators see the right one, it is set once more.

        Nobody follows it before the ledger names it: another value may be stored in this moment.
        """
        asked = wanted(replace(row, follow=PINNED))
        if asked is None:
            return None
        with self._rows.read() as view:
            session = self._store.session(view)
            here = provider.look(view, [asked], session)
        held = provider.fetch([asked], here)[asked]
        if isinstance(held, SecretError):
            raise held
        return provider.put(SecretReference(row.ref), held.open(), row.keyring, session, pending=True)

    def retire(self, ref: SecretReference | None, actor: str) -> Sequence[Retired]:
        """Destroy old versions: of this ref now, or (``None``) of all whose time has come.

        Raises:
            UsageError: a rotation of this ref is open.
            SecretMissing: there is no such secret.
        """
        now = datetime.now(UTC)
        with self._rows.read() as view:
            rotations = [one for one in view.rotations() if ref is None or one.ref == ref.text]
            if ref is not None and not view.ledger([ref.text]):
                raise missing(ref.text)
        if ref is not None and any(one.open for one in rotations):
            raise UsageError(f"{ref}: a rotation is open", hint=f"Finish it: identitymesh secrets rotate {ref}")
        if ref is not None:
            names = [ref.text]
        else:
            names = [one.ref for one in rotations if one.retire_at is not None and one.retire_at <= now]
        return [one for name in names if (one := self._retire(name, actor)) is not None]

    def _retire(self, ref: str, actor: str) -> Retired | None:
        provider, known = self._provider(ref)
        if known is None:
            return None
        old = self._old(provider, known)
        change = provider.retire(SecretReference(ref), old) if provider.remote else None
        with self._rows.write() as transaction:
            row = transaction.lock_ledger(ref)
            rotation = transaction.rotation(ref)
            if row is None or (rotation is not None and rotation.open):
                return None
            assert_provider(transaction, row.keyring, provider)
            if change is None:
                old = [one for one in old if one not in (row.current_version, row.pending_version)]
                change = provider.retire(SecretReference(ref), old)
            change.record(transaction)
            transaction.delete_rotation(ref)
            transaction.audit([Record("secret.retire", ref, actor, payload={"versions": old})])
        return Retired(ref, tuple(old))


def _still(transaction: RotationTransaction, rotation: RotationRow) -> None:
    """Compare-and-set: two commands that rotate one ref do not both carry on."""
    found = transaction.rotation(rotation.ref)
    if found is None or (found.state, found.new_version) != (rotation.state, rotation.new_version):
        raise KeyringConflict(
            f"{rotation.ref}: another command carried its rotation on", hint="See: identitymesh secrets show REF"
        )
