"""Explain: where every value of a person comes from, and what lost against it."""

from __future__ import annotations

from collections.abc import Sequence

from identitymesh.errors import EvaluationError, NotFound, UsageError
from identitymesh.model.accounts import Account
from identitymesh.model.attributes import Value
from identitymesh.model.identities import Held, Identity
from identitymesh.model.objects import StoredObject
from identitymesh.pipeline import flowing
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.contract import PeopleStore
from identitymesh.runs.masking import changes_of
from identitymesh.runs.reports import (
    ExplainedAccount,
    ExplainedObject,
    ExplainedValue,
    Explanation,
    Offer,
)


def explain(people: PeopleStore, rules: RuleSet, subject: str) -> Explanation:
    """Everything about one person, named by anchor, key, or ``connector/object/key``.

    Raises:
        NotFound: nobody is called that.
        UsageError: several people are.
    """
    found = people.find(subject)
    if not found:
        raise NotFound(
            f"nobody is known as {subject[:100]!r}",
            hint="Give an anchor (such as an employee number), or connector/object/key.",
        )
    if len(found) > 1:
        raise UsageError(f"{len(found)} people are known as {subject[:100]!r}", hint="Give the anchor of one of them.")
    identity, objects, accounts = people.person(found[0])
    return Explanation(
        identity_id=identity.id,
        type=identity.type,
        anchor=identity.anchor,
        present=identity.present,
        left_at=identity.left_at,
        frozen=identity.anchor in rules.frozen,
        objects=[ExplainedObject(one.id.connector, one.id.object, one.id.key, one.joined_by) for one in objects],
        values=_values(identity, objects, rules),
        accounts=[_account(one) for one in accounts],
        not_projected=_not_projected(identity, accounts, rules),
    )


def _not_projected(identity: Identity, accounts: Sequence[Account], rules: RuleSet) -> list[str]:
    """Why rules give no account. Whoever left gets none from any rule."""
    places = {(one.connector, one.object) for one in accounts}
    found = []
    for rule in rules.projections.get(identity.type, ()):
        if (rule.connector, rule.object) in places:
            continue
        who = f"rule {rule.name} ({rule.connector}/{rule.object})"
        try:
            within = rule.when is None or rule.when(identity.attributes) is True
        except EvaluationError as error:
            found.append(f"{who}: its `when` fails: {error}")
            continue
        if not within:
            found.append(f"{who}: its `when` is false")
        elif not identity.present:
            found.append(f"{who}: this person has left")
        else:
            found.append(f"{who}: not evaluated since it was applied; the next run does")
    return found


def _values(identity: Identity, objects: Sequence[StoredObject], rules: RuleSet) -> list[ExplainedValue]:
    mesh_type = rules.types.get(identity.type)
    if mesh_type is None:
        return []
    offered, _ = flowing.candidates(objects, rules, identity.type)
    found = []
    for name, attribute in mesh_type.attributes.items():
        held = identity.values.get(name)
        offers = [
            Offer(
                _offered(held, one),
                one.rule.name,
                one.rule.connector,
                one.key,
                one.rule.confidence,
                won=_won(held, one),
            )
            for one in offered.get(name, ())
        ]
        found.append(
            ExplainedValue(
                name,
                held.value if held else None,
                held.since if held else None,
                offers,
                restricted=attribute.sensitivity == "restricted",
                rule=held.rule if held else None,
                connector=held.connector if held else None,
                key=held.key if held else None,
                confidence=held.confidence if held else None,
            )
        )
    return found


def _offered(held: Held | None, offer: flowing.Candidate) -> Value:
    """What a rule offers; what FirstFree gave is what the person has."""
    return held.value if held is not None and offer.rule.free is not None and _won(held, offer) else offer.value


def _won(held: Held | None, offer: flowing.Candidate) -> bool:
    return held is not None and (held.rule, held.connector, held.key) == (
        offer.rule.name,
        offer.rule.connector,
        offer.key,
    )


def _account(account: Account) -> ExplainedAccount:
    if account.status == "parked":
        state = f"parked: {account.error}"
    elif account.kind is not None:
        state = f"{account.kind} is planned"
    elif account.known is None:
        state = "no account"
    else:
        states = {"present": "as it should be", "disabled": "disabled", "kept": "kept as it is", "deleted": "deleted"}
        state = states[account.intent]
    shown = changes_of(account) if account.kind is not None else []
    return ExplainedAccount(account.connector, account.object, account.rule, account.key, state, shown)
