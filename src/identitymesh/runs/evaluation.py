"""Evaluates one batch: join, flow and project for what changed, then one write of all of it.

The order of the stages stands here and in :mod:`identitymesh.runs.cycle`, nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from identitymesh.errors import EvaluationError
from identitymesh.model.identities import Held, Identity
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.pipeline import flowing, joining
from identitymesh.pipeline.importing import Staged
from identitymesh.rules.join import JoinPlan, key_text
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.accounts import AccountWork
from identitymesh.runs.contract import Issue, MeshTransaction, Pair
from identitymesh.runs.keys import KeyIndex, join_pairs
from identitymesh.runs.people import found_event, person_events, renumbered
from identitymesh.runs.reviewing import PREFIX, Reviews
from identitymesh.runs.unique import UniqueValues

MAX_ROUNDS = 20  # a chain of objects that find each other only through each other's values


@dataclass(slots=True)
class Outcome:
    """What a batch did, for the run's record."""

    counts: Counter[str] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.counts.update(other.counts)
        self.issues.extend(other.issues)


class Evaluation:
    """The work of one batch inside one transaction. Use once: take or remove or refresh, then :meth:`finish`."""

    def __init__(self, tx: MeshTransaction, rules: RuleSet, now: str, actor: str, run_id: int) -> None:
        self.tx = tx
        self._rules = rules
        self._now = now
        self._actor = actor
        self._run_id = run_id
        self._objects: dict[ObjectId, StoredObject] = {}  # changed in this batch
        self._read: set[ObjectId] = set()  # those of them that the connector showed just now
        self._new: set[ObjectId] = set()  # those of them that were not stored before
        self._removed: dict[ObjectId, StoredObject] = {}
        self._rules_changed = False
        self._before: dict[int, Identity | None] = {}
        self._after: dict[int, Identity] = {}
        self._touched: dict[int, None] = {}  # identities whose values must be worked out again, in order
        self._accounts = AccountWork(tx, rules)
        self._keys = KeyIndex(tx)
        self._unique = UniqueValues(tx, rules)
        self._reviews = Reviews(tx)
        self._pairs_of: dict[int, set[Pair]] = {}  # join keys of the identities in `_after`
        self._next_id: int | None = None
        self.outcome = Outcome()

    # -- what is to be evaluated -------------------------------------------------

    def take(self, connector: str, object_class: str, staged: Sequence[Staged]) -> None:
        """New and changed objects of one connector, as just read."""
        self._read.update(ObjectId(connector, object_class, one.key) for one in staged)
        self._stage(connector, object_class, staged)

    def _stage(self, connector: str, object_class: str, staged: Sequence[Staged]) -> None:
        plan = self._rules.joins.get((connector, object_class))
        stored = self.tx.objects(connector, object_class, [one.key for one in staged])
        correlate = self._rules.correlate_of(connector, object_class)
        if plan is not None:
            self._reviews.prepare([ObjectId(connector, object_class, one.key) for one in staged])
        to_join: list[StoredObject] = []
        objects: list[StoredObject] = []
        for one in staged:
            before = stored.get(one.key)
            text = key_text(one.attributes.get(correlate)) if correlate else None
            place = ObjectId(connector, object_class, one.key)
            if before is None:
                self._new.add(place)
            fresh = StoredObject(place, one.attributes, one.digest, "aside", correlate=text)
            self._relink(fresh, before, plan, to_join)
            objects.append(self._objects[place])
        self.outcome.counts["added"] += len(staged) - len(stored)
        self.outcome.counts["changed"] += len(stored)
        self._accounts.objects_read(connector, object_class, objects)
        self._unique.see(objects)
        self._join(to_join)

    def _relink(
        self, fresh: StoredObject, before: StoredObject | None, plan: JoinPlan | None, to_join: list[StoredObject]
    ) -> None:
        self._objects[fresh.id] = fresh
        linked = before.identity_id if before else None
        if linked is not None:
            self._touched[linked] = None
        if plan is None:
            return
        rule = joining.still_linked(before.joined_by, plan, self._rules.renames) if before and linked else None
        if before and linked and before.joined_by and before.joined_by.startswith(PREFIX):
            rule = self._reviews.keeps(before)
        if rule is not None:
            self._objects[fresh.id] = fresh.joined_to(linked, rule)
        else:
            to_join.append(fresh)

    def rejoin(self, objects: Sequence[StoredObject]) -> None:
        """Stored objects whose link the rules of today do not explain."""
        by_place: dict[tuple[str, str], list[Staged]] = {}
        for stored in objects:
            staged = Staged(stored.id.key, stored.attributes, stored.digest)
            by_place.setdefault((stored.id.connector, stored.id.object), []).append(staged)
        for (connector, object_class), staged_objects in by_place.items():
            self._stage(connector, object_class, staged_objects)

    def remove(self, connector: str, object_class: str, keys: Sequence[str]) -> None:
        """Objects that the source no longer has."""
        stored = self.tx.objects(connector, object_class, keys)
        for one in stored.values():
            self._removed[one.id] = one
            self.outcome.counts["removed"] += 1
            if one.identity_id is not None:
                self._touched[one.identity_id] = None
        self._accounts.objects_gone(connector, object_class, list(stored.values()))
        self._unique.forget_objects([one.id for one in stored.values()])

    def refresh(self, identity_ids: Sequence[int]) -> None:
        """Identities that were last evaluated under other rules."""
        self._touched.update(dict.fromkeys(identity_ids))
        self._rules_changed = True
        self._accounts.rules_changed()
        self.outcome.counts["refreshed"] += len(identity_ids)

    def reconsider(self, identity_ids: Sequence[int]) -> None:
        """Identities of whom the rules can say something else today than when they were last evaluated."""
        self._touched.update(dict.fromkeys(identity_ids))

    # -- join --------------------------------------------------------------------

    def _join(self, objects: Sequence[StoredObject]) -> None:
        by_type: dict[str, set[Pair]] = {}
        keys = [self._join_keys(stored) for stored in objects]
        for stored, offered in zip(objects, keys, strict=True):
            by_type.setdefault(stored.id.object, set()).update(joining.waiting_keys(offered))
        for type_name, pairs in by_type.items():
            self._keys.fetch(type_name, pairs)
        self._unique.prepare(objects)
        self._reviews.prepare([one.id for one in objects])
        for stored, offered in zip(objects, keys, strict=True):
            self._join_one(stored, offered)

    def _join_keys(self, stored: StoredObject) -> joining.Keys:
        plan = self._rules.joins.get((stored.id.connector, stored.id.object))
        return plan.keys(stored.attributes) if plan is not None else ()

    def _join_one(self, stored: StoredObject, keys: joining.Keys) -> None:
        connector, type_name, _ = stored.id
        plan = self._rules.joins[connector, type_name]

        def find(attribute: str, text: str) -> Collection[int]:
            return self._keys.find(type_name, (attribute, text))

        holds = self._holds(stored, fallback=False)
        found = joining.join(keys, find, holds=holds)
        match self._reviews.judged(stored, found, plan, holds=holds):
            case joining.Joined(identity_id, rule):
                self._link(stored, identity_id, rule)
                self.outcome.counts["joined"] += 1
            case joining.Created(rule):
                self._create(stored, rule)
            case joining.Ambiguous(rule, several):
                self._objects[stored.id] = stored._replace(state="ambiguous", identity_id=None, joined_by=None)
                self._issue(
                    stored, "ambiguous", f"rule {rule} finds {len(several)} people; joined to none: `review list`"
                )
            case joining.Unjoined():
                self._leave_unjoined(stored)

    def _link(self, stored: StoredObject, identity_id: int, rule: str) -> None:
        self._objects[stored.id] = stored.joined_to(identity_id, rule)
        if identity_id in self._after and self._before.get(identity_id) is None:
            self._evaluate_new(identity_id)  # later objects of this batch must find what this one adds
        else:
            self._touched[identity_id] = None

    def _leave_unjoined(self, stored: StoredObject) -> None:
        due = self._rules.object_due(stored.id.connector, stored.id.object, stored.attributes)
        self._objects[stored.id] = stored._replace(state="unjoined", identity_id=None, joined_by=None, due=due)

    def _create(self, stored: StoredObject, rule: str) -> None:
        mesh_type = self._rules.types[stored.id.object]
        if self._next_id is None:
            self._next_id = self.tx.next_identity_id()
        linked = stored.joined_to(self._next_id, rule)
        values = self._flow(self._next_id, [linked], mesh_type.name, {})
        anchor = key_text(values[mesh_type.anchor].value) if mesh_type.anchor in values else None
        refused = None
        if anchor is None:
            lack = "whose anchor is no key (too long, or bytes)" if mesh_type.anchor in values else "without its anchor"
            refused = (
                "no-anchor",
                f"rule {rule} would create a person {lack}: a flow rule must give {mesh_type.anchor}",
            )
        else:
            self._keys.fetch(mesh_type.name, [(mesh_type.anchor, anchor)])
            if self._keys.find(mesh_type.name, (mesh_type.anchor, anchor)):
                refused = "anchor-taken", f"rule {rule} would create a second person with the same {mesh_type.anchor}"
        if refused:
            self._unique.take_back(self._next_id)
            self._leave_unjoined(stored)
            self._issue(stored, *refused)
            return
        identity = self._dated(Identity(self._next_id, mesh_type.name, anchor, values, present=True), [linked])
        self._next_id += 1
        self._objects[stored.id] = linked
        self._before[identity.id] = None
        self._after[identity.id] = identity
        self._move_keys(identity, None)
        self.outcome.counts["created"] += 1

    # -- flow --------------------------------------------------------------------

    def _flow(
        self, identity_id: int, objects: Sequence[StoredObject], type_name: str, before: Mapping[str, Held]
    ) -> dict[str, Held]:
        offered, problems = flowing.candidates(objects, self._rules, type_name)
        if self._unique:
            problems += self._unique.settle(identity_id, type_name, offered, objects, before)
        for problem in problems:
            message = f"rule {problem.rule.name}: {problem.message}"
            self.outcome.issues.append(Issue(problem.connector, problem.key, "rule-failed", message))
        return flowing.flow(offered, before, self._now, problems)

    def _evaluate_new(self, identity_id: int) -> None:
        identity = self._after[identity_id]
        mine = [one for one in self._objects.values() if one.identity_id == identity_id]
        changed = self._dated(replace(identity, values=self._flow(identity_id, mine, identity.type, {})), mine)
        self._after[identity_id] = changed
        self._move_keys(changed, identity)

    def _flow_touched(self) -> None:
        ids = [one for one in self._touched if one not in self._after or self._before[one] is not None]
        self._touched.clear()
        missing = [one for one in ids if one not in self._before]
        loaded = self.tx.identities(missing)
        self._before.update(loaded)
        objects = self._current_objects(ids)
        if self._unique:
            everything = [one for several in objects.values() for one in several]
            self._unique.prepare(everything, ids)
            self._unique.see(everything if self._rules_changed else ())
        for identity_id in ids:
            before = self._after.get(identity_id) or self._before[identity_id]
            if before is None:
                continue
            self._after[identity_id] = after = self._reevaluate(before, objects.get(identity_id, []))
            self._move_keys(after, before)

    def _current_objects(self, ids: Sequence[int]) -> dict[int, list[StoredObject]]:
        found: dict[int, list[StoredObject]] = {}
        for identity_id, several in self.tx.objects_of(ids).items():
            found[identity_id] = [one for one in several if one.id not in self._objects and one.id not in self._removed]
        for changed in self._objects.values():
            if changed.identity_id is not None:
                found.setdefault(changed.identity_id, []).append(changed)
        self._accounts.objects_joined(found)
        return found

    def _reevaluate(self, before: Identity, objects: Sequence[StoredObject]) -> Identity:
        present = any(self._holds(one, fallback=before.present) for one in objects)
        if not present:
            left_at = before.left_at if not before.present else self._now
            return self._dated(replace(before, present=False, left_at=left_at), objects)
        values = self._flow(before.id, objects, before.type, before.values)
        mesh_type = self._rules.types.get(before.type)
        held = values.get(mesh_type.anchor) if mesh_type else None
        anchor = key_text(held.value) if held else None
        if before.anchor in self._rules.frozen:
            anchor = before.anchor  # who is frozen stays so when the source renumbers the person
        after = Identity(before.id, before.type, anchor or before.anchor, values, present=True, due=before.due)
        return self._dated(after, objects)

    def _dated(self, identity: Identity, objects: Sequence[StoredObject]) -> Identity:
        """The identity with the instant at which rules about dates can say something else of it."""
        rules = self._rules
        if identity.id in self._unique.later:
            return replace(identity, due=rules.now)  # again as soon as the targets are read
        due = rules.person_due(identity.type, identity.attributes, objects)
        return identity if identity.due == due else replace(identity, due=due)

    def _holds(self, stored: StoredObject, *, fallback: bool) -> bool:
        plan = self._rules.joins.get((stored.id.connector, stored.id.object))
        if plan is None:
            return False
        try:
            return plan.holds(stored.attributes)
        except EvaluationError as error:
            self._issue(stored, "rule-failed", str(error))
            return fallback

    # -- join keys ---------------------------------------------------------------

    def _pairs(self, identity: Identity) -> set[Pair]:
        mesh_type = self._rules.types.get(identity.type)
        return join_pairs(identity.attributes, mesh_type.join_attributes) if mesh_type else set()

    def _move_keys(self, after: Identity, before: Identity | None) -> None:
        earlier = self._pairs_of.get(after.id) or (self._pairs(before) if before else set())
        self._pairs_of[after.id] = pairs = self._pairs(after)
        if pairs != earlier:
            self._keys.move(after.type, after.id, earlier, pairs)

    def _retry_waiting(self) -> bool:
        """Try objects again that wait for a key which this batch gave to, or took from, somebody."""
        again: list[StoredObject] = []
        for type_name in self._rules.types:
            moved = self._keys.moved(type_name)
            ids = self.tx.waiting(type_name, moved) if moved else set()
            mine = {one.id for one in self._objects.values() if one.identity_id is None and one.state != "aside"}
            stored = self.tx.objects_by_id(
                [one for one in ids if one not in self._objects and one not in self._removed]
            )
            # An object whose last rule is gone still waits in the database until the refresh comes to it.
            again += [one for one in stored if one.identity_id is None and self._has_rules(one)]
            again += [self._objects[one] for one in sorted(mine, key=str) if self._waits_for(self._objects[one], moved)]
        issues, people = len(self.outcome.issues), len(self._after)
        self._join(again)
        del self.outcome.issues[issues:]  # said already when they were first met
        return bool(self._touched) or len(self._after) > people  # somebody new has keys that others may wait for

    def _has_rules(self, stored: StoredObject) -> bool:
        return (stored.id.connector, stored.id.object) in self._rules.joins

    def _waits_for(self, stored: StoredObject, moved: set[Pair]) -> bool:
        return not moved.isdisjoint(joining.waiting_keys(self._join_keys(stored)))

    # -- the end -----------------------------------------------------------------

    def finish(self) -> Outcome:
        """Work out everything that follows, and write it."""
        self._flow_touched()
        for _ in range(MAX_ROUNDS):
            if not self._retry_waiting():
                break
            self._flow_touched()
        new = [self._after[one] for one in self._after if self._before[one] is None]
        changed = [
            after for one, after in self._after.items() if (before := self._before[one]) and after.differs(before)
        ]
        self._report_shared_anchors(changed)
        self._accounts.project(self._after, {one.id for one in new})
        self.outcome.issues += self._accounts.issues
        self._write(new, changed)
        return self.outcome

    def _report_shared_anchors(self, changed: Sequence[Identity]) -> None:
        """Somebody was renumbered to what another person is called: looked at when the whole batch has moved."""
        for before, after, mesh_type in renumbered(self._before, changed, self._rules):
            pair = (mesh_type.anchor, str(after.anchor))
            self._keys.fetch(after.type, [pair])
            if self._keys.find(after.type, pair) - {after.id}:
                held = after.values[mesh_type.anchor]
                message = f"{before.anchor} is called {after.anchor} now, as another person is; correct the source"
                self.outcome.issues.append(Issue(held.connector, held.key, "anchor-taken", message))

    def _write(self, new: Sequence[Identity], changed: Sequence[Identity]) -> None:
        tx, version = self.tx, self._rules.version
        concerned = list(self._after.values()) if self._rules_changed else [*new, *changed]
        tx.put_identities(new, changed, version)
        if self._rules_changed:
            written = {one.id for one in (*new, *changed)}
            tx.settle_identities([one.id for one in concerned if one.id not in written], version)
        self._unique.write(concerned, self._new)
        self.outcome.issues += self._unique.issues
        for type_name in self._rules.types:
            keys = {one.id: self._pairs_of[one.id] for one in concerned if one.type == type_name}
            tx.put_join_keys(type_name, keys, {one.id for one in new})
        self._reviews.write(self._removed)  # before the objects, as who decides does: nobody waits in a circle
        tx.put_objects([one for one in self._objects.values() if one.id in self._read], version, self._new)
        tx.relink_objects([one for one in self._objects.values() if one.id not in self._read], version)
        tx.remove_objects(list(self._removed))
        waiting = {one.id: self._waiting_pairs(one) for one in self._objects.values()}
        tx.put_waiting({**waiting, **dict.fromkeys(self._removed, ())}, self._new)
        tx.audit([found_event(one, self._actor, self._run_id, "import") for one in self._accounts.write()])
        for event in (events := person_events(self._before, new, changed, self._actor, self._run_id)):
            self.outcome.counts[event.action] += 1
        tx.audit(events)

    def _waiting_pairs(self, stored: StoredObject) -> Sequence[Pair]:
        return () if stored.identity_id is not None else joining.waiting_keys(self._join_keys(stored))

    def _issue(self, stored: StoredObject, code: str, message: str) -> None:
        self.outcome.issues.append(Issue(stored.id.connector, stored.id.key, code, message))
