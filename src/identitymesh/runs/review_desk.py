"""What people do with objects that rules cannot join: look, decide, take a decision back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from identitymesh.audit import Record
from identitymesh.definition.reading import Definition
from identitymesh.errors import NotFound, UsageError
from identitymesh.model.attributes import Attributes
from identitymesh.model.identities import Identity
from identitymesh.runs.contract import PeopleStore
from identitymesh.runs.review_contract import ReviewItem, ReviewStore

Choice = Literal["join", "create", "ignore"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person that the object may be: only what join rules compare is shown."""

    identity_id: int
    anchor: str | None
    present: bool
    values: Attributes


@dataclass(frozen=True, slots=True)
class Review:
    """One object that waits for a decision, or had one. ``values`` are those that join rules compare."""

    id: int
    connector: str
    object: str
    key: str
    rule: str
    opened_at: datetime
    values: Attributes
    candidates: Sequence[Candidate]
    choice: str | None = None
    person: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


class ReviewDesk:
    """The review items of one installation."""

    def __init__(self, store: ReviewStore, people: PeopleStore, actor: str) -> None:
        self._store = store
        self._people = people
        self._actor = actor

    def list(self, definition: Definition, *, decided: bool) -> Sequence[Review]:
        """What waits, and with ``decided`` also what was decided, oldest first."""
        return [self._shown(one, definition) for one in self._store.items(decided=decided)]

    def show(self, number: int, definition: Definition) -> Review:
        """One item. Raises ``NotFound``."""
        return self._shown(self._item(number), definition)

    def decide(self, number: int, choice: Choice, person: str | None, definition: Definition) -> Review:
        """Remember what somebody decided; the next run goes by it, and so do all after it.

        Raises:
            NotFound: no such item, also when a run closed it in this moment, or nobody is called that.
            UsageError: several people are called that, or no rule makes people of such objects.
        """
        item = self._item(number)
        identity = self._named(person) if person is not None else None
        rules = [
            one for one in definition.shape.rules.join if (one.connector, one.object) == (item.connector, item.object)
        ]
        if choice == "create" and not any(one.create for one in rules):
            raise UsageError(
                f"no join rule of {item.connector} has create: true, so no person is made of its {item.object}s",
                hint="Decide --join or --ignore, or change the definition.",
            )
        if identity is not None and identity.type != item.object:
            raise UsageError(f"{person} is a {identity.type}, not a {item.object}")
        self._record(item, choice, identity)
        return self.show(number, definition)

    def undo(self, number: int, definition: Definition) -> Review:
        """Take a decision back: the next run asks the rules again. Raises ``NotFound`` or ``UsageError``."""
        item = self._item(number)
        if item.choice is None:
            raise UsageError(f"nothing was decided of review item {number} yet")
        self._record(item, None, None)
        return self.show(number, definition)

    def _record(self, item: ReviewItem, choice: Choice | None, identity: Identity | None) -> None:
        subject = f"{item.connector}/{item.object}/{item.key}"
        payload = {"item": item.id, "rule": item.rule, "before": item.choice or "", "choice": choice or ""}
        if identity is not None:
            payload |= {"identity": identity.id, "anchor": identity.anchor or ""}
        action = "review.decide" if choice else "review.undo"
        event = Record(action, subject[:255], self._actor, payload=payload)
        self._store.decide(item, choice, identity.id if identity else None, event)

    def _item(self, number: int) -> ReviewItem:
        item = self._store.item(number)
        if item is None:
            raise NotFound(f"there is no review item {number}", hint="See `identitymesh review list --all`.")
        return item

    def _named(self, person: str) -> Identity:
        found = self._people.find(person)
        if not found:
            raise NotFound(f"nobody is known as {person[:100]!r}", hint="Give the anchor of a person of the mesh.")
        if len(found) > 1:
            raise UsageError(f"{len(found)} people are known as {person[:100]!r}", hint="Give the anchor of one.")
        return self._people.person(found[0])[0]

    def _shown(self, item: ReviewItem, definition: Definition) -> Review:
        rules = [
            one for one in definition.shape.rules.join if (one.connector, one.object) == (item.connector, item.object)
        ]
        sources, targets = {one.source for one in rules}, {one.target for one in rules}
        people = [self._people.person(one)[0] for one in item.candidates]
        found = self._people.alone(item.key)
        found = [one for one in found if (one.id.connector, one.id.object) == (item.connector, item.object)]
        chosen = self._people.person(item.identity_id)[0] if item.identity_id is not None else None
        return Review(
            item.id,
            item.connector,
            item.object,
            item.key,
            item.rule,
            item.opened_at,
            {name: value for one in found for name, value in one.attributes.items() if name in sources},
            [
                Candidate(one.id, one.anchor, one.present, {n: v for n, v in one.attributes.items() if n in targets})
                for one in people
            ],
            item.choice,
            (chosen.anchor or str(chosen.id)) if chosen else None,
            item.decided_by,
            item.decided_at,
        )
