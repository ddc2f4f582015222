"""What to send so that an entry becomes as wanted, as small as the protocol allows.

Everything is prepared as bytes: a change is the difference between what the server gave and what it shall have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import ldap

from identitymesh.connectors.contract import Modification
from identitymesh.connectors.kinds.ldap.entries import DN
from identitymesh.connectors.kinds.ldap.names import Name, NotADn, fold, own_pairs, same_name, split
from identitymesh.connectors.kinds.ldap.subschema import Subschema
from identitymesh.connectors.kinds.ldap.values import write
from identitymesh.errors import ObjectRefused
from identitymesh.model.attributes import Attributes, Value

Parsed = TypeVar("Parsed")
Step = tuple[int, str, list[bytes] | None]  # operation, attribute, values

_MANY: Final = 20  # values from which an attribute is changed value by value where that is less


@dataclass(frozen=True, slots=True)
class Wish:
    """What an entry shall have, in the directory's terms: ``values`` by primary name, an empty list clears."""

    values: Mapping[str, list[bytes]]
    spelling: Mapping[str, str]  # names as the definition has them, by primary name
    dn: str | None = None


def wish(schema: Subschema, change: Modification) -> Wish:
    """A change of the contract.

    Raises:
        ObjectRefused: two names mean the same attribute, or the dn is not one text.
    """
    values: dict[str, list[bytes]] = {}
    spelling: dict[str, str] = {}
    dn: str | None = None
    items: list[tuple[str, Value | None]] = [*change.put.items(), *((name, None) for name in change.clear)]
    for name, value in items:
        if name.lower() == DN:
            dn = _dn(value)
            continue
        primary = schema.primary(name)
        if primary in values:
            raise ObjectRefused(
                f"{spelling[primary]} and {name} are the same attribute of the directory",
                hint="Upper and lower case and aliases do not matter there; use one of the two names.",
            )
        values[primary] = write(value, schema.get(name))
        spelling[primary] = name
    return Wish(values, spelling, dn)


def _dn(value: Value | None) -> str:
    if not isinstance(value, str) or not value:
        raise ObjectRefused("dn is one text and cannot be cleared", hint="Make it from a value that everybody has.")
    return value


def addition(schema: Subschema, attributes: Attributes) -> tuple[str, list[tuple[str, list[bytes]]]]:
    """DN and attributes of a new entry; values of its own name are added where they are not among them (RFC 4511 4.7).

    Raises:
        ObjectRefused: there is no dn, or it is none.
    """
    wanted = wish(schema, Modification(attributes))
    if wanted.dn is None:
        raise ObjectRefused("a new entry needs a dn", hint="Give dn among the attributes of the projection.")
    values = {primary: list(several) for primary, several in wanted.values.items() if several}
    for attribute, value in _checked(own_pairs, wanted.dn):
        present = values.setdefault(schema.primary(attribute), [])
        if (encoded := value.encode()) not in present and fold(value) not in map(_folded, present):
            present.append(encoded)
    named = [(wanted.spelling.get(primary, primary), several) for primary, several in values.items()]
    return wanted.dn, named


def checked_name(dn: str) -> Name:
    """The parts of a DN.

    Raises:
        ObjectRefused: it is none.
    """
    return _checked(split, dn)


def _checked(parse: Callable[[str], Parsed], dn: str) -> Parsed:
    try:
        return parse(dn)
    except NotADn:
        raise ObjectRefused(
            "invalid dn: it is not a distinguished name (RFC 4514)",
            hint="Put EscapeDN around each value that a dn is made of.",
        ) from None


@dataclass(frozen=True, slots=True)
class Rename:
    """What a rename sends: the new own part, the new parent if it is another, and whether the old values go."""

    rdn: str
    parent: str | None
    delete_old: bool


def rename(schema: Subschema, current_dn: str, wanted: Wish, managed: Mapping[str, list[bytes]]) -> Rename | None:
    """How to get from one DN to the other; ``None`` when they are the same.

    ``managed`` are the values that the entry has of the attributes that rules write. An old naming value is kept where
    they want it to stay, and where it is of another attribute than the new one: an entry without that attribute might
    not be allowed, so the modification that follows puts its values right.
    """
    if wanted.dn is None or wanted.dn == current_dn:
        return None
    new, old = checked_name(wanted.dn), checked_name(current_dn)
    moved = not same_name(new.parent, old.parent)
    if not moved and new.rdn == old.rdn:
        return None
    goal = {**managed, **wanted.values}
    naming = {schema.primary(attribute) for attribute, _ in new.pairs}

    def stays(attribute: str, value: str) -> bool:
        primary = schema.primary(attribute)
        return primary in goal and (primary not in naming or fold(value) in map(_folded, goal[primary]))

    delete_old = not all(stays(attribute, value) for attribute, value in old.pairs)
    return Rename(new.rdn, new.parent if moved else None, delete_old)


def steps(schema: Subschema, current: Mapping[str, Sequence[bytes]], wanted: Wish, *, by_value: bool) -> list[Step]:
    """The modifications that make the attributes as wanted; none if they are.

    ``by_value``: old values are removed one by one, so that the server refuses when somebody else changed them.
    """
    found: list[Step] = []
    for primary, after in wanted.values.items():
        before = current.get(primary, ())
        if sorted(before) != sorted(after):
            attribute = schema.get(primary)
            exact = attribute.comparable and (by_value or _smaller(before, after))
            found += _attribute(wanted.spelling[primary], before, after, exact=exact)
    return found


def _smaller(before: Sequence[bytes], after: Sequence[bytes]) -> bool:
    return len(after) >= _MANY and len(set(before) ^ set(after)) < len(after)


def _attribute(name: str, before: Sequence[bytes], after: Sequence[bytes], *, exact: bool) -> Iterable[Step]:
    if not exact:
        return [(ldap.MOD_REPLACE, name, list(after))] if after else [(ldap.MOD_DELETE, name, None)]
    had, wants = set(before), set(after)
    removed = [value for value in before if value not in wants]
    added = [value for value in after if value not in had]
    found: list[Step] = [(ldap.MOD_DELETE, name, removed)] if removed else []
    return [*found, (ldap.MOD_ADD, name, added)] if added else found


def _folded(value: bytes) -> str:
    return fold(value.decode(errors="replace"))
