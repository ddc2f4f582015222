"""The ``database`` provider: sealed values in the product's own database, with their history."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from identitymesh.errors import SecretBroken, SecretError, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.providers import Change, Found, Held, RowProvider, Setup, Survey, Wanted, older_numbers
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SealedRow, SealedValue, SecretRows, SecretTransaction, SecretView
from identitymesh.secrets.sealing import Context, read_header, seal, unseal

NAME: Final = "database"
NEVER: Final = 0


def build(_setup: Setup | None = None) -> RowProvider:
    return DatabaseProvider()


class DatabaseProvider:
    """Seals with the primary data key of the secret's keyring; a version is a number that counts from 1."""

    name = NAME
    remote = False
    writes_per_second = 0.0

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        keyring: str,
        session: KeyringSession,
        *,
        pending: bool = False,
        expires: int = NEVER,
    ) -> Change:
        del pending  # what is current, the ledger alone says
        return _Put(ref.text, value, keyring, session, expires)

    def look(self, view: SecretView, wanted: Sequence[Wanted], session: KeyringSession) -> Found:
        numbers = {item: _number(item.version) for item in wanted}
        rows = view.sealed((item.ref, number) for item, number in numbers.items() if number is not None)
        found: dict[Wanted, Held | SecretError] = {}
        for item, number in numbers.items():
            row = rows.get((item.ref, number)) if number is not None else None
            found[item] = _missing(item) if row is None else _Held(row, session)
        return found

    def fetch(self, wanted: Sequence[Wanted], found: Found) -> Found:
        del wanted
        return found

    def list(self, rows: SecretRows) -> Sequence[str]:
        with rows.read() as view:
            return sorted({ref for ref, _number in view.version_numbers()})

    def survey(self, rows: SecretRows, refs: Sequence[str]) -> Survey:
        asked = set(refs)
        return Survey(present=[ref for ref in self.list(rows) if ref in asked])

    def versions(self, rows: SecretRows, refs: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        with rows.read() as view:
            for name, number in view.version_numbers(refs):
                found.setdefault(name, []).append(str(number))
        return found

    def older(self, rows: SecretRows, ref: str, than: Collection[str]) -> Sequence[str]:
        return older_numbers(self.versions(rows, [ref]).get(ref, ()), than)

    def exists(self, rows: SecretRows, wanted: Wanted) -> bool:
        number = _number(wanted.version)
        with rows.read() as view:
            return number is not None and bool(view.sealed([(wanted.ref, number)]))

    def retire(self, ref: SecretReference, versions: Sequence[str]) -> Change:
        return _Retire(ref.text, versions)

    def delete(self, ref: SecretReference, *, purge: bool = False) -> Change:
        del purge  # nothing is kept of what is deleted
        return _Delete(ref.text)

    def open_row(self, row: SealedValue, document: Document) -> Secret:
        return _open(row, document)

    def check(self, rows: SecretRows) -> None:
        with rows.read() as view:
            view.installation()


@dataclass(frozen=True, slots=True)
class _Put:
    ref: str
    value: Secret
    keyring: str
    session: KeyringSession
    expires: int

    def record(self, transaction: SecretTransaction) -> str:
        # The number is part of what is sealed, so sealing waits for it: computation only, nothing is waited for.
        key = self.session.open(self.keyring).primary()
        # While a migration knows a number it is not given again, even if its secret was deleted: it is another value.
        number = transaction.last_number(self.ref) + 1
        sealed = seal(self.value, key, Context(self.keyring, NAME, self.ref, number, self.expires))
        now = datetime.now(UTC)
        transaction.insert_sealed(SealedRow(self.ref, number, self.keyring, key.key_id, sealed, now, self.expires))
        return str(number)


@dataclass(frozen=True, slots=True)
class _Delete:
    ref: str

    def record(self, transaction: SecretTransaction) -> str:
        transaction.delete_sealed(self.ref)
        return ""


@dataclass(frozen=True, slots=True)
class _Retire:
    ref: str
    versions: Sequence[str]

    def record(self, transaction: SecretTransaction) -> str:
        numbers = [number for version in self.versions if (number := _number(version)) is not None]
        transaction.delete_versions(self.ref, numbers)
        return ""


@dataclass(frozen=True, slots=True)
class _Held:
    row: SealedRow
    session: KeyringSession
    outside: bool = False
    stale: int = 0

    @property
    def version(self) -> str:
        return str(self.row.version)

    def check(self) -> None:
        self.open()

    def open(self) -> Secret:
        return _open(self.row, self.session.open(self.row.keyring))


def _open(row: SealedValue, document: Document) -> Secret:
    header = read_header(row.sealed, row.ref)
    if header.keyset_id != document.keyset_id:
        raise _broken(row.ref, "it was sealed by another installation or keyring")
    key = document.sealing_key(header.key_id)
    if key is None or header.key_id != row.key_id:
        raise _broken(row.ref, f"the keyring {row.keyring} has no such data key")
    value = unseal(row.sealed, key, Context(row.keyring, NAME, row.ref, row.version, row.expires), header)
    if row.expires != NEVER and row.expires <= time.time():
        raise _broken(row.ref, "it has expired")
    return value


def _number(version: str) -> int | None:
    """A version id as this provider writes it, or ``None``: a row may say anything."""
    return int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else None


def _missing(wanted: Wanted) -> SecretMissing:
    return SecretMissing(
        f"{wanted.ref}: version {wanted.version[:20]} is not in the database, though the ledger names it",
        hint=f"Restore the database, or set it again with `identitymesh secrets set {wanted.ref}`.",
    )


def _broken(ref: str, reason: str) -> SecretBroken:
    return SecretBroken(
        f"{ref}: the stored value does not open: {reason}",
        hint=f"Restore the database that belongs to this host, or run `identitymesh secrets set {ref}` again.",
    )
