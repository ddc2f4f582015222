"""Accounts: what one target should hold for one identity, and what it is known to hold.

A plan is all accounts where the two differ, whatever a run has read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from identitymesh.model.attributes import Attributes, Value, digest, dump, image, load, same

Intent = Literal["present", "disabled", "deleted", "kept"]
Kind = Literal["create", "update", "disable", "delete"]
Status = Literal["idle", "sending", "parked"]
KINDS: tuple[Kind, ...] = ("create", "update", "disable", "delete")


class Account(NamedTuple):
    """One row per (identity, target connector, object class).

    ``desired``, ``known`` and ``echo`` are canonical images (JSON text) of the attributes
    that the rule manages. ``desired`` is null when the account should not exist, ``known``
    when it does not. ``echo`` is what the target made of our last write, where it did not
    keep it letter for letter; ``known`` is then what we wrote. ``row_digest`` names exactly
    one change: approval and release cover that and nothing else. ``initial`` is what a create
    writes once (see :class:`Initial`), and no part of any image.
    """

    identity_id: int
    connector: str
    object: str
    rule: str
    intent: Intent
    key: str | None = None
    correlate: str | None = None
    desired: str | None = None
    known: str | None = None
    echo: str | None = None
    kind: Kind | None = None
    row_digest: bytes | None = None
    approved: bytes | None = None
    released: bytes | None = None
    status: Status = "idle"
    attempts: int = 0
    error_code: str | None = None
    error: str | None = None
    initial: str | None = None

    @property
    def place(self) -> tuple[int, str, str]:
        return self.identity_id, self.connector, self.object


def settle(account: Account) -> Account:
    """Decide what there is to do, from intent, desired and known.

    A row that says something else than before is tried afresh: what was parked or counted
    belonged to the old one.
    """
    kind = _kind(account)
    row = None
    if kind is not None:
        once = [account.initial] if kind == "create" and account.initial else []
        row = digest("\n".join([kind, account.desired or "", account.known or "", *once]).encode())
    if (kind, row) == (account.kind, account.row_digest):
        return account
    if kind is None:  # carried out, or not wanted any more: the same change another day is approved anew
        account = account._replace(approved=None, released=None)
    return account._replace(
        kind=kind,
        row_digest=row,
        attempts=0,
        error_code=None,
        error=None,
        status="sending" if account.status == "sending" else "idle",
    )


def _kind(account: Account) -> Kind | None:
    if account.intent == "kept" or account.desired == account.known:
        return None
    if account.known is None:
        return "create" if account.intent == "present" else None
    if account.intent == "deleted":
        return "delete"
    return "disable" if account.intent == "disabled" else "update"


class Initial(NamedTuple):
    """What is written when an account is created, and never again: values, and lengths of passwords yet to be made."""

    values: Attributes
    passwords: Mapping[str, int]

    def text(self) -> str | None:
        """As an account keeps it; ``None`` for nothing."""
        return dump(self._asdict()).decode() if self.values or self.passwords else None


def initial_of(account: Account) -> Initial:
    """What the create of this account writes once."""
    return Initial(**load(account.initial)) if account.initial else Initial({}, {})


def picture(attributes: Attributes, managed: Collection[str]) -> str:
    """The canonical image, as text, of the managed attributes alone."""
    return image({name: value for name, value in attributes.items() if name in managed}).decode()


def attributes_of(picture_text: str | None) -> Attributes:
    """The attributes in an image; none for null."""
    return load(picture_text) if picture_text is not None else {}


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute of a change; ``None`` is absent."""

    name: str
    before: Value | None
    after: Value | None


def differences(known: str | None, desired: str | None) -> list[Difference]:
    """What a change does, attribute by attribute, sorted by name."""
    before, after = attributes_of(known), attributes_of(desired)
    return [
        Difference(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if not same(before.get(name), after.get(name))
    ]
