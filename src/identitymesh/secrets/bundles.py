"""Takes the secrets of an installation out, for chosen recipients, and brings a bundle in: all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from identitymesh.audit import Record
from identitymesh.errors import KeyringConflict, SecretError, UsageError
from identitymesh.redaction import Secret
from identitymesh.secrets import bundle_format
from identitymesh.secrets.age import open_file, seal_file
from identitymesh.secrets.bundle_format import Bundle, Entry
from identitymesh.secrets.keyring import Document
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.lookup import look
from identitymesh.secrets.providers import wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import LedgerRow, SecretRows, SecretTransaction
from identitymesh.secrets.store import SecretStore
from identitymesh.secrets.transactions import assert_provider, hold_keyring, installation, new_row

Policy = Literal["refuse", "keep", "replace"]
POLICIES: Final = ("refuse", "keep", "replace")


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle as bytes, and how many secrets are in it."""

    sealed: bytes
    secrets: int
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a bundle would change, by refs alone. ``keyring_differs``: stored here in the other keyring."""

    installation: str
    created: str
    new: tuple[str, ...]
    same: tuple[str, ...]
    different: tuple[str, ...]
    keyring_differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What was stored; nothing, if it was a rehearsal."""

    difference: Difference
    stored: tuple[str, ...]
    kept: tuple[str, ...]
    dry_run: bool


class Bundles:
    """Exports and imports. Values are compared here and never shown."""

    def __init__(self, rows: SecretRows, store: SecretStore, actor: str) -> None:
        self._rows = rows
        self._store = store
        self._actor = actor

    def export(self, recipients: Sequence[str], keyring: str | None) -> Exported:
        """Every current value, sealed to the recipients. Recorded before it leaves.

        Raises:
            UsageError: no recipient, or one that is not an age recipient.
            SecretBroken: one does not open; a bundle that lacks a secret is not made.
        """
        if not recipients:
            raise UsageError("a bundle needs a recipient", hint="Give --recipient age1..., the public half of a key.")
        with self._rows.read() as view:
            session = self._store.session(view)
            home = installation(view)
            rows = [row for row in view.ledger().values() if keyring is None or row.keyring == keyring]
            looked = look(self._store.providers, view, rows, session, home)
        entries = []
        found = looked.fetch()
        for row in rows:
            asked = wanted(row)
            if asked is None:
                continue
            held = found[asked]
            if isinstance(held, SecretError):
                raise held
            about = (row.owner, row.description, row.cadence_days)
            entries.append(Entry(SecretReference(row.ref), row.keyring, held.open(), *about))
        sealed = seal_file(bundle_format.encode(home.id, entries), recipients)
        payload = {"refs": sorted(one.ref.text for one in entries), "recipients": list(recipients)}
        with self._rows.write() as transaction:
            transaction.audit([Record("secret.export", keyring or "*", self._actor, payload=payload)])
        return Exported(sealed, len(entries), tuple(recipients))

    def bring(self, sealed: bytes, identity: Secret, *, on_conflict: Policy, dry_run: bool) -> Imported:
        """Open, verify and compare a bundle; then store what it has, in one transaction.

        A secret that is new here has no audience, so it goes nowhere before the next apply.

        Raises:
            BundleRefused, UsageError: it does not open, or holds what may not be stored; nothing was stored.
            SecretError: it conflicts with what is stored, and the policy is to refuse.
        """
        bundle = bundle_format.decode(open_file(sealed, identity))
        with self._rows.read() as view:
            session = self._store.session(view)
            known = view.ledger([one.ref.text for one in bundle.entries])
            difference = self._compare(bundle, known)
        new, different = frozenset(difference.new), frozenset(difference.different)
        chosen = [one for one in bundle.entries if one.ref.text in new]
        if on_conflict == "replace":
            chosen += [one for one in bundle.entries if one.ref.text in different]
        if not dry_run:
            _assert_no_conflict(difference, on_conflict)
            self._write(chosen, known, session, bundle)
        stored = tuple(sorted(one.ref.text for one in chosen))
        kept = difference.different if on_conflict == "keep" else ()
        return Imported(difference, () if dry_run else stored, kept, dry_run)

    def _compare(self, bundle: Bundle, known: Mapping[str, LedgerRow]) -> Difference:
        states: dict[str, list[str]] = {"new": [], "same": [], "different": [], "keyring": []}
        for entry in bundle.entries:
            row = known.get(entry.ref.text)
            if row is None:
                state = "new"
            elif row.keyring != entry.keyring:
                state = "keyring"
            else:
                state = "same" if self._store.same_as_current(entry.ref, entry.value) else "different"
            states[state].append(entry.ref.text)
        ordered = [tuple(sorted(states[name])) for name in ("new", "same", "different", "keyring")]
        return Difference(bundle.installation, bundle.created, *ordered)

    def _write(
        self, entries: Sequence[Entry], known: Mapping[str, LedgerRow], session: KeyringSession, bundle: Bundle
    ) -> None:
        if not entries:
            return
        names = {one.keyring for one in entries}
        documents = {name: session.open(name) for name in names}
        with self._rows.read() as view:
            active = installation(view).provider
        providers = {name: self._store.providers.of(name, active) for name in names}
        # A vault is written now, before the transaction; the database is written in it.
        changes = [(one, providers[one.keyring].put(one.ref, one.value, one.keyring, session)) for one in entries]
        with self._rows.write() as transaction:
            for name, document in documents.items():
                hold_keyring(transaction, name, document)
                assert_provider(transaction, name, providers[name])
            for entry, change in changes:
                row = _own_row(transaction, entry, known.get(entry.ref.text), documents[entry.keyring])
                version = change.record(transaction)
                about = {"owner": entry.owner, "description": entry.description, "cadence_days": entry.cadence_days}
                given = {name: detail for name, detail in about.items() if detail is not None}
                now = datetime.now(UTC)
                transaction.put_ledger(replace(row, current_version=version, changed=now, **given))  # type: ignore[arg-type]
            payload = {"installation": bundle.installation, "refs": [one.ref.text for one in entries]}
            transaction.audit([Record("secret.import", "*", self._actor, payload=payload)])


def _own_row(transaction: SecretTransaction, entry: Entry, before: LedgerRow | None, document: Document) -> LedgerRow:
    """The ledger row as it was when it was compared, locked; or a new one, which may be sent nowhere."""
    ref = entry.ref.text
    row = transaction.lock_ledger(ref)
    if (row.current_version if row else None) != (before.current_version if before else None):
        raise KeyringConflict(f"{ref}: it changed meanwhile; nothing was stored", hint="Run the command again.")
    return row or new_row(entry.ref, entry.keyring, document)


def _assert_no_conflict(difference: Difference, policy: Policy) -> None:
    if difference.keyring_differs:
        raise bundle_format.refused(f"{', '.join(difference.keyring_differs[:5])}: stored here in the other keyring")
    if difference.different and policy == "refuse":
        raise SecretError(
            f"{len(difference.different)} of its secrets are stored here with another value, nothing was stored: "
            f"{', '.join(difference.different[:5])}",
            hint="See all with --dry-run, then say --on-conflict keep or --on-conflict replace.",
        )
