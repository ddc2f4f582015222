"""Audit records of what happens to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from identitymesh.audit import Record, person_record
from identitymesh.model.attributes import Attributes, Value, same
from identitymesh.model.identities import Identity


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
    names = [name for name in before.keys() | after.keys() if not same(before.get(name), after.get(name))]
    old = {name: before[name] for name in names if name in before}
    return old, {name: after[name] for name in names if name in after}


def _origin(identity: Identity, values: Mapping[str, Value]) -> dict[str, list[str | int]]:
    """For each new value: connector, rule and confidence."""
    held = identity.values
    return {name: [held[name].connector, held[name].rule, held[name].confidence] for name in values if name in held}
