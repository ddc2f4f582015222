"""What runs need of storage, said by runs: narrow protocols and the records that pass through them.

``MeshTransaction`` is one write transaction of the mesh: everything a batch changes
is committed together or not at all, and every commit names the fence of the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from identitymesh.audit import Record
from identitymesh.lease import Lease
from identitymesh.model.accounts import Account
from identitymesh.model.identities import Identity
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.runs.review_contract import ReviewRows
from identitymesh.secrets.rows import SecretTransaction

Pair = tuple[str, str]  # mesh attribute, text
Place = tuple[str, str]  # connector, object class
UNDECIDED: Final = ("ready", "held")  # states of a plan's target that can still be approved, released or dropped


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that went wrong with one object or one connector, in words. ``subject`` is a key or an anchor."""

    connector: str
    subject: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ImportState:
    """What is known of the last imports of one (connector, object class). ``scope`` and ``names`` are digests."""

    scope: str
    names: str
    complete_at: datetime | None = None
    complete_run: int | None = None
    objects: int | None = None
    held_absences: int = 0
    held_reason: str | None = None
    error_code: str | None = None
    error: str | None = None
    error_at: datetime | None = None


class Reservation(NamedTuple):
    """A text that one person has for ever; ``folded`` for comparing. ``rule`` gave it, or it came by itself."""

    type: str
    attribute: str
    folded: str
    identity_id: int
    value: str
    rule: str | None


class UniqueRows(Protocol):
    """Who has or had which text in attributes that are unique. Texts to look for are folded."""

    def reserved(self, type_name: str, attribute: str, texts: Collection[str]) -> dict[str, int]: ...
    def given_to(self, identity_ids: Collection[int]) -> dict[tuple[int, str], str]:
        """What rules gave these people: (identity, attribute) to the value as it was given."""

    def held_at_targets(self, type_name: str, attribute: str, texts: Collection[str]) -> dict[str, list[ObjectId]]: ...
    def never_complete(self, places: Collection[Place]) -> list[Place]:
        """Those of which no complete import is known."""

    def reserve(self, rows: Sequence[Reservation]) -> None:
        """Raises ``StorageError`` when somebody else was quicker: nobody gets what another has."""

    def put_target_values(self, values: Mapping[ObjectId, Sequence[Pair]], new: Collection[ObjectId] = ()) -> None: ...


class MeshTransaction(Protocol):
    """Reads and writes of one batch. Loaded rows are locked until the commit."""

    @property
    def unique(self) -> UniqueRows: ...
    @property
    def reviews(self) -> ReviewRows: ...

    def objects(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, StoredObject]: ...
    def objects_of(self, identity_ids: Collection[int]) -> dict[int, list[StoredObject]]: ...
    def objects_by_id(self, ids: Collection[ObjectId]) -> list[StoredObject]: ...
    def correlated(
        self, connector: str, object_class: str, texts: Collection[str]
    ) -> dict[str, list[StoredObject]]: ...
    def waiting(self, object_class: str, pairs: Collection[Pair]) -> set[ObjectId]: ...
    def candidates(self, type_name: str, pairs: Collection[Pair]) -> dict[Pair, set[int]]: ...
    def identities(self, ids: Collection[int]) -> dict[int, Identity]: ...
    def next_identity_id(self) -> int: ...
    def accounts_of(self, identity_ids: Collection[int]) -> dict[int, list[Account]]: ...
    def accounts_by_key(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, Account]: ...
    def accounts_by_correlate(
        self, connector: str, object_class: str, texts: Collection[str]
    ) -> dict[str, list[Account]]: ...

    def put_objects(self, objects: Sequence[StoredObject], ruleset: int, new: Collection[ObjectId] = ()) -> None:
        """Store objects that were just seen: whatever was held of their absence is forgotten.

        ``new``, here and below: what is known not to be stored yet, so that nothing has to be removed first.
        """

    def relink_objects(self, objects: Sequence[StoredObject], ruleset: int) -> None:
        """Store the links of objects that nobody has read now; all else of them stays."""

    def remove_objects(self, ids: Sequence[ObjectId]) -> None: ...
    def put_waiting(self, pairs: Mapping[ObjectId, Sequence[Pair]], new: Collection[ObjectId] = ()) -> None: ...
    def put_identities(self, new: Sequence[Identity], changed: Sequence[Identity], ruleset: int) -> None: ...
    def settle_identities(self, ids: Collection[int], ruleset: int) -> None:
        """These identities are what they were, and what the rules of today say."""

    def put_join_keys(self, type_name: str, keys: Mapping[int, Collection[Pair]], new: Collection[int]) -> None: ...
    def put_accounts(self, new: Sequence[Account], changed: Sequence[Account]) -> None: ...
    def audit(self, events: Iterable[Record]) -> None: ...
    def put_watermark(self, connector: str, object_class: str, value: str, run_id: int) -> None: ...


