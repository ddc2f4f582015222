"""The service through which everything else stores and opens secrets.

A value leaves only after the transaction that says so in the audit trail has been
committed; a run's openings are one such transaction. Failures are answered for each
request, so that one bad row, or one closed keyring, stops one connector only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from identitymesh.audit import Record
from identitymesh.audit.records import DONE, FAILED, REFUSED
from identitymesh.errors import (
    AudienceRefused,
    KeyringConflict,
    KeyringMissing,
    MeshError,
    SecretError,
    SecretMissing,
    UsageError,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.audiences import Audiences
from identitymesh.secrets.inventory import Inventory, SecretProperties, VerifyResult
from identitymesh.secrets.keyring import CONNECTORS, KEYRINGS
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.ledger import (
    NOBODY,
    audience_mac,
    check_audience,
    destinations,
    encode_audience,
    read_audience,
)
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.providers import Finding, Held, Wanted, find_provider, provider_of
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import InstallationRow, LedgerRow, SecretRows, SecretTransaction, SecretView, Use
from identitymesh.secrets.sealing import check_value

TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Who asks for a value, where it will be sent (every ``host:port``), and what for, in words."""

    ref: SecretReference
    connector: str
    endpoints: tuple[str, ...]
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """The answer to one request, already in the audit trail. Nothing is unsealed until :meth:`open`."""

    request: OpenRequest
    version: str | None
    answer: Held | MeshError

    def open(self) -> Secret:
        """The value.

        Raises:
            SecretError, KeyringError: why there is none.
        """
        if isinstance(self.answer, MeshError):
            raise self.answer
        return self.answer.open()


