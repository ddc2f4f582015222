"""What runs need of storage, said by runs: narrow protocols and the records that pass through them.

``MeshTransaction`` is one write transaction of the mesh: everything a batch changes
is committed together or not at all, and every commit names the fence of the lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from identitymesh.audit import Record
from identitymesh.model.accounts import Account
from identitymesh.model.identities import Identity
from identitymesh.model.objects import ObjectId, StoredObject

Pair = tuple[str, str]  # mesh attribute, text


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds. A holder whose lease was taken over finds out at its next commit."""

    name: str
    holder: str
    fence: int


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


class MeshTransaction(Protocol):
    """Reads and writes of one batch. Loaded rows are locked until the commit."""

    def objects(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, StoredObject]: ...
    def objects_of(self, identity_ids: Collection[int]) -> dict[int, list[StoredObject]]: ...
    def objects_by_id(self, ids: Collection[ObjectId]) -> list[StoredObject]: ...
    def correlated(self, connector: str, object_class: str, texts: Collection[str]) -> dict[str, list[StoredObject]]: ...
    def waiting(self, object_class: str, pairs: Collection[Pair]) -> set[ObjectId]: ...
    def candidates(self, type_name: str, pairs: Collection[Pair]) -> dict[Pair, set[int]]: ...
    def identities(self, ids: Collection[int]) -> dict[int, Identity]: ...
    def next_identity_id(self) -> int: ...
    def accounts_of(self, identity_ids: Collection[int]) -> dict[int, list[Account]]: ...
    def accounts_by_key(self, connector: str, object_class: str, keys: Collection[str]) -> dict[str, Account]: ...
    def accounts_by_correlate(
        self, connector: str, object_class: str, texts: Collection[str]
    ) -> dict[str, list[Account]]: ...

    def put_objects(self, objects: Sequence[StoredObject], ruleset: int) -> None: ...
    def remove_objects(self, ids: Sequence[ObjectId]) -> None: ...
    def put_waiting(self, pairs: Mapping[ObjectId, Sequence[Pair]]) -> None: ...
    def put_identities(self, new: Sequence[Identity], changed: Sequence[Identity], ruleset: int) -> None: ...
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

    def hold_absences(self, connector: str, object_class: str, keys: Sequence[str], run_id: int, lease: Lease) -> None: ...
    def clear_absences(self, connector: str, object_class: str, seen: Sequence[str], lease: Lease) -> None: ...
    def import_state(self, connector: str, object_class: str) -> ImportState | None: ...
    def put_import_state(self, connector: str, object_class: str, state: ImportState, lease: Lease) -> None: ...
    def watermark(self, connector: str, object_class: str) -> str | None: ...
    def objects_to_rejoin(self, ruleset: int, rules: Collection[str], size: int) -> Iterator[list[StoredObject]]: ...
    def settle_objects(self, ruleset: int, lease: Lease) -> None: ...
    def identities_to_refresh(self, ruleset: int, size: int) -> Iterator[list[int]]: ...
