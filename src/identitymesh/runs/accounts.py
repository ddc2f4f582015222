"""The account rows of one batch: link them to what the targets hold, project, settle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from identitymesh.model.accounts import Account, picture
from identitymesh.model.attributes import Attributes
from identitymesh.model.identities import Identity
from identitymesh.model.objects import StoredObject
from identitymesh.pipeline import exporting
from identitymesh.pipeline.projecting import Place, by_place, project
from identitymesh.rules.project import ProjectRule
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.contract import Issue, MeshTransaction
from identitymesh.runs.people import FoundDone

# Why an account is not made although nobody has it: settled at the target, seen by its next import.
CONFLICTS = frozenset({"account-ambiguous", "account-taken"})


class AccountWork:
    """Collects what a batch learnt about targets, and turns it into account rows when asked."""

    def __init__(self, tx: MeshTransaction, rules: RuleSet) -> None:
        self._tx = tx
        self._rules = rules
        self._places = {name: by_place(several) for name, several in rules.projections.items()}
        self._rule_of = {rule.name: rule for several in rules.projections.values() for rule in several}
        self._targets = {(rule.connector, rule.object) for rule in self._rule_of.values()}
        self._read: dict[tuple[Place, str], StoredObject] = {}
        self._gone: set[tuple[Place, str]] = set()
        self._joined: Mapping[int, Sequence[StoredObject]] = {}
        self._extra: dict[int, None] = {}  # identities concerned through their accounts alone
        self._rules_changed = False
        self._stored: dict[tuple[int, str, str], Account] = {}
        self._result: dict[tuple[int, str, str], Account] = {}
        self._anchors: dict[int, str | None] = {}
        self.issues: list[Issue] = []

    # -- what the batch learnt ---------------------------------------------------

    def objects_read(self, connector: str, object_class: str, objects: Sequence[StoredObject]) -> None:
        """Objects of a connector as they are now; those of targets are what accounts are known to hold."""
        place = (connector, object_class)
        if place not in self._targets:
            return
        for one in objects:
            self._read[place, one.id.key] = one
        linked = self._tx.accounts_by_key(connector, object_class, [one.id.key for one in objects])
        self._extra.update(dict.fromkeys(account.identity_id for account in linked.values()))
        self._concerns_unlinked(connector, object_class, [one for one in objects if one.id.key not in linked])

    def objects_gone(self, connector: str, object_class: str, objects: Sequence[StoredObject]) -> None:
        """Objects that the target does not have any more, as they were."""
        place = (connector, object_class)
        if place not in self._targets:
            return
        keys = [one.id.key for one in objects]
        self._gone.update((place, key) for key in keys)
        linked = self._tx.accounts_by_key(connector, object_class, keys)
        self._extra.update(dict.fromkeys(account.identity_id for account in linked.values()))
        self._concerns_unlinked(connector, object_class, objects)

    def _concerns_unlinked(self, connector: str, object_class: str, objects: Sequence[StoredObject]) -> None:
        """Accounts without a key whose correlate value these objects carry: adopted, or freed of a conflict."""
        texts = [one.correlate for one in objects if one.correlate]
        for several in self._tx.accounts_by_correlate(connector, object_class, texts).values():
            self._extra.update(dict.fromkeys(one.identity_id for one in several if one.key is None))

    def objects_joined(self, objects: Mapping[int, Sequence[StoredObject]]) -> None:
        """The objects that are joined to identities of this batch."""
        self._joined = {**self._joined, **objects}

    def rules_changed(self) -> None:
        """Images must be taken again: other rules manage other attributes."""
        self._rules_changed = True

    # -- project -----------------------------------------------------------------

    def project(self, identities: Mapping[int, Identity], new: Collection[int]) -> None:
        """Work out all accounts of these identities, and of those that the targets' objects concern.

        ``new`` identities have no account rows yet.
        """
        missing = [one for one in self._extra if one not in identities]
        everyone = {**identities, **self._tx.identities(missing)}
        self._anchors = {one: identity.anchor for one, identity in everyone.items()}
        stored = self._tx.accounts_of([one for one in everyone if one not in new])
        for several in stored.values():
            self._stored.update({one.place: one for one in several})
        images = self._images(stored)
        unlinked: list[Account] = []
        for identity_id, identity in everyone.items():
            existing = {(one.connector, one.object): one for one in stored.get(identity_id, ())}
            linked = {place: self._linked(place, one, images) for place, one in existing.items()}
            self._link_joined(identity_id, linked)
            unlinked += self._project_one(identity, linked)
        self._adopt(everyone, unlinked)

    def _project_one(self, identity: Identity, existing: Mapping[Place, Account]) -> list[Account]:
        found = project(identity, self._places.get(identity.type, {}), existing, self._rules.renames)
        for (connector, _), _rule, message in found.problems:
            self.issues.append(Issue(connector, identity.anchor or str(identity.id), "rule-failed", message))
        for account in found.accounts:
            self._result[account.place] = account
        return [one for one in found.accounts if one.known is None and one.key is None and one.correlate]

    def _images(self, stored: Mapping[int, Sequence[Account]]) -> dict[tuple[Place, str], StoredObject]:
        """What targets hold: as just read and, when the rules have changed, as stored."""
        images = dict(self._read)
        if self._rules_changed:
            by_place: dict[Place, list[str]] = {}
            for several in stored.values():
                for one in several:
                    if one.key is not None:
                        by_place.setdefault((one.connector, one.object), []).append(one.key)
            for place, keys in by_place.items():
                for key, found in self._tx.objects(*place, keys).items():
                    images.setdefault((place, key), found)
        return images

    def _linked(self, place: Place, account: Account, images: Mapping[tuple[Place, str], StoredObject]) -> Account:
        if account.key is None:
            conflict = account.error_code in CONFLICTS
            return account._replace(status="idle", error_code=None, error=None) if conflict else account
        if (place, account.key) in self._gone:
            return account._replace(key=None, known=None, echo=None)
        seen = images.get((place, account.key))
        return self._knowing(account, seen.attributes) if seen is not None else account

    def _knowing(self, account: Account, attributes: Attributes) -> Account:
        rule = self._rule(account)
        if rule is None:
            return account
        now = picture(attributes, rule.managed)
        if account.known is not None and now == account.echo:
            return account  # the target's own spelling of what we wrote
        return account._replace(known=now, echo=None)

    def _rule(self, account: Account) -> ProjectRule | None:
        return self._rule_of.get(self._rules.renames.get(account.rule, account.rule))

    def _link_joined(self, identity_id: int, existing: dict[Place, Account]) -> None:
        """An object of a target that a join rule gave to this identity is its account there."""
        by_place: dict[Place, list[StoredObject]] = {}
        for one in self._joined.get(identity_id, ()):
            place = (one.id.connector, one.id.object)
            if place in self._targets:
                by_place.setdefault(place, []).append(one)
        for place, several in by_place.items():
            account = existing.get(place)
            if len(several) != 1 or (account is not None and account.key is not None):
                continue
            found = several[0]
            if account is None:
                rule = next(one for one in self._rule_of.values() if (one.connector, one.object) == place)
                account = Account(identity_id, *place, rule.name, "kept")
            existing[place] = self._knowing(account._replace(key=found.id.key, known="{}"), found.attributes)

    def _adopt(self, identities: Mapping[int, Identity], unlinked: Sequence[Account]) -> None:
        """Accounts that exist at the target already, found by the attribute ``correlate``."""
        by_place: dict[Place, list[Account]] = {}
        for account in unlinked:
            by_place.setdefault((account.connector, account.object), []).append(account)
        for place, accounts in by_place.items():
            texts = [account.correlate for account in accounts if account.correlate]
            found = self._tx.correlated(*place, texts)
            for (where, _), one in self._read.items():  # this batch's objects are not stored yet
                if where == place and one.correlate:
                    several = [other for other in found.get(one.correlate, []) if other.id != one.id]
                    found[one.correlate] = [*several, one]
            keys = [one.id.key for several in found.values() for one in several]
            taken = self._tx.accounts_by_key(*place, keys)
            for account in accounts:
                several = [
                    one for one in found.get(account.correlate or "", []) if (place, one.id.key) not in self._gone
                ]
                self._adopt_one(identities[account.identity_id], account, several, taken)

    def _adopt_one(
        self, identity: Identity, account: Account, found: Sequence[StoredObject], taken: dict[str, Account]
    ) -> None:
        free = [one for one in found if one.id.key not in taken]
        place = (account.connector, account.object)
        who = identity.anchor or str(identity.id)
        if len(found) == 1 and free:
            linked = self._knowing(account._replace(key=free[0].id.key, known="{}"), free[0].attributes)
            existing = {key: row for key, row in self._rows_of(identity.id).items() if key != place}
            self._project_one(identity, {**existing, place: linked})
            taken[free[0].id.key] = linked  # the next of this batch with the same value does not get it too
        elif found:
            reason = (
                f"{len(found)} accounts there carry the correlate value of this person; none was touched"
                if len(found) > 1
                else "the account with this person's correlate value belongs to somebody else here; it was not touched"
            )
            code = "account-ambiguous" if len(found) > 1 else "account-taken"
            self._result[account.place] = account._replace(status="parked", error_code=code, error=reason)
            self.issues.append(Issue(account.connector, who, code, reason))

    def _rows_of(self, identity_id: int) -> dict[Place, Account]:
        return {(row.connector, row.object): row for place, row in self._result.items() if place[0] == identity_id}

    # -- write -------------------------------------------------------------------

    def write(self) -> list[FoundDone]:
        """Store the rows that are new or differ; answers what was sent and is seen to be done only now."""
        stored, results = self._stored, self._result.items()
        new = [one for place, one in results if place not in stored]
        changed = [one for place, one in results if place in stored and one != stored[place]] if stored else []
        found: list[FoundDone] = []
        for index, after in enumerate(changed):
            before = self._stored[after.place]
            if exporting.unanswered(before) and before.known != after.known:
                changed[index] = after._replace(status="parked" if after.status == "parked" else "idle", attempts=0)
                found.append(FoundDone(before, changed[index], self._anchors.get(after.identity_id)))
        self._tx.put_accounts(new, changed)
        return found
