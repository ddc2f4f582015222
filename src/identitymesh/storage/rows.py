"""Rows to values of the model, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, String, select, type_coerce

from identitymesh.model.accounts import Account
from identitymesh.model.attributes import dump, load
from identitymesh.model.identities import Identity, held_from
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.storage.bulk import BoundMoment, as_read
from identitymesh.storage.tables import mesh as m

ACCOUNT_FIELDS = Account._fields  # the columns have the names of the fields; the first three are the key
_account_fields = attrgetter(*ACCOUNT_FIELDS)

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int = 1000) -> Iterator[list[Item]]:
    """Pieces small enough for the IN lists of every database."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """Inverse of :func:`stamp`."""
    return datetime.fromisoformat(text)


def _bare(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A moment as the driver gives it; for nearly everybody it is null, which needs no call. See :func:`as_read`."""
    return type_coerce(column, String)


# What the constructors below take, in their order.
OBJECTS = select(
    *(m.connector_object.c[name] for name in ("connector", "object", "key", "document", "digest", "state")),
    *(m.connector_object.c[name] for name in ("identity_id", "joined_by", "correlate")),
    _bare(m.connector_object.c.due),
)
IDENTITIES = select(
    *(m.identity.c[name] for name in ("id", "type", "anchor", "document", "present")),
    _bare(m.identity.c.left_at),
    _bare(m.identity.c.due),
)
ACCOUNTS = select(*(m.account.c[name] for name in ACCOUNT_FIELDS))  # for Account._make


def stored_object(row: Sequence[Any]) -> StoredObject:
    """A row of :data:`OBJECTS`."""
    connector, object_class, key, document, digest, state, identity_id, joined_by, correlate, due = row
    place = ObjectId(connector, object_class, key)
    due = as_read(due) if due is not None else None
    return StoredObject(place, load(document), digest, state, identity_id, joined_by, correlate, due)


Bound = Callable[[datetime | None], BoundMoment | None]
OBJECT_ID = ("connector", "object", "key")
OBJECT_LINK = ("state", "identity_id", "joined_by", "correlate", "due", "ruleset")
OBJECT_REST = ("digest", "document", "absent_approved", "changed_at")
IDENTITY_FIELDS = ("type", "anchor", "document", "present", "left_at", "due", "ruleset", "changed_at")


def object_link(one: StoredObject, ruleset: int, bound: Bound) -> tuple[Any, ...]:
    """Values for :data:`OBJECT_LINK`. ``bound``: see :func:`~identitymesh.storage.bulk.as_stored`."""
    return one.state, one.identity_id, one.joined_by, one.correlate, bound(one.due) if one.due else None, ruleset


def object_rest(one: StoredObject, now: BoundMoment | None) -> tuple[Any, ...]:
    """Values for :data:`OBJECT_REST`."""
    return one.digest, dump(one.attributes).decode(), False, now


def identity_value(row: Sequence[Any]) -> Identity:
    """A row of :data:`IDENTITIES`."""
    number, type_name, anchor, document, present, left_at, due = row
    left_at = stamp(as_read(left_at)) if left_at is not None else None
    due = as_read(due) if due is not None else None
    return Identity(number, type_name, anchor, held_from(load(document)), present, left_at, due)


def identity_row(one: Identity, ruleset: int, bound: Bound, now: BoundMoment | None) -> tuple[Any, ...]:
    """Values for :data:`IDENTITY_FIELDS`."""
    left_at = bound(moment(one.left_at)) if one.left_at else None
    due = bound(one.due) if one.due else None
    return one.type, one.anchor, one.document().decode(), one.present, left_at, due, ruleset, now


def account_value(row: Row[Any]) -> Account:
    """From a row that has the columns of an account among others."""
    return Account._make(_account_fields(row))
