"""Rows to values of the model, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Row, bindparam

from identitymesh.model.accounts import Account
from identitymesh.model.attributes import digest, dump, load
from identitymesh.model.identities import Identity, held_from
from identitymesh.model.objects import ObjectId, StoredObject

ACCOUNT_FIELDS = (
    "identity_id", "connector", "object", "rule", "intent", "key", "correlate", "desired", "known", "echo", "kind",
    "row_digest", "approved", "released", "status", "attempts", "error_code", "error",
)  # fmt: skip

Item = TypeVar("Item")


def listed(values: Sequence[Any]) -> BindParameter[Any]:
    """The right side of an IN: one parameter, so that Core looks at the list and not at each value."""
    return bindparam(None, values, expanding=True)


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
        digest=bytes(row.digest),
        state=row.state,
        identity_id=row.identity_id,
        joined_by=row.joined_by,
        correlate=row.correlate,
        due=row.due,
    )


def object_row(one: StoredObject, ruleset: int, now: datetime) -> dict[str, Any]:
    return {
        "connector": one.id.connector,
        "object": one.id.object,
        "key": one.id.key,
        "digest": one.digest,
        "document": dump(one.attributes).decode(),
        "state": one.state,
        "identity_id": one.identity_id,
        "joined_by": one.joined_by,
        "correlate": one.correlate,
        "due": one.due,
        "ruleset": ruleset,
        "absent_run": None,
        "absent_approved": False,
        "changed_at": now,
    }


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


def identity_row(one: Identity, ruleset: int, now: datetime) -> dict[str, Any]:
    document = one.document()
    return {
        "id": one.id,
        "type": one.type,
        "anchor": one.anchor,
        "document": document.decode(),
        "digest": digest(document),
        "present": one.present,
        "left_at": moment(one.left_at),
        "due": one.due,
        "ruleset": ruleset,
        "changed_at": now,
    }


def account_value(row: Row[Any]) -> Account:
    values = {name: getattr(row, name) for name in ACCOUNT_FIELDS}
    for name in ("row_digest", "approved", "released"):
        values[name] = bytes(values[name]) if values[name] is not None else None
    return Account(**values)


def account_row(one: Account, now: datetime) -> dict[str, Any]:
    return {**{name: getattr(one, name) for name in ACCOUNT_FIELDS}, "changed_at": now}