class SecretStore:
    """Stores, opens, lists, verifies and deletes secrets of one installation, on one host."""

    def __init__(self, rows: SecretRows, host: Path, means: Means = NO_MEANS) -> None:
        self._rows = rows
        self._host = host
        self._means = means
        self.audience = Audiences(rows, host, means)
        self._inventory = Inventory(rows, host, means)

    # Writing

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        *,
        actor: str,
        keyring: str | None = None,
        owner: str | None = None,
        description: str | None = None,
        cadence_days: int | None = None,
    ) -> str:
        """Store a value as the new current version and answer its id. A new secret has no audience: it goes nowhere.

        Without ``keyring`` an existing secret keeps its own, a new one is of ``connectors``.

        Raises:
            SecretRefused: empty, or above 16 KiB.
            UsageError: the secret exists in the other keyring.
            KeyringError, ProviderError, StorageError: it cannot be stored; nothing was.
        """
        check_value(value, ref.text)
        about = {"owner": owner, "description": description, "cadence_days": cadence_days}
        given = {name: detail for name, detail in about.items() if detail is not None}
        for attempt in range(TRIES):
            try:
                return self._put(ref, value, actor, keyring, given)
            except KeyringConflict:
                # The keyring moved on between reading and writing: seal again with what is primary now.
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _put(
        self, ref: SecretReference, value: Secret, actor: str, keyring: str | None, given: Mapping[str, object]
    ) -> str:
        with self._rows.read() as view:
            session = KeyringSession(self._host, view, means=self._means)
            active = installation(view).provider
            known = view.ledger([ref.text]).get(ref.text)
        name = keyring or (known.keyring if known else CONNECTORS)
        if name not in KEYRINGS:
            raise UsageError(f"there is no keyring {name[:40]!r}", hint=f"The keyrings are {', '.join(KEYRINGS)}.")
        document = session.open(name)
        empty_mac = audience_mac(document, ref.text, NOBODY)
        change = provider_of(name, active).put(ref, value, name, session)
        now = datetime.now(UTC)
        new = LedgerRow(ref.text, name, encode_audience(NOBODY), empty_mac, created=now, changed=now)
        with self._rows.write() as transaction:
            if not transaction.hold_keyring(name, document.generation):
                raise KeyringConflict(f"keyring {name}: it changed while a secret was stored", hint="Try again.")
            if installation(transaction).provider != active:
                raise KeyringConflict("the provider of secrets changed while a secret was stored", hint="Try again.")
            row = _own_row(transaction, new)
            version = change.record(transaction)
            transaction.put_ledger(replace(row, current_version=version, changed=now, **given))  # type: ignore[arg-type]
            payload = {"keyring": name, "version": version, "replaced": row.current_version or ""}
            transaction.audit([Record("secret.set", ref.text, actor, payload=payload)])
        return version

    def delete(self, ref: SecretReference, *, actor: str) -> None:
        """Remove a secret, its history and its ledger row.

        Raises:
            SecretMissing: there is none.
        """
        with self._rows.read() as view:
            active = installation(view).provider
            row = view.ledger([ref.text]).get(ref.text)
        if row is None:
            raise missing(ref.text)
        change = provider_of(row.keyring, active).delete(ref)
        with self._rows.write() as transaction:
            change.record(transaction)
            if not transaction.delete_ledger(ref.text):
                raise missing(ref.text)
            transaction.audit([Record("secret.delete", ref.text, actor, payload={"keyring": row.keyring})])

    # Opening

    def prepare(
        self, requests: Iterable[OpenRequest], *, actor: str, run: str | None = None
    ) -> Mapping[OpenRequest, Release]:
        """Judge requests and record all of them in one transaction; nothing is unsealed for use before it is committed.

        Raises:
            StorageError: it could not be recorded, so nothing is released.
        """
        asked = list(dict.fromkeys(requests))
        if not asked:
            return {}
        with self._rows.read() as view:
            session = KeyringSession(self._host, view, means=self._means)
            ledger = view.ledger({request.ref.text for request in asked})
            found = self._look(view, ledger, session)
        releases = {request: _judge(request, ledger.get(request.ref.text), found, session) for request in asked}
        self._record("secret.open", releases.values(), actor, run)
        return releases

    def open_many(
        self, requests: Iterable[OpenRequest], *, actor: str, run: str | None = None
    ) -> Mapping[OpenRequest, Secret | MeshError]:
        """Open several values; what failed is answered as its error, the others as values."""
        opened: dict[OpenRequest, Secret | MeshError] = {}
        for request, release in self.prepare(requests, actor=actor, run=run).items():
            try:
                opened[request] = release.open()
            except MeshError as error:
                opened[request] = error
        return opened

    def open(self, request: OpenRequest, *, actor: str, run: str | None = None) -> Secret:
        """Open one value for a connector.

        Raises:
            SecretMissing, SecretBroken, AudienceRefused, ProviderError, KeyringError, StorageError
        """
        return self.prepare([request], actor=actor, run=run)[request].open()

    def reveal(self, ref: SecretReference, *, actor: str) -> Secret:
        """Open a value for a person (``get``). Recorded first; no audience is asked.

        Raises:
            SecretMissing, SecretBroken, ProviderError, KeyringError, StorageError
        """
        with self._rows.read() as view:
            session = KeyringSession(self._host, view, means=self._means)
            ledger = view.ledger([ref.text])
            found = self._look(view, ledger, session)
        request = OpenRequest(ref, actor, (), "revealed to a person")
        release = _judge(request, ledger.get(ref.text), found, session, ask_audience=False)
        self._record("secret.reveal", [release], actor, None)
        return release.open()

    def session(self, view: SecretView) -> KeyringSession:
        """The keyrings in this snapshot, as this store opens them."""
        return KeyringSession(self._host, view, means=self._means)

    def open_version(self, request: OpenRequest, version: str, *, actor: str) -> Secret:
        """Open one version for a connector, current or not; judged and recorded like every opening.

        Raises:
            SecretMissing, SecretBroken, AudienceRefused, ProviderError, KeyringError, StorageError
        """
        with self._rows.read() as view:
            session = self.session(view)
            ledger = view.ledger([request.ref.text])
            pinned = {ref: replace(row, current_version=version) for ref, row in ledger.items()}
            found = self._look(view, pinned, session)
        release = _judge(request, pinned.get(request.ref.text), found, session)
        self._record("secret.open", [release], actor, None)
        return release.open()

    def same_as_current(self, ref: SecretReference, value: Secret) -> bool:
        """Whether this is the stored value. Nothing leaves, so nothing is recorded."""
        with self._rows.read() as view:
            session = self.session(view)
            ledger = view.ledger([ref.text])
            found = self._look(view, ledger, session)
        return any(not isinstance(held, SecretError) and held.open() == value for held in found.values())

    def versions(self, refs: Iterable[str]) -> Mapping[str, tuple[str | None, str | None]]:
        """Current and pending version of each ref that is stored."""
        with self._rows.read() as view:
            return {ref: (row.current_version, row.pending_version) for ref, row in view.ledger(refs).items()}

    def _look(
        self, view: SecretView, ledger: Mapping[str, LedgerRow], session: KeyringSession
    ) -> Mapping[Wanted, Held | SecretError]:
        active = installation(view).provider
        by_keyring: dict[str, list[Wanted]] = {}
        for row in ledger.values():
            if row.current_version is not None:
                by_keyring.setdefault(row.keyring, []).append(Wanted(row.ref, row.current_version))
        found: dict[Wanted, Held | SecretError] = {}
        for keyring, wanted in by_keyring.items():
            try:
                found.update(provider_of(keyring, active).look(view, wanted, session))
            except SecretError as error:
                found.update(dict.fromkeys(wanted, error))
        return found

    def _record(self, action: str, releases: Iterable[Release], actor: str, run: str | None) -> None:
        now = datetime.now(UTC)
        records: list[Record] = []
        uses: list[Use] = []
        for release in releases:
            request = release.request
            payload: dict[str, object] = {"version": release.version or "", "purpose": request.purpose}
            if action == "secret.open":
                payload |= {"connector": request.connector, "endpoints": list(request.endpoints)}
            error = release.answer if isinstance(release.answer, MeshError) else None
            if error is not None:
                payload["error"] = error.code
            elif release.version is not None:
                uses.append(Use(request.ref.text, release.version, request.connector))
            records.append(Record(action, request.ref.text, actor, _outcome(error), run, payload, now))
        with self._rows.write() as transaction:
            transaction.audit(records)
            transaction.mark_used(uses, now)

    # Looking

    def exists(self, ref: SecretReference) -> bool:
        """Whether a value is stored; neither opens nor records it. Needs no key."""
        with self._rows.read() as view:
            row = view.ledger([ref.text]).get(ref.text)
            if row is None or row.current_version is None:
                return False
            provider = provider_of(row.keyring, installation(view).provider)
            return provider.exists(view, Wanted(row.ref, row.current_version))

    def list(self) -> Sequence[SecretProperties]:
        """Properties of every secret, never a value, by ref. Works without a host key; a bad row is listed as such."""
        return self._inventory.list()

    def verify(self, *, actor: str) -> Sequence[VerifyResult]:
        """Open every version of every secret of every keyring, show none, and record that."""
        return self._inventory.verify(actor)

    # Provider

    def settle_provider(self, wanted: str, *, actor: str) -> Sequence[Finding]:
        """Let the setting choose the provider while nothing is stored; later only say that they differ.

        Raises:
            ProviderError: the setting, or the database, names a provider that this program has not.
        """
        find_provider(wanted)
        with self._rows.read() as view:
            active = installation(view).provider
        find_provider(active)
        if active == wanted:
            return []
        with self._rows.write() as transaction:
            if not transaction.ledger():
                transaction.set_provider(wanted)
                transaction.audit([Record("secret.provider", wanted, actor, payload={"before": active})])
                return []
        return [
            Finding(
                "provider-differs",
                f"secrets.provider is {wanted}, but the secrets are in {active}; {active} is used",
                f"Set secrets.provider to {active}, or move the secrets there on purpose.",
            )
        ]


