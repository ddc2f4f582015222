"""Audit records of what happens to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from identitymesh.audit import Record, person_record
from identitymesh.model.accounts import Account, attributes_of, differences, initial_of
from identitymesh.model.attributes import Attributes, Value, same
from identitymesh.model.identities import Identity
from identitymesh.rules.ruleset import MeshType, RuleSet
from identitymesh.runs.contract import Attempt


@dataclass(frozen=True, slots=True)
class FoundDone:
    """An account whose change was sent, whose answer never came, and that is seen to be changed."""

    before: Account
    after: Account
    anchor: str | None


def sent_event(attempt: Attempt, outcome: str, code: str | None, actor: str, run_id: int) -> Record:
    """The record of a change that was sent; ``code`` of the error that came of it."""
    account = attempt.account
    if account.kind == "create":  # and what is written once; a password is nowhere but in its secret
        before: Attributes = {}
        after = {**attributes_of(account.desired), **initial_of(account).values}
    else:
        changed = differences(account.known, account.desired)
        before = {one.name: one.before for one in changed if one.before is not None}
        after = {one.name: one.after for one in changed if one.after is not None}
    details = {"code": code} if code else {}
    return person_record(
        f"account.{account.kind}",
        str(account.identity_id),
        actor=actor,
        run=str(run_id),
        outcome=outcome,
        before=before,
        after=after,
        connector=account.connector,
        object=account.object,
        anchor=attempt.anchor,
        rule=account.rule,
        **details,
    )


def found_event(found: FoundDone, actor: str, run_id: int, by: str) -> Record:
    """The record that could not be written when the change was sent; ``by`` what it was seen."""
    before, after = found.before, found.after
    if before.known is None or after.known is None:
        kind = "create" if before.known is None else "delete"
    else:
        kind = "disable" if before.kind == "disable" else "update"
    changed = differences(before.known, after.known)
    return person_record(
        f"account.{kind}",
        str(after.identity_id),
        actor=actor,
        run=str(run_id),
        before={one.name: one.before for one in changed if one.before is not None},
        after={one.name: one.after for one in changed if one.after is not None},
        connector=after.connector,
        object=after.object,
        anchor=found.anchor,
        rule=after.rule,
        found_by=by,
    )


def person_events(
    before: Mapping[int, Identity | None], new: Sequence[Identity], changed: Sequence[Identity], actor: str, run_id: int
) -> list[Record]:
    """One record for each identity that came, changed, left or returned; values before and after."""
    run = str(run_id)
    events = [
        person_record(
            "identity.create",
            str(one.id),
            actor=actor,
            run=run,
            after=one.attributes,
            anchor=one.anchor,
            origin=_origin(one, one.attributes),
        )
        for one in new
    ]
    for after in changed:
        earlier = before[after.id]
        if earlier is None:
            continue  # not in `changed`: it has just come
        old, fresh = _changed(earlier.attributes, after.attributes)
        if earlier.present and not after.present:
            action = "identity.leave"
        elif after.present and not earlier.present:
            action = "identity.return"
        elif old or fresh:
            action = "identity.change"
        else:
            continue  # only the origin of a value moved
        events.append(
            person_record(
                action,
                str(after.id),
                actor=actor,
                run=run,
                before=old,
                after=fresh,
                anchor=after.anchor,
                origin=_origin(after, fresh),
            )
        )
    return events


def _changed(before: Attributes, after: Attributes) -> tuple[dict[str, Value], dict[str, Value]]:
    # What a rule still gives is the very object that it was, see pipeline/flowing.
    names = [name for name, value in after.items() if before.get(name) is not value]
    names += [name for name in before if name not in after]
    names = [name for name in names if not same(before.get(name), after.get(name))]
    old = {name: before[name] for name in names if name in before}
    return old, {name: after[name] for name in names if name in after}


def _origin(identity: Identity, values: Mapping[str, Value]) -> dict[str, tuple[str, str, int]]:
    """For each new value: connector, rule and confidence."""
    held = identity.values
    found = {}
    for name in values:
        if name in held:
            _, rule, connector, _, confidence, _ = held[name]
            found[name] = connector, rule, confidence
    return found


def renumbered(
    before: Mapping[int, Identity | None], changed: Sequence[Identity], rules: RuleSet
) -> Iterator[tuple[Identity, Identity, MeshType]]:
    """People whose anchor is another one now: as they were, as they are, and their type."""
    for after in changed:
        earlier, mesh_type = before[after.id], rules.types.get(after.type)
        if mesh_type is not None and earlier is not None and after.anchor not in (None, earlier.anchor):
            yield earlier, after, mesh_type