class MeshStore(Protocol):
    """The mesh as runs see it: long reads as streams, writes as short transactions."""

    def transaction(self, lease: Lease) -> AbstractContextManager[MeshTransaction]:
        """One write transaction, committed at the end.

        Raises:
            LeaseLost: somebody else holds the lease now; nothing was written.
        """

    def known_digests(self, connector: str, object_class: str, ruleset: int) -> dict[str, bytes]: ...
    def held_absences(self, connector: str, object_class: str) -> dict[str, bool]:
        """Keys whose absence is held, and whether a person has approved believing it."""

    def hold_absences(
        self, connector: str, object_class: str, keys: Sequence[str], run_id: int, lease: Lease
    ) -> None: ...
    def import_state(self, connector: str, object_class: str) -> ImportState | None: ...
    def put_import_state(self, connector: str, object_class: str, state: ImportState, lease: Lease) -> None: ...
    def unread(self) -> set[tuple[str, str]]:
        """Connectors and object classes that came from a backup and have not been read completely since."""

    def watermark(self, connector: str, object_class: str) -> str | None: ...
    def objects_due(self, now: datetime, size: int) -> Iterator[list[StoredObject]]: ...
    def identities_due(self, now: datetime, size: int) -> Iterator[list[int]]: ...
    def date_mark(self) -> datetime | None:
        """The latest instant for which rules about dates were evaluated."""

    def put_date_mark(self, at: datetime, lease: Lease, events: Sequence[Record] = ()) -> None: ...
    def settle(self, ruleset: int, lease: Lease) -> None: ...
    def objects_to_rejoin(self, ruleset: int, rules: Collection[str], size: int) -> Iterator[list[StoredObject]]: ...
    def settle_objects(self, ruleset: int, rules: Collection[str], lease: Lease) -> None: ...
    def identities_to_refresh(self, ruleset: int, size: int) -> Iterator[list[int]]: ...
    def settled(self, ruleset: int) -> bool:
        """Whether it is known that all was joined and evaluated under these rules; :meth:`settle` notes it if so."""