def installation(view: SecretView) -> InstallationRow:
    """The installation of this database.

    Raises:
        KeyringMissing: `init` was never run on it.
    """
    row = view.installation()
    if row is None:
        raise KeyringMissing(
            "the database has no keyring yet",
            hint="Run `identitymesh init` once in a new folder; no other command makes a keyring.",
        )
    return row


def missing(ref: str) -> SecretMissing:
    return SecretMissing(f"{ref} is not stored", hint=f"Store it with `identitymesh secrets set {ref}`.")


def _own_row(transaction: SecretTransaction, new: LedgerRow) -> LedgerRow:
    """The ledger row of a ref, locked; made if there is none. Two writers of one ref take turns here."""
    row = transaction.lock_ledger(new.ref)
    if row is None:
        row = new if transaction.insert_ledger(new) else transaction.lock_ledger(new.ref)
    if row is None:
        raise KeyringConflict(f"{new.ref}: it was deleted while it was stored", hint="Try again.")
    if row.keyring != new.keyring:
        raise UsageError(
            f"{new.ref} is in the keyring {row.keyring}, not in {new.keyring}",
            hint="Leave the keyring out, or delete the secret first.",
        )
    return row


def _judge(
    request: OpenRequest,
    row: LedgerRow | None,
    found: Mapping[Wanted, Held | SecretError],
    session: KeyringSession,
    *,
    ask_audience: bool = True,
) -> Release:
    """May this be released, and can it be? Errors of one request stay with it."""
    version = row.current_version if row else None
    try:
        if row is None or version is None:
            raise missing(request.ref.text)
        if ask_audience:
            audience = read_audience(session.open(row.keyring), row)
            check_audience(row, audience, destinations(request.connector, request.endpoints))
        held = found[Wanted(row.ref, version)]
        if isinstance(held, SecretError):
            raise held
        held.check()
    except MeshError as error:
        return Release(request, version, error)
    return Release(request, version, held)


def _outcome(error: MeshError | None) -> str:
    if error is None:
        return DONE
    return REFUSED if isinstance(error, AudienceRefused) else FAILED
