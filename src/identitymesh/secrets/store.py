"""The service through which everything else stores and opens secrets.

A value leaves only after the transaction that says so in the audit trail has been
committed; a run's openings are one such transaction. Failures are answered for each
request, so that one bad row, or one closed keyring, stops one connector only.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from identitymesh.audit import Record
from identitymesh.errors import (
    KeyringConflict,
    MeshError,
    ProviderMisconfigured,
    SecretError,
    SecretMissing,
    UsageError,
)
from identitymesh.lease import Lease
from identitymesh.redaction import Secret
from identitymesh.secrets.audiences import Audiences
from identitymesh.secrets.inventory import Inventory, VerifyResult
from identitymesh.secrets.keyring import APPLICATION, CONNECTORS, KEYRINGS
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.lookup import Elsewhere, look, note
from identitymesh.secrets.memory import TELL_SECONDS, KeyringMemory
from identitymesh.secrets.openings import OpenRequest, Release, Seen, judge_usual, missing, told
from identitymesh.secrets.properties import SecretProperties
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.providers import CURRENT, PINNED, Finding, Providers, Setup, wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SecretRows, SecretView
from identitymesh.secrets.sealing import check_value
from identitymesh.secrets.transactions import again, assert_provider, hold_keyring, installation, new_row, own_row

LOOKS: Final = 5
CLOSING_PAUSE: Final = 0.05


class SecretStore:
    """Stores, opens, lists, verifies and deletes secrets of one installation, on one host."""

    def __init__(self, rows: SecretRows, host: Path, means: Means = NO_MEANS, here: str = "") -> None:
        """``here`` names this host where it is written down which slot opened; without it nothing is."""
        self._rows = rows
        self._here = here
        self._host = host
        self._means = means
        self._memory = KeyringMemory(host, means)
        self.providers = Providers(Setup(means, self._id, self._login))
        self.audience = Audiences(rows, host, means)
        self._inventory = Inventory(rows, host, self.providers, means)

    def _id(self) -> str:
        with self._rows.read() as view:
            return installation(view).id

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
            KeyringError, ProviderError, StorageError: it is not the version that the ledger names. A vault whose answer
                was lost, or that took it before the ledger could, may have it as its newest all the same.
        """
        check_value(value, ref.text)
        about = {"owner": owner, "description": description, "cadence_days": cadence_days}
        given = {name: detail for name, detail in about.items() if detail is not None}
        # When the keyring moved on between reading and writing it is sealed again with what is primary now.
        return again(lambda: self._put(ref, value, actor, keyring, given))

    def _put(
        self, ref: SecretReference, value: Secret, actor: str, keyring: str | None, given: Mapping[str, object]
    ) -> str:
        while True:
            with self._rows.read() as view:
                session, here = self.session(view), installation(view)
                known = view.ledger([ref.text]).get(ref.text)
            if here.closing is None or here.closing <= datetime.now(UTC):
                break
            time.sleep(CLOSING_PAUSE)
        active = here.provider
        name = keyring or (known.keyring if known else CONNECTORS)
        if name not in KEYRINGS:
            raise UsageError(f"there is no keyring {name[:40]!r}", hint=f"The keyrings are {', '.join(KEYRINGS)}.")
        document = session.open(name)
        provider = self.providers.of(name, active)
        change = provider.put(ref, value, name, session)
        new = new_row(ref, name, document)
        with self._rows.write() as transaction:
            hold_keyring(transaction, name, document)
            assert_provider(transaction, name, provider)
            row = own_row(transaction, new)
            version = change.record(transaction)
            transaction.put_ledger(replace(row, current_version=version, changed=new.changed, expires=None, **given))  # type: ignore[arg-type]
            payload = {"keyring": name, "version": version, "replaced": row.current_version or ""}
            transaction.audit([Record("secret.set", ref.text, actor, payload=payload)])
        return version

    def delete(
        self,
        ref: SecretReference,
        *,
        actor: str,
        purge: bool = False,
        lease: Lease | None = None,
        expired: datetime | None = None,
    ) -> None:
        """Remove a secret, its history and its ledger row; see :meth:`Provider.delete` for ``purge``.

        With ``lease`` while it is held, with ``expired`` if its time was over by then.

        Raises:
            KeyringConflict: another value was stored meanwhile; it stays.
            LeaseLost: somebody else took ``lease`` over.
            SecretMissing: there is none.
            ProviderError: a vault did not do it; the ledger is as it was.
        """
        with self._rows.read() as view:
            active = installation(view).provider
            row = view.ledger([ref.text]).get(ref.text)
        if row is None or (expired is not None and not row.is_over(expired)):
            raise missing(ref.text)
        provider = self.providers.of(row.keyring, active)
        change = provider.delete(ref, purge=purge)
        with self._rows.write() as transaction:
            if lease is not None:
                transaction.hold_lease(lease)
            now = transaction.lock_ledger(ref.text)
            if now is None:
                raise missing(ref.text)
            assert_provider(transaction, row.keyring, provider)
            another = (now.created, now.current_version) != (row.created, row.current_version)
            if another and not provider.remote:  # a vault has removed whatever it had by now
                raise KeyringConflict(f"{ref.text}: another value was stored while it was deleted", hint="Try again.")
            change.record(transaction)
            transaction.delete_ledger(ref.text)
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
        seen = self._see({request.ref.text for request in asked})
        releases = {request: seen.judge(request) for request in asked}
        self._record("secret.open", releases.values(), actor, run, seen.provider)
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
        release = judge_usual(request, self._rows.find(request.ref.text), self._memory)
        if release is None:
            return self.prepare([request], actor=actor, run=run)[request].open()
        self._record("secret.open", [release], actor, run)
        return release.open()

    def reveal(self, ref: SecretReference, *, actor: str) -> Secret:
        """Open a value for a person (``get``). Recorded first; no audience is asked.

        Raises:
            SecretMissing, SecretBroken, ProviderError, KeyringError, StorageError
        """
        seen = self._see([ref.text])
        release = seen.judge(OpenRequest(ref, actor, (), "revealed to a person"), ask_audience=False)
        self._record("secret.reveal", [release], actor, None, seen.provider)
        return release.open()

    def _login(self, ref: SecretReference, purpose: str) -> Secret:
        """What a provider logs in with: of the keyring ``application``, which no vault holds. Recorded first."""
        with self._rows.read() as view:
            row = view.ledger([ref.text]).get(ref.text)
        if row is not None and row.keyring != APPLICATION:  # looked at first: asking the vault for it would wait for us
            raise ProviderMisconfigured(
                f"{ref} is in the keyring {row.keyring}: what opens a vault cannot come from the vault",
                hint=f"Store it for the application: identitymesh secrets set {ref} --keyring application",
            )
        seen = self._see([ref.text])
        release = seen.judge(OpenRequest(ref, "", (), purpose), ask_audience=False)
        self._record("secret.login", [release], "provider", None, seen.provider)
        return release.open()

    def session(self, view: SecretView) -> KeyringSession:
        """The keyrings in this snapshot, as this store opens them."""
        return KeyringSession(self._host, view, means=self._means, memory=self._memory)

    def open_version(self, request: OpenRequest, version: str, *, actor: str) -> Secret:
        """Open one version for a connector, current or not; judged and recorded like every opening.

        Raises:
            SecretMissing, SecretBroken, AudienceRefused, ProviderError, KeyringError, StorageError
        """
        seen = self._see([request.ref.text], version)
        release = seen.judge(request)
        self._record("secret.open", [release], actor, None, seen.provider)
        return release.open()

    def same_as_current(self, ref: SecretReference, value: Secret) -> bool:
        """Whether this is the stored value. Nothing leaves, so nothing is recorded."""
        found = self._see([ref.text]).found.values()
        return any(not isinstance(held, SecretError) and held.open() == value for held in found)

    def versions(self, refs: Iterable[str]) -> Mapping[str, tuple[str | None, str | None]]:
        """Current and pending version of each ref that is stored; a vault that is followed is asked."""
        with self._rows.read() as view:
            ledger = view.ledger(refs)
            if not ledger:
                return {}  # and no keyring has to be opened for it
            looked = look(self.providers, view, ledger.values(), self.session(view), installation(view))
        followed = {one.ref: held.version for one, held in looked.followed().items()}
        return {ref: (followed.get(ref, row.current_version), row.pending_version) for ref, row in ledger.items()}

    def _see(self, refs: Collection[str], pinned: str | None = None) -> Seen:
        """What the ledger says of refs, and their values; looked up anew where the provider changed meanwhile."""
        for attempt in range(LOOKS):
            with self._rows.read() as view:
                session, here = self.session(view), installation(view)
                ledger = view.ledger(refs)
                if pinned is not None:
                    ledger = {ref: replace(row, current_version=pinned, follow=PINNED) for ref, row in ledger.items()}
                looked = look(self.providers, view, ledger.values(), session, here)
            seen = Seen(ledger, looked.fetch(), session, here.provider)
            lacking = pinned is None and any(isinstance(held, SecretMissing) for held in seen.found.values())
            if not lacking or attempt == LOOKS - 1:
                return seen
            with self._rows.read() as view:
                if installation(view).provider == here.provider:
                    return seen
        raise AssertionError("unreachable")

    def _record(
        self, action: str, releases: Collection[Release], actor: str, run: str | None, provider: str | None = None
    ) -> None:
        now = datetime.now(UTC)
        records, uses = told(action, releases, actor, run, now)
        with self._rows.write() as transaction:
            followed = (one.followed for one in releases if one.followed is not None)
            note(transaction, followed, actor, now, provider)
            fallbacks = sum(isinstance(one.answer, Elsewhere) for one in releases)
            if fallbacks:
                transaction.count_fallbacks(fallbacks)
            transaction.audit(records)
            transaction.mark_used(uses, now)
            slots = self._memory.slots_to_tell() if self._here else ()
            transaction.note_opened(slots, self._here, now, now - timedelta(seconds=TELL_SECONDS))
        self._memory.told(slots)

    # Looking

    def exists(self, ref: SecretReference) -> bool:
        """Whether a value is stored; neither opens nor records it. Needs no key."""
        with self._rows.read() as view:
            row = view.ledger([ref.text]).get(ref.text)
            active = installation(view).provider
        asked = wanted(row) if row is not None else None
        if row is None or asked is None:
            return False
        return self.providers.of(row.keyring, active).exists(self._rows, asked)

    def list(self) -> Sequence[SecretProperties]:
        """Properties of every secret, never a value, by ref. Works without a host key; a bad row is listed as such."""
        return self._inventory.properties()

    def verify(self, *, actor: str) -> Sequence[VerifyResult]:
        """Open every version of every secret of every keyring, show none, and record that."""
        return self._inventory.verify(actor)

    # Provider

    def check_provider(self) -> None:
        """Ask the active provider something that shows that it answers, and answers to us.

        Raises:
            ProviderError: it does not.
        """
        with self._rows.read() as view:
            active = installation(view).provider
        self.providers.find(active).check(self._rows)

    def follow(self, ref: SecretReference, *, pinned: bool, actor: str) -> None:
        """Whether a vault's own current version of a secret is used, or the one that was set here.

        Raises:
            SecretMissing: there is none.
        """
        with self._rows.write() as transaction:
            row = transaction.lock_ledger(ref.text)
            if row is None:
                raise missing(ref.text)
            transaction.put_ledger(replace(row, follow=PINNED if pinned else CURRENT))
            payload = {"before": row.follow, "after": PINNED if pinned else CURRENT}
            transaction.audit([Record("secret.pin", ref.text, actor, payload=payload)])

    def settle_provider(self, wanted: str, *, actor: str) -> Sequence[Finding]:
        """Let the setting choose the provider while nothing is stored; later only say that they differ.

        Raises:
            ProviderMisconfigured: the setting, or the database, names a provider that this program has not, or that
                the settings do not say enough about.
        """
        self.providers.find(wanted)
        with self._rows.read() as view:
            active = installation(view).provider
        self.providers.find(active)
        if active == wanted:
            return []
        with self._rows.write() as transaction:
            transaction.lock_ledger_whole()
            if all(row.keyring == APPLICATION for row in transaction.ledger().values()):
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
