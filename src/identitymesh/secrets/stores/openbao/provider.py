"""What the contract of providers asks, said in entries.

A version is the number that the engine gave it. Every set names the version that it replaces (check-and-set), so of
two at once neither is lost. A deletion is soft; a later set goes on from the newest version, and undeletes that once
its own is there: one that fails brings back nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from identitymesh.errors import ProviderUnavailable, SecretError, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.providers import (
    Change,
    Done,
    Fetched,
    Found,
    Held,
    Provider,
    Setup,
    Survey,
    Wanted,
    older_numbers,
)
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SecretRows, SecretView
from identitymesh.secrets.stores.openbao import NAME
from identitymesh.secrets.stores.openbao.entries import Entries, Entry
from identitymesh.secrets.stores.openbao.place import place_of
from identitymesh.secrets.stores.openbao.session import Mismatch, Session

TRIES: Final = 12
FIRST_PAUSE: Final = 0.02  # at most, before the second try; twice as long before each further one, up to ...
LONGEST_PAUSE: Final = 0.5
_LOG: Final = logging.getLogger(__name__)


def make(setup: Setup) -> Provider:
    """See :func:`identitymesh.secrets.stores.openbao.build`."""
    return OpenBaoProvider(Entries(Session(place_of(setup)), setup.installation))


class OpenBaoProvider:
    """Keeps values in entries that name their ref and this installation."""

    name = NAME
    remote = True
    writes_per_second = 0.0  # as much as the server takes; it says so itself with status 429

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

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
        """Written now, against the version that was read just before."""
        del keyring, session, expires  # the vault has keys of its own; when a value ends the ledger says
        text, lost = ref.text, -1
        for attempt in range(TRIES):
            entry = self._entries.find(text)
            current = entry.current if entry else 0
            if lost >= 0 and current == lost + 1 and self._is(text, current, value):
                return self._done(text, current, entry)  # it was written, and only the answer was lost
            if entry is None or not self._entries.is_marked(text, entry):
                self._entries.mark(text, entry)
            try:
                return self._done(text, self._entries.write(text, value, current, pending=pending), entry)
            except Mismatch:
                lost = current
                pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
                time.sleep(random.uniform(0, pause))  # noqa: S311 - by chance, so that all do not come again together
        raise ProviderUnavailable(
            f"{text}: others write to {self._entries.path(text)} in openbao all the time", hint="Try again later."
        )

    def _done(self, ref: str, version: int, entry: Entry | None) -> Change:
        if entry is not None and version - 1 in entry.deleted:
            try:
                self._entries.undelete(ref, [version - 1])
            except SecretError as error:  # the set is done, and nobody reads the one before
                _LOG.warning("%s: version %d stays deleted in openbao: %s", ref, version - 1, error)
        _LOG.info("%s is stored in openbao at %s, version %d", ref, self._entries.path(ref), version)
        return Done(str(version))

    def _is(self, ref: str, version: int, value: Secret) -> bool:
        content = self._entries.read(ref, version)
        return content is not None and not content.outside and content.value == value

    def look(self, view: SecretView, wanted: Sequence[Wanted], session: KeyringSession) -> Found:
        del view, wanted, session
        return {}

    def fetch(self, wanted: Sequence[Wanted], found: Found) -> Found:
        """Several at once; once the server is found to be down, what was not asked for yet is not asked for."""
        down: list[ProviderUnavailable] = []

        def one(item: Wanted) -> Held | SecretError:
            if down:
                return down[0]
            try:
                return self._fetch(item)
            except ProviderUnavailable as error:
                down.append(error)
                return error
            except SecretError as error:
                return error

        return {**found, **self._entries.each(one, [item for item in wanted if item not in found])}

    def _fetch(self, item: Wanted) -> Held:
        number = _number(item.version)
        content = self._entries.read(item.ref, None) if item.follow else None
        if content is None or (content.pending and content.version != number):
            # Its newest version was retired, or is not in use yet: the one that the ledger names stands.
            content = self._entries.read(item.ref, number) if number is not None else None
        if content is None:
            raise SecretMissing(
                f"{item.ref}: version {item.version[:20]} is not in openbao at {self._entries.path(item.ref)}",
                hint=f"Undelete it there, or set it again with `identitymesh secrets set {item.ref}`.",
            )
        return Fetched(content.value, str(content.version), content.outside)

    def list(self, rows: SecretRows) -> Sequence[str]:
        del rows
        entries = self._entries.all()
        return sorted(ref for ref, entry in entries.items() if entry.live and self._entries.is_ours(ref, entry))

    def survey(self, rows: SecretRows, refs: Sequence[str]) -> Survey:
        """By listing, not by asking for each."""
        del rows
        asked = set(refs)
        entries = {ref: entry for ref, entry in self._entries.all().items() if ref in asked}
        ours = {ref: entry for ref, entry in entries.items() if self._entries.is_ours(ref, entry)}
        return Survey(
            present=sorted(ref for ref, entry in ours.items() if entry.live),
            deleted=sorted(ref for ref, entry in ours.items() if entry.deleted and not entry.live),
            foreign=sorted(set(entries) - set(ours)),
        )

    def versions(self, rows: SecretRows, refs: Sequence[str]) -> Mapping[str, Sequence[str]]:
        del rows
        found = self._entries.each(self._entries.find, refs)
        return {ref: [str(number) for number in entry.live] for ref, entry in found.items() if entry and entry.live}

    def older(self, rows: SecretRows, ref: str, than: Collection[str]) -> Sequence[str]:
        return older_numbers(self.versions(rows, [ref]).get(ref, ()), than)

    def exists(self, rows: SecretRows, wanted: Wanted) -> bool:
        del rows
        entry = self._entries.find(wanted.ref)
        if entry is None:
            return False
        return _number(wanted.version) in entry.live or (wanted.follow and entry.current in entry.live)

    def retire(self, ref: SecretReference, versions: Sequence[str]) -> Change:
        """Destroyed: they cannot be undeleted."""
        numbers = [number for version in versions if (number := _number(version)) is not None]
        if numbers and self._entries.find(ref.text) is not None:
            self._entries.destroy(ref.text, numbers)
        return Done()

    def delete(self, ref: SecretReference, *, purge: bool = False) -> Change:
        """Every version softly, or (``purge``) the path for good."""
        entry = self._entries.find(ref.text)
        if entry is not None and purge:
            self._entries.purge(ref.text)
        elif entry is not None and entry.live:
            self._entries.delete(ref.text, entry.live)
        return Done()

    def check(self, rows: SecretRows) -> None:
        del rows
        self._entries.check()


def _number(version: str) -> int | None:
    """A version id as the engine writes it, or ``None``: a row may say anything."""
    return int(version) if version.isascii() and version.isdecimal() and 0 < len(version) < 10 else None
