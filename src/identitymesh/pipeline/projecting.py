"""Project: what each target should hold for an identity.

Leaving is decided before scope and wins over it. An account that should only be kept
or disabled starts from what the target is known to hold, so that a leaver keeps the
last values; whoever comes back gets what the rules say, and what only ``disable``
wrote is cleared because the rules do not say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from identitymesh.errors import EvaluationError
from identitymesh.model.accounts import Account, Initial, Intent, attributes_of, picture, settle
from identitymesh.model.attributes import Attributes, image
from identitymesh.model.identities import Identity
from identitymesh.rules.join import key_text
from identitymesh.rules.project import Leaving, ProjectRule

Place = tuple[str, str]  # connector, object class

INTENTS: Mapping[Leaving, Intent] = {"keep": "kept", "disable": "disabled", "delete": "deleted"}


class Projected(NamedTuple):
    """The account rows of one identity, settled, and the rules that failed (place, rule, message)."""

    accounts: Sequence[Account]
    problems: Sequence[tuple[Place, str, str]]


def by_place(rules: Iterable[ProjectRule]) -> dict[Place, list[ProjectRule]]:
    """The rules of one mesh type, for each place that they write to, in their order."""
    found: dict[Place, list[ProjectRule]] = {}
    for rule in rules:
        found.setdefault((rule.connector, rule.object), []).append(rule)
    return found


def project(
    identity: Identity,
    rules: Mapping[Place, Sequence[ProjectRule]],
    existing: Mapping[Place, Account],
    renames: Mapping[str, str],
) -> Projected:
    """All accounts of an identity. ``rules``: see :func:`by_place`; ``existing``: its rows as stored, linked."""
    accounts: list[Account] = []
    problems: list[tuple[Place, str, str]] = []
    for place, several in rules.items():
        account = existing.get(place)
        try:
            found = _one(identity, several, account, renames)
        except EvaluationError as error:
            problems.append((place, several[0].name, str(error)))
            found = account  # what was decided last stands until the rule works again
        if found is not None:
            accounts.append(settle(found))
    for place, account in existing.items():
        if place not in rules:  # no rule writes there any more: keep what is there
            accounts.append(settle(account._replace(intent="kept", desired=account.known)))
    return Projected(accounts, problems)


def _one(
    identity: Identity, rules: Sequence[ProjectRule], account: Account | None, renames: Mapping[str, str]
) -> Account | None:
    if identity.present:
        for rule in rules:
            if _in_scope(rule, identity.attributes):
                return _present(identity, rule, account)
    if account is None:
        return None
    former = renames.get(account.rule, account.rule)
    rule = next((one for one in rules if one.name == former), rules[0])
    choice = rule.on_out_of_scope if identity.present else rule.on_leave
    return _away(identity, rule, account, INTENTS[choice])


def _in_scope(rule: ProjectRule, attributes: Attributes) -> bool:
    if rule.when is None:
        return True
    try:
        return rule.when(attributes) is True
    except EvaluationError as error:
        raise EvaluationError(f"rule {rule.name}, when: {error}") from None


def _present(identity: Identity, rule: ProjectRule, account: Account | None) -> Account | None:
    values, failures = rule.evaluate(identity.attributes)
    if failures:
        index, message = failures[0]
        raise EvaluationError(f"rule {rule.name}, {rule.names[index]}: {message}")
    wanted = {name: value for name, value in zip(rule.names, values, strict=True) if value is not None}
    correlate = key_text(wanted.get(rule.correlate)) if rule.correlate else None
    if account is None or account.known is None:
        if not rule.create:
            account = account or Account(identity.id, rule.connector, rule.object, rule.name, "kept")
            return account._replace(rule=rule.name, intent="kept", desired=None, correlate=correlate)
        if correlate is None:
            lacks = (
                "has no value" if rule.correlate not in wanted else "has a value that is no key (too long, or bytes)"
            )
            raise EvaluationError(f"rule {rule.name}: {rule.correlate} {lacks}, so no account can be made")
    desired = image(wanted).decode()
    initial = _initial(identity, rule) if account is None or account.known is None else None
    if account is None:
        place = (identity.id, rule.connector, rule.object)
        return Account(*place, rule.name, "present", correlate=correlate, desired=desired, initial=initial)
    return account._replace(rule=rule.name, intent="present", desired=desired, correlate=correlate, initial=initial)


def _initial(identity: Identity, rule: ProjectRule) -> str | None:
    """What a create writes once."""
    if rule.once is None and not rule.passwords:
        return None
    values, failures = rule.once(identity.attributes) if rule.once is not None else ([], [])
    if failures:
        index, message = failures[0]
        raise EvaluationError(f"rule {rule.name}, on_create.{rule.once_names[index]}: {message}")
    once = {name: value for name, value in zip(rule.once_names, values, strict=True) if value is not None}
    return Initial(once, rule.passwords).text()


def _away(identity: Identity, rule: ProjectRule, account: Account, intent: Intent) -> Account:
    if account.known is None or intent == "deleted":
        return account._replace(rule=rule.name, intent=intent, desired=None)
    if intent == "kept" or rule.disable is None:
        return account._replace(rule=rule.name, intent="kept", desired=account.known)
    values, failures = rule.disable(identity.attributes)
    if failures:
        index, message = failures[0]
        raise EvaluationError(f"rule {rule.name}, disable.{rule.disable_names[index]}: {message}")
    wanted = attributes_of(account.known)
    for name, value in zip(rule.disable_names, values, strict=True):
        if value is None:
            wanted.pop(name, None)
        else:
            wanted[name] = value
    return account._replace(rule=rule.name, intent="disabled", desired=picture(wanted, rule.managed))
