"""Judging who asks for a value: a request, its answer, and what the audit trail says of it. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from identitymesh.audit import Record
from identitymesh.audit.records import DONE, FAILED, REFUSED
from identitymesh.errors import AudienceRefused, MeshError, SecretError, SecretExpired, SecretMissing
from identitymesh.redaction import Secret
from identitymesh.secrets.keyrings import KeyringSession
from identitymesh.secrets.ledger import check_audience, destinations, read_audience
from identitymesh.secrets.lookup import Elsewhere, Followed
from identitymesh.secrets.memory import KeyringMemory
from identitymesh.secrets.providers import Fetched, Found, Held, Wanted, provider_name, row_provider, wanted
from identitymesh.secrets.references import SecretReference
from identitymesh.secrets.rows import DATABASE, LedgerRow, StoredSecret, Use


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
    followed: Followed | None = None

    @property
    def stale(self) -> int:
        """Seconds since the provider gave it, where it does not answer now; else 0."""
        return 0 if isinstance(self.answer, MeshError) else self.answer.stale

    def open(self) -> Secret:
        """The value.

        Raises:
            SecretError, KeyringError: why there is none.
        """
        if isinstance(self.answer, MeshError):
            raise self.answer
        return self.answer.open()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger says of some refs, and the values that were found for it, at which provider."""

    ledger: Mapping[str, LedgerRow]
    found: Found
    session: KeyringSession
    provider: str

    def judge(self, request: OpenRequest, *, ask_audience: bool = True) -> Release:
        """See :func:`judge`."""
        row = self.ledger.get(request.ref.text)
        return judge(request, row, self.found, self.session, ask_audience=ask_audience)


def judge(
    request: OpenRequest,
    row: LedgerRow | None,
    found: Found,
    session: KeyringSession,
    *,
    ask_audience: bool = True,
) -> Release:
    """May this be released, and can it be? Errors of one request stay with it."""
    version = row.current_version if row else None
    try:
        if row is None or version is None:
            raise missing(request.ref.text)
        if row.is_over(datetime.now(UTC)):
            raise SecretExpired(
                f"{row.ref} has expired on {row.expires:%Y-%m-%d}",
                hint="It opens no more. Have the password of the account set anew at its system.",
            )
        if ask_audience:
            audience = read_audience(session.open(row.keyring), row)
            check_audience(row, audience, destinations(request.connector, request.endpoints))
        asked = wanted(row) or Wanted(row.ref, version)
        held = found[asked]
        if isinstance(held, SecretError):
            raise held
        held.check()
    except MeshError as error:
        return Release(request, version, error)
    if asked.follow and held.version != version:
        return Release(request, held.version, held, Followed(row.ref, version, held.version, held.outside))
    return Release(request, held.version, held)


def judge_usual(request: OpenRequest, stored: StoredSecret | None, memory: KeyringMemory) -> Release | None:
    """The usual case: a value of the database under a keyring that is open already, and nothing is wrong.

    ``None`` is everything else; :func:`judge` looks at that from the start, and says what is wrong.
    """
    if stored is None or provider_name(stored.keyring, stored.provider) != DATABASE:
        return None
    keyring = memory.recall(stored.keyring, stored.generation, stored.keyring_sealed, None)
    if keyring is None:
        return None
    try:
        check_audience(stored, keyring.audience(stored), destinations(request.connector, request.endpoints))
        value = row_provider().open_row(stored, keyring.document)
    except MeshError:
        return None
    version = str(stored.version)
    return Release(request, version, Fetched(value, version))


def missing(ref: str) -> SecretMissing:
    return SecretMissing(f"{ref} is not stored", hint=f"Store it with `identitymesh secrets set {ref}`.")


def told(
    action: str, releases: Iterable[Release], actor: str, run: str | None, now: datetime
) -> tuple[list[Record], list[Use]]:
    """What audit trail and ledger are told of releases."""
    records: list[Record] = []
    uses: list[Use] = []
    for release in releases:
        request = release.request
        payload: dict[str, object] = {"version": release.version or "", "purpose": request.purpose}
        if action == "secret.open":
            payload |= {"connector": request.connector, "endpoints": list(request.endpoints)}
        error = release.answer if isinstance(release.answer, MeshError) else None
        if isinstance(release.answer, MeshError):
            payload["error"] = release.answer.code
        elif release.answer.stale:
            payload["stale_seconds"] = release.answer.stale
        if isinstance(release.answer, Elsewhere):
            payload["from"] = release.answer.provider
        if error is None and release.version is not None:
            uses.append(Use(request.ref.text, release.version, request.connector))
        records.append(Record(action, request.ref.text, actor, _outcome(error), run, payload, now))
    return records, uses


def _outcome(error: MeshError | None) -> str:
    if error is None:
        return DONE
    return REFUSED if isinstance(error, AudienceRefused) else FAILED
