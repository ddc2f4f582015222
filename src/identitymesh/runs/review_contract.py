"""What runs need of storage for objects that rules find several people for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from identitymesh.audit import Record
from identitymesh.model.objects import ObjectId


class ReviewDecision(NamedTuple):
    """What a person decided of an object. ``choice``: join (to ``identity_id``), create or ignore."""

    id: int
    choice: str
    identity_id: int | None


class ReviewItem(NamedTuple):
    """An object for which a rule found several people. ``choice`` is null while nobody decided."""

    id: int
    connector: str
    object: str
    key: str
    rule: str
    candidates: Sequence[int]
    opened_at: datetime
    choice: str | None = None
    identity_id: int | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


class ReviewRows(Protocol):
    """Review items as a batch sees them."""

    def any(self) -> bool: ...
    def decisions(self, ids: Collection[ObjectId]) -> dict[ObjectId, ReviewDecision]: ...
    def open(self, items: Mapping[ObjectId, tuple[str, Sequence[int]]]) -> None:
        """An item for each object that has none: the rule and the people that it finds."""

    def close(self, ids: Collection[ObjectId]) -> None:
        """Remove items that nobody has decided."""


class ReviewStore(Protocol):
    """Review items for people."""

    def items(self, *, decided: bool) -> list[ReviewItem]: ...
    def item(self, number: int) -> ReviewItem | None: ...
    def decide(self, item: ReviewItem, choice: str | None, identity_id: int | None, event: Record) -> None:
        """Raises ``NotFound``: there is no such item any more."""
