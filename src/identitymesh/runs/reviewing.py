"""Ambiguous joins in a batch: what a person decided of an object is followed, what nobody decided waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.pipeline import joining
from identitymesh.rules.join import JoinPlan
from identitymesh.runs.contract import MeshTransaction
from identitymesh.runs.review_contract import ReviewDecision

PREFIX = "review:"  # of `joined_by`: a person decided


class Reviews:
    """The review items of one batch."""

    def __init__(self, tx: MeshTransaction) -> None:
        self._tx = tx
        self._any: bool | None = None
        self._decided: dict[ObjectId, ReviewDecision | None] = {}
        self._open: dict[ObjectId, tuple[str, Sequence[int]]] = {}
        self._settled: set[ObjectId] = set()

    def prepare(self, ids: Collection[ObjectId]) -> None:
        """Look up together what was decided of these objects."""
        self._any = self._tx.reviews.any() if self._any is None else self._any
        missing = [one for one in ids if one not in self._decided]
        found: Mapping[ObjectId, ReviewDecision] = self._tx.reviews.decisions(missing) if self._any else {}
        self._decided.update({one: found.get(one) for one in missing})

    def keeps(self, before: StoredObject) -> str | None:
        """The name of the link, if a person decided it and it stands."""
        decision = self._decided.get(before.id)
        if decision is None or decision.choice != "join" or decision.identity_id != before.identity_id:
            return None
        return f"{PREFIX}{decision.id}"

    def judged(self, stored: StoredObject, found: joining.Outcome, plan: JoinPlan, *, holds: bool) -> joining.Outcome:
        """What becomes of an object: as decided, or as the rules say."""
        decision = self._decided.get(stored.id)
        if decision is not None and decision.choice == "join" and decision.identity_id is not None:
            found = joining.Joined(decision.identity_id, f"{PREFIX}{decision.id}")
        elif decision is not None and decision.choice == "ignore":
            found = joining.Unjoined()
        elif decision is not None and isinstance(found, joining.Ambiguous):
            rule = next((one.name for one in plan.rules if one.create and holds), None)
            found = joining.Created(rule) if rule is not None else joining.Unjoined()
        if isinstance(found, joining.Ambiguous) and (owner := self._owner(stored)) in found.candidates:
            found = joining.Joined(owner, found.rule)  # an account of ours is not in doubt
        if isinstance(found, joining.Ambiguous):
            self._open[stored.id] = (found.rule, found.candidates)
            self._settled.discard(stored.id)
        elif self._any or stored.id in self._open:
            self._open.pop(stored.id, None)
            self._settled.add(stored.id)
        return found

    def _owner(self, stored: StoredObject) -> int:
        """The identity whose account at a target this is; 0 for nobody's."""
        connector, object_class, key = stored.id
        account = self._tx.accounts_by_key(connector, object_class, [key]).get(key)
        return account.identity_id if account is not None else 0

    def write(self, removed: Collection[ObjectId]) -> None:
        """Open what is ambiguous, close what is not any more; what was decided stays, also when the object goes."""
        if self._open:
            self._tx.reviews.open(self._open)
        if self._any and (self._settled or removed):
            self._tx.reviews.close({*self._settled, *removed})
