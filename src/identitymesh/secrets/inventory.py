"""Lists and verifies what is stored. One bad row gives one bad line, never a failed list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from identitymesh.audit import Record
from identitymesh.audit.records import DONE, FAILED
from identitymesh.errors import MeshError
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.ledger import read_audience
from identitymesh.secrets.properties import SecretProperties, read_properties
from identitymesh.secrets.protectors import NO_MEANS, Means
from identitymesh.secrets.providers import Held, Provider, Providers, Wanted, provider_name
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import DATABASE, LedgerRow, SecretRows

Findings = Mapping[str, Mapping[Wanted, Held | MeshError]]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What verifying one ref found: versions that were opened, and what is wrong, in words."""

    ref: str
    keyring: str
    opened: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


class Inventory:
    """Looks at all secrets at once."""

    def __init__(self, rows: SecretRows, host: Path, providers: Providers, means: Means = NO_MEANS) -> None:
        self._rows = rows
        self._providers = providers
        self._host = host
        self._means = means

    def properties(self) -> Sequence[SecretProperties]:
        """Every ledger row as properties, by ref."""
        return read_properties(self._rows.read(), self._host, self._means)

    def verify(self, actor: str) -> Sequence[VerifyResult]:
        """Open every stored version of every ref without keeping or showing it, and record the outcome."""
        with self._rows.read() as view:
            session = KeyringSession(self._host, view, means=self._means)
            ledger = view.ledger()
            installation = view.installation()
        active = installation.provider if installation else DATABASE
        found, lost = self._find_all(ledger, active, session)
        results = [_verify(row, found.get(ref, {}), session) for ref, row in sorted(ledger.items())]
        results += [VerifyResult(ref, "", 0, ("values are stored, but it has no ledger row",)) for ref in lost]
        failed = [result.ref for result in results if not result.ok]
        payload = {"checked": len(results), "failed": failed}
        with self._rows.write() as transaction:
            transaction.audit([Record("secret.verify", "*", actor, FAILED if failed else DONE, payload=payload)])
        return results

    def _find_all(
        self, ledger: Mapping[str, LedgerRow], active: str, session: KeyringSession
    ) -> tuple[Findings, list[str]]:
        """Everything stored, by ref; and the refs that the ledger does not know."""
        found: dict[str, dict[Wanted, Held | MeshError]] = {}
        lost: set[str] = set()
        for name in dict.fromkeys((DATABASE, active)):
            rows = {ref: row for ref, row in ledger.items() if provider_name(row.keyring, active) == name}
            try:
                provider = self._providers.find(name)
                stored, unknown = self._stored(provider, rows, set(ledger))
                lost |= unknown
                asked = _asked(rows.values(), stored)
                with self._rows.read() as view:
                    here = provider.look(view, asked, session)
                for item, held in provider.fetch(asked, here).items():
                    found.setdefault(item.ref, {})[item] = held
            except MeshError as error:
                for row in rows.values():
                    found.setdefault(row.ref, {})[Wanted(row.ref, row.current_version or "")] = error
        return found, sorted(lost)

    def _stored(
        self, provider: Provider, rows: Mapping[str, LedgerRow], known: set[str]
    ) -> tuple[Mapping[str, Sequence[str]], set[str]]:
        refs = provider.list(self._rows)
        stored = provider.versions(self._rows, sorted(rows))
        lost = set(refs) - known
        if lost:  # perhaps stored or deleted while we looked
            with self._rows.read() as view:
                lost -= set(view.ledger(lost))
            lost &= set(provider.list(self._rows))
        return {ref: versions for ref, versions in stored.items() if ref in rows}, lost


def _asked(rows: Iterable[LedgerRow], stored: Mapping[str, Sequence[str]]) -> list[Wanted]:
    """Every version that is stored, and those that the ledger names though they are not."""
    named = [(row.ref, version) for row in rows for version in (row.current_version, row.pending_version)]
    asked = [Wanted(ref, version) for ref, versions in stored.items() for version in versions]
    return asked + [
        Wanted(ref, version) for ref, version in named if version is not None and version not in stored.get(ref, ())
    ]


def _verify(row: LedgerRow, found: Mapping[Wanted, Held | MeshError], session: KeyringSession) -> VerifyResult:
    problems: list[str] = []
    opened = 0
    try:
        SecretReference(row.ref)
        read_audience(session.open(row.keyring), row)
    except MeshError as error:
        problems.append(str(error))
    if row.current_version is None:
        problems.append(f"{row.ref}: no version is current")
    for held in found.values():
        try:
            if isinstance(held, MeshError):
                raise held
            held.open()
            opened += 1
        except MeshError as error:
            problems.append(str(error))
    return VerifyResult(row.ref, row.keyring, opened, tuple(dict.fromkeys(problems)))
