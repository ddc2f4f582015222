"""The contract of providers, kept with one vault."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from identitymesh.errors import MeshError, ProviderUnavailable, SecretBroken, SecretError, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.azure.requests import CONNECTIONS
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.providers import Change, Done, Fetched, Found, Held, Setup, Survey, Wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SecretRows, SecretView
from identitymesh.secrets.stores.azure_key_vault.entries import (
    PREFIX,
    TAG_INSTALLATION,
    TAG_PENDING,
    TAG_REF,
    decode,
    encode,
    entry_name,
    foreign,
    is_outside,
)
from identitymesh.secrets.stores.azure_key_vault.vault import Entry, Vault

NAME: Final = "azure-key-vault"
WRITES_PER_SECOND: Final = 30.0  # Key Vault takes 300 new versions in 10 seconds, for each vault and region
NOBODY: Final = "secret://identitymesh/nobody"  # looked up to see whether the vault answers
_X = TypeVar("_X")
_T = TypeVar("_T")


class AzureKeyVaultProvider:
    """Values in one vault. Building it asks nobody."""

    name = NAME
    remote = True
    writes_per_second = WRITES_PER_SECOND

    def __init__(self, setup: Setup, settings: AzureKeyVaultSettings) -> None:
        self._vault = Vault(settings, setup.login)
        self._installation = setup.installation
        self._id = ""
        self._stale_seconds = settings.serve_stale_seconds
        self._kept: dict[Wanted, tuple[float, Fetched]] = {}
        self._log = logging.getLogger("identitymesh.secrets")

    # Writing

    def put(
        self,
        ref: SecretReference,
        value: Secret,
        keyring: str,
        session: KeyringSession,
        *,
        pending: bool = False,
        expires: int = 0,
    ) -> Change:
        del keyring, session  # the vault has keys of its own
        name = entry_name(ref.text)
        self._assert_ours(self._newest(name) or self._vault.deleted(name), ref.text)
        tags = {TAG_REF: ref.text, TAG_INSTALLATION: self._own_id()}
        if pending:
            tags[TAG_PENDING] = uuid.uuid4().hex
        version = self._vault.set(name, encode(value), tags, expires).version
        self._log.info("secret written", extra={"ref": ref.text, "entry": name, "version": version})
        return Done(version)

    def retire(self, ref: SecretReference, versions: Sequence[str]) -> Change:
        name = entry_name(ref.text)
        if versions:
            self._assert_ours(self._newest(name), ref.text)
        for version in versions:
            self._vault.disable(name, version)
        return Done()

    def delete(self, ref: SecretReference, *, purge: bool = False) -> Change:
        name = entry_name(ref.text)
        self._assert_ours(self._newest(name) or (self._vault.deleted(name) if purge else None), ref.text)
        self._vault.delete(name, purge=purge)
        return Done()

    def _newest(self, name: str) -> Entry | None:
        """The current version, whose tags say whose it is; where that is disabled, the newest that is not."""
        try:
            return self._vault.get(name)
        except SecretBroken:
            versions = self._vault.versions(name)
            return versions[-1] if versions else None

    def _assert_ours(self, entry: Entry | None, ref: str) -> None:
        wrong = foreign(entry.tags, ref, self._own_id()) if entry is not None else None
        if wrong is not None:
            raise wrong

    def _own_id(self) -> str:
        self._id = self._id or self._installation()
        return self._id

    # Reading

    def look(self, view: SecretView, wanted: Sequence[Wanted], session: KeyringSession) -> Found:
        del view, wanted, session
        return {}

    def fetch(self, wanted: Sequence[Wanted], found: Found) -> Found:
        del found
        answers = dict(zip(wanted, self._together(self._read, wanted), strict=True))
        return {item: self._or_stale(item, answer) for item, answer in answers.items()}

    def _read(self, wanted: Wanted) -> Held:
        name = entry_name(wanted.ref)
        entry = self._vault.get(name, None if wanted.follow else wanted.version)
        if entry is not None:
            self._assert_ours(entry, wanted.ref)
        if entry is not None and wanted.follow and entry.version != wanted.version and _pending(entry) is not None:
            entry = self._beside(name, wanted, entry)
        if entry is None or entry.text is None:
            raise SecretMissing(
                f"{wanted.ref}: {name} in {self._vault.where} has no version {wanted.version[:40]}",
                hint="See whether it was deleted there and recover it, or set it again: "
                f"identitymesh secrets set {wanted.ref}",
            )
        return Fetched(decode(entry.text, wanted.ref), entry.version, outside=is_outside(entry.tags))

    def _beside(self, name: str, wanted: Wanted, newest: Entry) -> Entry | None:
        """The newest version was written by a rotation that the ledger does not know; so it is passed over.

        Unless its tags are a copy of those of the version in use, as some tools make them: then somebody set it.
        """
        used = self._vault.get(name, wanted.version)
        if used is not None:
            self._assert_ours(used, wanted.ref)
        return newest if used is not None and _pending(used) == _pending(newest) else used

    def _or_stale(self, item: Wanted, answer: Held | SecretError) -> Held | SecretError:
        if self._stale_seconds == 0:
            return answer
        now = time.monotonic()
        if isinstance(answer, Fetched):
            self._kept[item] = (now, answer)
        kept = self._kept.get(item)
        if kept is None or not isinstance(answer, ProviderUnavailable):
            return answer
        age = int(now - kept[0])
        if age > self._stale_seconds:
            del self._kept[item]
            return answer
        self._log.warning("secret served stale", extra={"ref": item.ref, "seconds": age, "reason": answer.code})
        return replace(kept[1], stale=max(age, 1))

    def exists(self, rows: SecretRows, wanted: Wanted) -> bool:
        del rows
        versions = [one.version for one in self._vault.versions(entry_name(wanted.ref))]
        return bool(versions) if wanted.follow else wanted.version in versions

    # Looking

    def list(self, rows: SecretRows) -> Sequence[str]:
        return sorted(self._refs(self._vault.entries(), rows))

    def survey(self, rows: SecretRows, refs: Sequence[str]) -> Survey:
        del rows
        asked, own = {entry_name(ref): ref for ref in refs}, self._own_id()
        present = {one.name: one for one in self._vault.entries() if one.name in asked}
        deleted = {one.name: one for one in self._vault.deleted_entries() if one.name in asked}
        found = {**deleted, **present}
        foreign_names = {name for name, one in found.items() if foreign(one.tags, asked[name], own) is not None}
        return Survey(
            present=sorted(asked[name] for name in present if name not in foreign_names),
            deleted=sorted(asked[name] for name in deleted if name not in present and name not in foreign_names),
            foreign=sorted(asked[name] for name in foreign_names),
        )

    def versions(self, rows: SecretRows, refs: Sequence[str]) -> Mapping[str, Sequence[str]]:
        del rows
        found = dict(zip(refs, self._together(self._versions, refs), strict=True))
        for answer in found.values():
            if isinstance(answer, SecretError):
                raise answer
        return {ref: answer for ref, answer in found.items() if not isinstance(answer, SecretError) and answer}

    def _versions(self, ref: str) -> Sequence[str]:
        entries = self._vault.versions(entry_name(ref))
        for entry in entries:
            self._assert_ours(entry, ref)
        return [entry.version for entry in entries]

    def older(self, rows: SecretRows, ref: str, than: Collection[str]) -> Sequence[str]:
        """Of versions of one second nobody knows which came first: they wait for the next time."""
        del rows
        entries = self._vault.versions(entry_name(ref))
        for entry in entries:
            self._assert_ours(entry, ref)
        newest = max((one.created for one in entries if one.version in than), default=None)
        if newest is None:
            return []
        return [one.version for one in entries if one.created < newest and one.version not in than]

    def check(self, rows: SecretRows) -> None:
        del rows
        self._vault.get(entry_name(NOBODY))

    def _refs(self, entries: Iterable[Entry], rows: SecretRows) -> set[str]:
        """Refs of ours. A version that somebody else set names none; then the ledger knows whose name that is."""
        own, found, unnamed = self._own_id(), set[str](), set[str]()
        for entry in entries:
            ref = (entry.tags or {}).get(TAG_REF, "")
            if is_outside(entry.tags) and entry.name.startswith(PREFIX):
                unnamed.add(entry.name)
            elif (entry.tags or {}).get(TAG_INSTALLATION) == own and entry_name(ref) == entry.name:
                found.add(ref)
        if unnamed:
            with rows.read() as view:
                found |= {ref for ref in view.ledger() if entry_name(ref) in unnamed}
        return found

    # Several at once

    def _together(self, work: Callable[[_X], _T], items: Sequence[_X]) -> Sequence[_T | SecretError]:
        """Do it for each, over several connections. The first one goes alone: it brings the token that all use.

        After the first that finds the vault out of reach, the rest is answered with its error and not asked for.
        """
        down: list[ProviderUnavailable] = []

        def one(item: _X) -> _T | SecretError:
            if down:
                return down[0]
            try:
                return work(item)
            except ProviderUnavailable as error:
                down.append(error)
                return error
            except SecretError as error:
                return error
            except MeshError as error:
                return SecretBroken(str(error), hint=error.hint)

        if len(items) < 2:
            return [one(item) for item in items]
        first = one(items[0])
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return [first, *pool.map(one, items[1:])]


def _pending(entry: Entry) -> str | None:
    return (entry.tags or {}).get(TAG_PENDING)