class LeaseStore(Protocol):
    """Leases by name: ``mesh``, ``run:ID``, ``export:CONNECTOR``, ``rotate:DIGEST``.

    ``seconds``: how long one lives unrenewed.
    """

    seconds: float

    def acquire(self, name: str, purpose: str) -> Lease:
        """Raises ``Busy`` when somebody living holds it."""

    def renew(self, lease: Lease) -> None:
        """Raises ``LeaseLost`` when it was taken over."""

    def release(self, lease: Lease) -> None: ...
    def forget(self, name: str) -> None:
        """Remove a lease that nobody will ever take again."""

    def held(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """One version of the definition. ``ruleset``: the version in which mesh or rules last changed."""

    version: int
    text: str
    source: str
    actor: str
    ruleset: int
    applied_at: datetime


class DefinitionStore(Protocol):
    def current(self) -> StoredDefinition | None: ...
    def last_from(self, source: str) -> StoredDefinition | None: ...
    def add(
        self,
        definition: StoredDefinition,
        gates: Mapping[str, str],
        events: Sequence[Record],
        renames: Mapping[str, str],
        reread: Collection[tuple[str, str]] = (),
        *,
        also: Callable[[SecretTransaction], None] | None = None,
    ) -> None:
        """Store a version, gates and audit in one transaction, and what is ``also`` to be written with them.

        ``renames`` moves objects of renamed connectors; watermarks of ``reread`` are forgotten: their next delta run
        reads everything.

        Raises:
            DefinitionOutdated: another version came in between.
        """


@dataclass(frozen=True, slots=True)
class KindCount:
    """Rows of one kind in a plan: all of them, and those that nobody has approved or released before."""

    total: int
    fresh: int


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What was decided of one target of a plan."""

    connector: str
    state: str
    counts: Mapping[str, int]
    reasons: Sequence[str]
    frozen: int = 0
    parked: int = 0
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row of a plan beside the account as it is now (``None``: the account row is gone)."""

    connector: str
    object: str
    identity_id: int
    anchor: str | None
    kind: str
    row_digest: bytes
    account: Account | None


class PlanStore(Protocol):
    """Plans: which rows, what was decided. A plan bears its run's number."""

    def create(self, run_id: int, version: int, frozen: Collection[str], lease: Lease) -> None: ...
    def counts(self, run_id: int) -> dict[str, dict[str, KindCount]]: ...
    def frozen_rows(self, frozen: Collection[str]) -> dict[str, int]: ...
    def parked_rows(self) -> dict[str, int]: ...
    def unknown_anchors(self, anchors: Collection[str]) -> list[str]:
        """Those of these anchors that nobody has, sorted."""

    def linked(self, connector: str) -> int: ...
    def released_since(self, connector: str, since: datetime) -> dict[str, int]: ...
    def gates(self) -> dict[str, str]: ...
    def open_gate(self, connector: str, version: int, lease: Lease) -> None: ...
    def put_targets(self, run_id: int, targets: Sequence[PlanTarget], lease: Lease) -> None: ...
    def targets(self, run_id: int) -> list[PlanTarget]: ...
    def release(
        self, run_id: int, connector: str, counted: Mapping[str, int], *, covered_only: bool, actor: str, lease: Lease
    ) -> int: ...
    def approve(self, run_id: int, connectors: Collection[str], actor: str) -> tuple[int, int]:
        """Approve the rows that still are what the plan says; how many, and how many are not any more."""

    def drop(self, run_id: int, connectors: Collection[str], actor: str) -> int: ...
    def approve_absences(self, run_id: int, connectors: Collection[str], actor: str) -> int: ...
    def rows(self, run_id: int, *, limit: int, anchor: str | None) -> list[PlannedRow]: ...
    def skipped(self, frozen: Collection[str], *, limit: int, anchor: str | None) -> list[PlannedRow]:
        """Changes that frozen people would get, as they are now."""

    def definition_version(self, run_id: int) -> int | None: ...


class Attempt(NamedTuple):
    """One row that is about to be sent. ``recovering``: tried before, and the target may have it already."""

    account: Account
    anchor: str | None
    recovering: bool


class Result(NamedTuple):
    """What came of an attempt: how the account row changes, what the target holds now, and the audit of it."""

    change: Callable[[Account], Account]
    place: tuple[int, str, str]
    stored: StoredObject | None
    removed: ObjectId | None
    event: Record


class ExportStore(Protocol):
    def begin(
        self,
        connector: str,
        after: tuple[int, str],
        size: int,
        frozen: Collection[str],
        rules: Collection[str],
        *,
        parked: bool,
        lease: Lease,
    ) -> list[Attempt]:
        """Mark the next released rows as sending, in order of identity; those of other rules are for another run."""

    def record(self, results: Sequence[Result], ruleset: int, lease: Lease) -> None: ...
    def put_back(self, attempts: Sequence[Attempt], lease: Lease) -> None:
        """Rows that were marked but not tried."""

    def waiting(self, connector: str, frozen: Collection[str]) -> int: ...

    def owners(self, connector: str, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The identities whose accounts have these (object class, key), as far as there are any."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run as recorded. ``summary`` is what :mod:`identitymesh.runs.recording` made of its report."""

    id: int
    command: str
    mode: str
    state: str
    actor: str
    definition_version: int | None
    started_at: datetime
    ended_at: datetime | None
    summary: Mapping[str, Any]
    error_code: str | None
    error: str | None
    due: str | None = None


class RunStore(Protocol):
    def start(self, command: str, mode: str, actor: str, definition_version: int, due: str | None = None) -> int:
        """Raises ``Paused``, and ``DueDone`` when that due run was carried out already."""

    def finish(
        self,
        run_id: int,
        state: str,
        summary: Mapping[str, Any],
        issues: Sequence[Issue],
        *,
        code: str,
        error: str,
        stopped: bool = False,
    ) -> None:
        """Its end. ``stopped``: in order, before it was through; the due moment may be carried out by another."""

    def running(self) -> list[int]: ...
    def abandon(self, run_id: int) -> None: ...
    def get(self, run_id: int) -> StoredRun | None: ...
    def latest(self, limit: int, *, state: str | None = None, connector: str | None = None) -> list[StoredRun]:
        """Newest first; ``connector``: only runs that read it or wrote to it."""

    def issues(self, run_id: int, limit: int) -> list[Issue]: ...
    def issue_count(self, run_id: int) -> int: ...


class PeopleStore(Protocol):
    """Looking one person up, for `explain`."""

    def find(self, subject: str) -> list[int]: ...
    def alone(self, subject: str) -> list[StoredObject]:
        """Objects of that key, or with that join key, that belong to nobody."""

    def unmatched(self, places: Collection[Place], limit: int) -> tuple[int, list[StoredObject]]:
        """How many objects there belong to nobody, and the first of them."""

    def person(self, identity_id: int) -> tuple[Identity, list[StoredObject], list[Account]]: ...
