"""Entries as the library gives them, turned into entries of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from identitymesh.connectors.contract import BadEntry, Entry
from identitymesh.connectors.kinds.ldap.ber import PostReadRequest
from identitymesh.connectors.kinds.ldap.names import canonical
from identitymesh.connectors.kinds.ldap.subschema import AttributeType, Subschema
from identitymesh.connectors.kinds.ldap.values import read, reader
from identitymesh.model.attributes import Attributes

DN: Final = "dn"
CSN: Final = "entryCSN"

Raw = Mapping[str, Sequence[bytes]]


class EntryReader:
    """Reads entries of one class for one set of names; ``asked`` is what to ask the server for.

    ``names`` are attributes as the definition spells them, none for every attribute; ``more`` are further ones that the
    caller looks at himself in what the library gives.
    """

    def __init__(self, schema: Subschema, key: str, names: Sequence[str], more: Sequence[str] = ()) -> None:
        self._schema = schema
        self._key = key
        self._everything = not names
        self._more = frozenset(more)
        self._dn_names = [name for name in names if name.lower() == DN] or ([DN] if not names else [])
        self._wanted: dict[str, list[str]] = {}
        for name in names:
            if name.lower() != DN:
                self._wanted.setdefault(schema.primary(name), []).append(name)
        # By the name that the server uses: our name for text, and how to read what is none. Filled as they come.
        self._texts: dict[str, str] = {}
        self._others: dict[str, tuple[str, AttributeType] | None] = {}
        self._key_as = next(iter(self._wanted.get(schema.primary(key), ())), key)
        self._key_unasked = not self._everything and schema.primary(key) not in self._wanted
        self._twins = [(spelt[0], other) for spelt in self._wanted.values() for other in spelt[1:]]
        own = [] if key.lower() == DN else [key]
        asked = [spelt[0] for spelt in self._wanted.values()] if names else ["*"]
        # "1.1" is no attribute at all (RFC 4511 section 4.5.1.8); an empty list would mean every one.
        self.asked = list(dict.fromkeys([*asked, *own, *more])) or ["1.1"]

    @cached_property
    def post_read(self) -> PostReadRequest:
        """Asks for the same in the answer to a change."""
        return PostReadRequest(self.asked)

    def entry(self, dn: str, raw: Raw) -> Entry | BadEntry:
        """One entry; its position is its DN when it has no readable key."""
        try:
            attributes = self._attributes(raw)
        except ValueError:
            return BadEntry(self._fault(raw), self.key(dn, raw), dn)
        key = attributes.get(self._key_as)
        if type(key) is not str:
            key = self.key(dn, raw)
        if key is None:
            return BadEntry(f"it has not one readable {self._key}, which is its key", None, dn)
        if self._key_unasked:
            attributes.pop(self._key_as, None)
        for name in self._dn_names:
            attributes[name] = canonical(dn)
        for name, other in self._twins:
            if name in attributes:
                attributes[other] = attributes[name]
        return Entry(key, attributes)

    def _attributes(self, raw: Raw) -> Attributes:
        """All at once what is text, which is nearly everything, then the others.

        Raises:
            ValueError: one of them cannot be read.
        """
        texts = self._texts
        attributes: Attributes = {
            texts[given]: values[0].decode() if len(values) == 1 else [one.decode() for one in values]
            for given, values in raw.items()
            if given in texts
        }
        if len(attributes) < len(raw):
            for given, values in raw.items():
                field = None if given in texts else self._others[given] if given in self._others else self._learn(given)
                if field is not None:
                    name, attribute = field
                    attributes[name] = read(values, attribute)
        return attributes

    def _fault(self, raw: Raw) -> str:
        """Which attribute cannot be read, in words."""
        name: str | None = None
        for given, values in raw.items():
            name = self._name(given)
            try:
                self._attributes({given: values})
            except _Unreadable as why:
                return str(why)
            except ValueError:
                break
        return f"attribute {name} is not what its syntax says, or not UTF-8"

    def key(self, dn: str, raw: Raw) -> str | None:
        if self._key.lower() == DN:
            return canonical(dn)
        values = raw.get(self._key)
        if values is None:
            primary = self._schema.primary(self._key)
            values = next((found for name, found in raw.items() if self._schema.primary(name) == primary), ())
        if len(values) != 1:
            return None
        try:
            return values[0].decode()
        except UnicodeDecodeError:
            return None

    def _learn(self, given: str) -> tuple[str, AttributeType] | None:
        """What becomes of an attribute that the server calls so; looked up once for each read."""
        if ";range=" in given.lower():
            raise _Unreadable(f"the server gives only a part of the values of {given.partition(';')[0]}")
        name, attribute = self._name(given), self._schema.get(given)
        self._others[given] = found = None if name is None else (name, attribute)
        if name is not None and reader(attribute) is None:
            self._texts[given] = name
        return found

    def _name(self, given: str) -> str | None:
        """Our name for it; ``None`` when the connector asked for it, and no rule."""
        primary = self._schema.primary(given)
        if self._key_unasked and primary == self._schema.primary(self._key):
            return self._key_as
        if not self._everything:
            return next(iter(self._wanted.get(primary, ())), None)
        return None if self._schema.get(given).operational or given in self._more else given.removesuffix(";binary")


class _Unreadable(ValueError):
    """Why an entry cannot be taken over, in words."""


def entry_of(reader: EntryReader, dn: str, raw: Raw) -> Entry | BadEntry:
    """The same with what an update or delete needs: a tag, and the entry as it came."""
    made = reader.entry(dn, raw)
    if isinstance(made, BadEntry):
        return made
    csn = first(raw, CSN)
    return Entry(made.key, made.attributes, csn, (dn, raw))


def first(raw: Raw, name: str) -> str | None:
    values = raw.get(name)
    return values[0].decode(errors="replace") if values else None


def values_by_name(schema: Subschema, raw: Raw) -> dict[str, list[bytes]]:
    """The attributes under their one name, in lower case."""
    return {schema.primary(name): list(values) for name, values in raw.items()}
