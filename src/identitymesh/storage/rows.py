"""Rows to values of the model, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Row

from identitymesh.model.accounts import Account
from identitymesh.model.attributes import digest, dump, load
from identitymesh.model.identities import Identity, held_from
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.storage.bulk import BoundMoment

ACCOUNT_FIELDS = Account._fields  # the columns have the names of the fields; the first three are the key
_account_fields = attrgetter(*ACCOUNT_FIELDS)

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int = 1000) -> Iterator[list[Item]]:
    """Pieces small enough for the IN lists of every database."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


def stamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def moment(text: str | None) -> datetime | None:
    """Inverse of :func:`stamp`."""
    return datetime.fromisoformat(text) if text else None


def stored_object(row: Row[Any]) -> StoredObject:
    return StoredObject(
        id=ObjectId(row.connector, row.object, row.key),
        attributes=load(row.document),
        digest=row.digest,
        state=row.state,
        identity_id=row.identity_id,
        joined_by=row.joined_by,
        correlate=row.correlate,
        due=row.due,
    )


Bound = Callable[[datetime | None], BoundMoment | None]
OBJECT_ID = ("connector", "object", "key")
OBJECT_LINK = ("state", "identity_id", "joined_by", "correlate", "due", "ruleset")
OBJECT_REST = ("digest", "document", "absent_approved", "changed_at")
IDENTITY_FIELDS = ("type", "anchor", "document", "digest", "present", "left_at", "due", "ruleset", "changed_at")


def object_link(one: StoredObject, ruleset: int, bound: Bound) -> tuple[Any, ...]:
    """Values for :data:`OBJECT_LINK`. ``bound``: see :func:`~identitymesh.storage.bulk.as_stored`."""
    return one.state, one.identity_id, one.joined_by, one.correlate, bound(one.due) if one.due else None, ruleset


def object_rest(one: StoredObject, now: BoundMoment | None) -> tuple[Any, ...]:
    """Values for :data:`OBJECT_REST`."""
    return one.digest, dump(one.attributes).decode(), False, now


def identity_value(row: Row[Any]) -> Identity:
    return Identity(
        id=row.id,
        type=row.type,
        anchor=row.anchor,
        values=held_from(load(row.document)),
        present=row.present,
        left_at=stamp(row.left_at),
        created_at=stamp(row.created_at),
        due=row.due,
    )


def identity_row(one: Identity, ruleset: int, bound: Bound, now: BoundMoment | None) -> tuple[Any, ...]:
    """Values for :data:`IDENTITY_FIELDS`."""
    document = one.document()
    left_at = bound(moment(one.left_at)) if one.left_at else None
    due = bound(one.due) if one.due else None
    return one.type, one.anchor, document.decode(), digest(document), one.present, left_at, due, ruleset, now


def account_value(row: Row[Any]) -> Account:
    return Account._make(_account_fields(row))
