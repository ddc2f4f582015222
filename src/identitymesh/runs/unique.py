"""FirstFree in a batch: what a person was given stays; who has nothing yet gets the first text that nobody has.

A text is somebody's from the moment it is given: later people of the same batch do not get it, and the row that
reserves it is written in the transaction of the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Attributes
from identitymesh.model.identities import Held, Identity
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.pipeline.flowing import Candidate, RuleProblem
from identitymesh.rules.flow import FirstFree, folded
from identitymesh.rules.join import key_text, key_texts
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.contract import Issue, MeshTransaction, Reservation

Offered = dict[str, list[Candidate]]
Name = tuple[str, str]  # mesh type, attribute


class _Asked(NamedTuple):
    """A value for one person: by the attributes of an object, beside the other values that the person gets."""

    identity_id: int
    name: Name
    best: Candidate
    attributes: Attributes
    values: Attributes
    earlier: Held | None


class UniqueValues:
    """The unique values of one batch. Does nothing where no rule asks for any."""

    def __init__(self, tx: MeshTransaction, rules: RuleSet) -> None:
        self._tx = tx
        self._rules = rules
        self._holders: dict[tuple[str, str, str], int | None] = {}  # type, attribute, folded text
        self._at_targets: dict[tuple[str, str, str], Sequence[ObjectId]] = {}
        self._given: dict[tuple[int, str], str] = {}
        self._asked: set[int] = set()  # people whose earlier values were looked up
        self._holds_now: dict[tuple[str, str, str], int] = {}  # by other rules, in this batch
        self._new: dict[tuple[str, str, str], Reservation] = {}
        self._unread: Sequence[tuple[str, str]] | None = None
        self._without: dict[tuple[str, str], int] = {}  # connector and attribute: how many got nothing
        self._seen: dict[ObjectId, StoredObject] = {}
        self._seen_texts: dict[tuple[str, str], list[ObjectId]] = {}
        self._gone: set[ObjectId] = set()
        self.later: set[int] = set()  # people to whom nothing could be given yet
        self.issues: list[Issue] = []

    def __bool__(self) -> bool:
        return bool(self._rules.unique)

    # -- what the batch knows ----------------------------------------------------

    def see(self, objects: Iterable[StoredObject]) -> None:
        """Objects as they are now; those of targets hold values."""
        for one in objects:
            if (one.id.connector, one.id.object) in self._rules.watched:
                self._seen[one.id] = one
                for text in self._texts(one):
                    self._seen_texts.setdefault(text, []).append(one.id)

    def forget_objects(self, ids: Iterable[ObjectId]) -> None:
        """Objects that are gone."""
        self._gone.update(one for one in ids if (one.connector, one.object) in self._rules.watched)

    def prepare(self, objects: Iterable[StoredObject], identity_ids: Collection[int] = ()) -> None:
        """Look up together what these people were given, and who has the texts that they would get."""
        if not self:
            return
        unknown = [one for one in identity_ids if one not in self._asked]
        self._asked.update(unknown)
        self._given = {**self._tx.unique.given_to(unknown), **self._given}
        wanted: dict[Name, set[str]] = {}
        for stored in objects:
            plan = self._rules.flows.get((stored.id.connector, stored.id.object))
            for rule in plan.rules if plan else ():
                if rule.free is not None and (text := _first(rule.free, stored.attributes)) is not None:
                    wanted.setdefault((stored.id.object, rule.target), set()).add(folded(text))
        for name, texts in wanted.items():
            self._fetch(name, texts)

    def _fetch(self, name: Name, texts: Iterable[str]) -> None:
        missing = [text for text in texts if (*name, text) not in self._holders]
        if not missing:
            return
        reserved = self._tx.unique.reserved(*name, missing)
        held = self._tx.unique.held_at_targets(*name, missing)
        for text in missing:
            self._holders[(*name, text)] = reserved.get(text)
            self._at_targets[(*name, text)] = held.get(text, ())

    # -- giving ------------------------------------------------------------------

    def settle(
        self,
        identity_id: int,
        type_name: str,
        offered: Offered,
        objects: Sequence[StoredObject],
        before: Mapping[str, Held],
    ) -> list[RuleProblem]:
        """Put the given values in the place of the first texts that FirstFree rules offer; what is lost, loses."""
        problems = []
        for name in self._rules.unique.get(type_name, ()):
            several = offered.get(name)
            if not several:
                continue
            best = several[0]
            if best.rule.free is None:
                self._holds_now.setdefault((type_name, name, folded(str(best.value))), identity_id)
                continue
            source = next(one for one in objects if (one.id.connector, one.id.key) == (best.rule.connector, best.key))
            values = {one: some[0].value for one, some in offered.items()}
            try:
                asked = _Asked(identity_id, (type_name, name), best, source.attributes, values, before.get(name))
                value = self._value(asked)
            except EvaluationError as error:
                problems.append(RuleProblem(best.rule, best.rule.connector, best.key, str(error)))
                value = None
            rest = [one for one in several if one.rule.free is None]
            offered[name] = [best._replace(value=value), *several[1:]] if value is not None else rest
            if not offered[name]:
                del offered[name]
        return problems

    def _value(self, asked: _Asked) -> str | None:
        identity_id, name, best, attributes, values, earlier = asked
        if identity_id not in self._asked and earlier is not None:
            self.prepare((), [identity_id])
        if (given := self._given.get((identity_id, name[1]))) is not None:
            return given
        self._unread = self._tx.unique.never_complete(self._rules.watched) if self._unread is None else self._unread
        if self._unread:
            self.later.add(identity_id)
            self._without[best.rule.connector, name[1]] = self._without.get((best.rule.connector, name[1]), 0) + 1
            return None
        if best.rule.free is None:
            raise AssertionError("only rules with FirstFree come here")
        if earlier is not None and self._rules.renames.get(earlier.rule, earlier.rule) == best.rule.name:
            text = str(earlier.value)  # from before the rule gave texts to one alone: the first of several keeps it
            self._fetch(name, [folded(text)])
            if self._holders[(*name, folded(text))] in (None, identity_id):
                return self._give(identity_id, name, text, best.rule.name)
        for text in best.rule.free.offers(attributes):
            self._fetch(name, [folded(text)])
            if self._free(identity_id, name, folded(text), values):
                return self._give(identity_id, name, text, best.rule.name)
        raise EvaluationError("FirstFree: every text is somebody's already")

    def _give(self, identity_id: int, name: Name, text: str, rule: str) -> str:
        key = (*name, folded(text))
        if self._holders[key] is None:
            self._new[key] = Reservation(*key, identity_id, text, rule)
        self._holders[key] = identity_id
        self._given[identity_id, name[1]] = text
        return text

    def _free(self, identity_id: int, name: Name, text: str, values: Attributes) -> bool:
        key = (*name, text)
        if self._holders[key] not in (None, identity_id) or self._holds_now.get(key, identity_id) != identity_id:
            return False
        stored = [one for one in self._at_targets[key] if one not in self._seen and one not in self._gone]
        found = self._tx.objects_by_id(stored) if stored else []
        found += [self._seen[one] for one in self._seen_texts.get((name[1], text), ())]
        return all(self._is_of(one, identity_id, name[0], values) for one in found)

    def _is_of(self, account: StoredObject, identity_id: int, type_name: str, values: Attributes) -> bool:
        """Whether an account is this person's: linked, joined, or found by ``correlate`` as soon as there is one."""
        connector, object_class, key = account.id
        owner = self._tx.accounts_by_key(connector, object_class, [key]).get(key)
        if owner is not None or account.identity_id is not None:
            return identity_id in (owner.identity_id if owner else None, account.identity_id)
        for rule in self._rules.projections.get(type_name, ()):
            if (rule.connector, rule.object) == (connector, object_class) and account.correlate is not None:
                wanted = dict(zip(rule.names, rule.evaluate(values)[0], strict=True))
                if key_text(wanted.get(rule.correlate or "")) == account.correlate:
                    return True
        return False

    def take_back(self, identity_id: int) -> None:
        """Nobody became of this person."""
        for key, row in list(self._new.items()):
            if row.identity_id == identity_id:
                del self._new[key]
                self._holders[key] = None
        for given in [one for one in self._given if one[0] == identity_id]:
            del self._given[given]
        self.later.discard(identity_id)

    # -- the end -----------------------------------------------------------------

    def write(self, changed: Sequence[Identity], new: Collection[ObjectId]) -> None:
        """Reserve what was given, and what people have of such attributes by other rules; note what targets hold."""
        if not self:
            return
        self._reserve_held(changed)
        self._tx.unique.reserve(list(self._new.values()))
        held = {one.id: sorted(set(self._texts(one))) for one in self._seen.values() if one.id not in self._gone}
        self._tx.unique.put_target_values({**held, **dict.fromkeys(self._gone, ())}, new)
        for (connector, attribute), count in self._without.items():
            unread = ", ".join(sorted({place[0] for place in self._unread or ()}))
            why = f"{unread} has not been read completely, so nobody knows what is free"
            message = f"{count:,} got no {attribute} yet: {why}"
            self.issues.append(Issue(connector, attribute, "value-unchecked", message))

    def _reserve_held(self, changed: Sequence[Identity]) -> None:
        for type_name, attributes in self._rules.unique.items():
            for name in attributes:
                held = [(one, one.values[name]) for one in changed if one.type == type_name and name in one.values]
                texts = {one.id: str(value.value) for one, value in held if isinstance(value.value, str)}
                self._fetch((type_name, name), [folded(text) for text in texts.values()])
                for one, value in held:
                    self._claim(one, (type_name, name), value)

    def _claim(self, identity: Identity, name: Name, held: Held) -> None:
        if not isinstance(held.value, str) or key_text(held.value) is None:
            return
        key = (*name, folded(held.value))
        if self._holders[key] is None:
            self._holders[key] = identity.id
            self._new[key] = Reservation(*key, identity.id, held.value, None)
        elif self._holders[key] != identity.id:
            message = f"rule {held.rule} gives {name[1]} a value that another person has, or had, and keeps"
            self.issues.append(Issue(held.connector, held.key, "value-taken", message))

    def _texts(self, stored: StoredObject) -> list[tuple[str, str]]:
        """Mesh attribute and folded text of everything that an account of a target holds of unique attributes."""
        watched = self._rules.watched.get((stored.id.connector, stored.id.object), {})
        found = []
        for attribute, name in watched.items():
            value = stored.attributes.get(attribute)
            found += [(name, folded(text)) for text in key_texts(value)]
        return found


def _first(free: FirstFree, attributes: Attributes) -> str | None:
    try:
        return next(free.offers(attributes), None)
    except EvaluationError:
        return None
