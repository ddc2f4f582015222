"""Restricted attributes: their values are shown to nobody who has not asked for them by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from identitymesh.definition.reading import Definition
from identitymesh.model.accounts import Account, Difference, differences, initial_of
from identitymesh.redaction import MASKED

Restricted = Mapping[tuple[str, str], frozenset[str]]


def restricted_targets(definition: Definition) -> Restricted:
    """For each (connector, object class), the attributes that are written from a restricted attribute of the mesh."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for index, rule in enumerate(definition.shape.rules.project):
        mesh_type = definition.shape.mesh[rule.object]
        secret = {one.name for one in mesh_type.attributes if one.sensitivity == "restricted"}
        names = set()
        for part in ("attributes", "disable", "on_create"):
            for name in getattr(rule, part):
                checked = definition.expressions.by_path["rules", "project", index, part, name]
                if secret & checked.attributes:
                    names.add(name)
        place = (rule.connector, rule.object)
        found[place] = found.get(place, frozenset()) | names
    return found


def changes_of(account: Account) -> list[Difference]:
    """What a change does, attribute by attribute; of a create, also what it writes once, passwords masked."""
    found = differences(account.known, account.desired)
    if account.kind == "create":
        values, passwords = initial_of(account)
        found += [Difference(name, None, value) for name, value in sorted(values.items())]
        found += [Difference(name, None, MASKED) for name in sorted(passwords)]
    return found


def mask(differences: Sequence[Difference], names: Collection[str]) -> list[Difference]:
    """The same differences, without the values of these attributes."""
    return [
        replace(
            one,
            before=MASKED if one.before is not None else None,
            after=MASKED if one.after is not None else None,
        )
        if one.name in names
        else one
        for one in differences
    ]
