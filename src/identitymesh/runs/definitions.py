"""Applies definitions: check, compare, judge where secrets may go, store as a new version."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from identitymesh.audit import Record
from identitymesh.connectors.contract import Kind
from identitymesh.definition.changes import compare, renames, reread
from identitymesh.definition.reading import Definition, read
from identitymesh.errors import AudienceRefused, DefinitionOutdated, NotFound
from identitymesh.runs.contract import DefinitionStore, StoredDefinition
from identitymesh.runs.reports import ApplyReport, AudienceChange
from identitymesh.secrets.audiences import AudienceGrant, AudiencePlan, Audiences, AudienceUse
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import SecretTransaction

_HEADER = re.compile(r"^# identitymesh definition, version (\d{1,9})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Current:
    """The definition in force."""

    stored: StoredDefinition
    definition: Definition


class Definitions:
    """The definitions of one installation."""

    def __init__(
        self,
        store: DefinitionStore,
        kinds: Mapping[str, Kind],
        audiences: Audiences,
        *,
        actor: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._audiences = audiences
        self._actor = actor
        self._clock = clock

    def current(self) -> Current:
        """The definition in force.

        Raises:
            NotFound: none was applied yet.
        """
        stored = self._store.current()
        if stored is None:
            raise NotFound(
                "there is no definition yet", hint="Write a mesh.yaml and run `identitymesh apply mesh.yaml`."
            )
        return Current(stored, self.read(stored.text, f"definition version {stored.version}"))

    def read(self, text: str, source: str) -> Definition:
        """Check a definition without storing it. Raises ``DefinitionRefused``."""
        return read(text, source=source, kinds=self._kinds)

    def stored(self) -> StoredDefinition | None:
        return self._store.current()

    def apply(
        self,
        text: str,
        *,
        source: str,
        base: int | None,
        replace: bool,
        release: bool,
        allow_audience: Collection[SecretReference],
    ) -> ApplyReport:
        """Make ``text`` the definition in force.

        Args:
            text: the definition, YAML.
            source: where it comes from (a path); the base is looked up by it when nothing else tells.
            base: the version that this text started from; a header line in the text says the same.
            replace: apply even when it started from an older version.
            release: the next plan of the targets concerned does not wait for approval.
            allow_audience: secrets that may be sent to another connector or host than before.

        Raises:
            DefinitionRefused, DefinitionOutdated, AudienceRefused: nothing was stored.
        """
        new = self.read(text, source)
        stored = self._store.current()
        old = self.read(stored.text, f"definition version {stored.version}") if stored else None
        if stored is not None:
            if old is not None and old.digest == new.digest:
                return self._unchanged(stored, new, allow_audience)
            if not replace:
                self._assert_base(stored, source, _base(text, base))
        plan = self._audience(new, allow_audience)
        changes = compare(old, new)
        version = (stored.version if stored else 0) + 1
        ruleset = version if changes.rules or stored is None else stored.ruleset
        waiting = {} if release else dict(changes.waiting)
        record = StoredDefinition(version, text, source, self._actor, ruleset, self._clock())
        payload = {"version": version, "source": source, "changes": list(changes.lines), "waiting": waiting}
        event = Record("definition.apply", str(version), self._actor, payload=payload)

        def widen(transaction: SecretTransaction) -> None:
            self._audiences.write(plan.grants, self._actor, transaction)

        self._store.add(record, waiting, [event], renames(old, new), reread(old, new), also=widen)
        return ApplyReport(
            version=version,
            unchanged=False,
            changes=changes.lines,
            waiting=waiting,
            audience=_audience_changes(plan.grants),
            missing_secrets=tuple(ref.text for ref in plan.missing),
            warnings=new.warnings,
        )

    def _unchanged(
        self, stored: StoredDefinition, new: Definition, allow_audience: Collection[SecretReference]
    ) -> ApplyReport:
        """The same text again: only secrets that were stored since may need their audience."""
        plan = self._audience(new, allow_audience)
        self._audiences.write(plan.grants, self._actor)
        return ApplyReport(
            version=stored.version,
            unchanged=True,
            changes=(),
            waiting={},
            audience=_audience_changes(plan.grants),
            missing_secrets=tuple(ref.text for ref in plan.missing),
            warnings=new.warnings,
        )

    def _assert_base(self, current: StoredDefinition, source: str, base: int | None) -> None:
        if base is None:
            last = self._store.last_from(source)
            base = last.version if last else None
        if base == current.version:
            return
        began = f"version {base}" if base else "an unknown version"
        raise DefinitionOutdated(
            f"{source} started from {began}, but version {current.version} of {current.actor} is in force "
            f"(applied from {current.source})",
            hint="Look at it with `identitymesh definition show`, take its changes over and apply with "
            f"`--base {current.version}`; or override it with `--replace`.",
        )

    def _audience(self, new: Definition, allowed: Collection[SecretReference]) -> AudiencePlan:
        uses = [
            AudienceUse(ref, name, connector.endpoints)
            for name, connector in new.connectors.items()
            for ref in connector.secrets.values()
        ]
        plan = self._audiences.plan(uses, allowed)
        if plan.conflicts:
            refs = sorted({conflict.ref.text for conflict in plan.conflicts})
            told = "; ".join(f"{conflict.ref}: {conflict.reason}" for conflict in plan.conflicts)
            raise AudienceRefused(
                f"{told}; nothing was applied",
                hint="If it shall go there: apply again with " + " ".join(f"--allow-audience {ref}" for ref in refs),
            )
        return plan


def _base(text: str, given: int | None) -> int | None:
    if given is not None:
        return given
    header = _HEADER.search(text[:2_000])
    return int(header.group(1)) if header else None


def _audience_changes(grants: Sequence[AudienceGrant]) -> tuple[AudienceChange, ...]:
    found = []
    for grant in grants:
        by_connector: dict[str, list[str]] = {}
        for item in grant.added:
            by_connector.setdefault(item.connector, []).append(item.endpoint)
        found += [
            AudienceChange(grant.ref.text, name, tuple(places), bool(grant.before))
            for name, places in by_connector.items()
        ]
    return tuple(found)
