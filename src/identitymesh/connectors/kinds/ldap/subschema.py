"""What the directory says of its own attributes (RFC 4512 section 4.2), as far as values need it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from identitymesh.connectors.contract import AttributeInfo

_BASE: Final = "1.3.6.1.4.1.1466.115.121.1."
# RFC 4517 section 3.3, and RFC 4523 for certificates. What is not here is text.
_KINDS: Final = {
    f"{_BASE}7": "boolean",
    f"{_BASE}27": "integer",
    f"{_BASE}24": "datetime",
    f"{_BASE}4": "binary",  # audio
    f"{_BASE}5": "binary",
    f"{_BASE}8": "binary",  # certificate
    f"{_BASE}9": "binary",
    f"{_BASE}10": "binary",
    f"{_BASE}23": "binary",  # fax
    f"{_BASE}28": "binary",  # JPEG
    f"{_BASE}40": "binary",  # octet string
    f"{_BASE}49": "binary",
    "1.2.840.113556.1.4.907": "binary",  # security descriptor of Active Directory
}
_TOKEN: Final = re.compile(r"'([^']*)'|([()])|([^\s()']+)")
_FLAGS: Final = frozenset({"SINGLE-VALUE", "NO-USER-MODIFICATION", "OBSOLETE", "COLLECTIVE"})
_FIELDS: Final = frozenset({"NAME", "SUP", "EQUALITY", "SYNTAX", "USAGE"})


@dataclass(frozen=True, slots=True)
class AttributeType:
    """One attribute. ``kind`` is a type of ours; ``comparable``: single values of it can be removed."""

    name: str
    kind: str = "string"
    many: bool = True
    writable: bool = True
    comparable: bool = True
    operational: bool = False


class Subschema:
    """The attributes of one directory, found under any of their names, in any case."""

    def __init__(self, definitions: Iterable[str]) -> None:
        self._by_name: dict[str, AttributeType] = {}
        # What `primary` and `get` answered: they are asked for each attribute of each change.
        self._primary: dict[str, str] = {}
        self._types: dict[str, AttributeType] = {}
        parsed = [_parse(text) for text in definitions]
        by_name = {name.lower(): one for one in parsed for name in [*one.get("NAME", ()), *one["OID"]]}
        for one in parsed:
            names = one.get("NAME") or one["OID"]
            made = _type(names[0], one, by_name)
            for name in [*names, *one["OID"]]:
                self._by_name.setdefault(name.lower(), made)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def find(self, name: str) -> AttributeType | None:
        """The attribute of this name, without options after a semicolon; ``None`` if the directory has none."""
        return self._by_name.get(name.partition(";")[0].lower())

    def get(self, name: str) -> AttributeType:
        """The same; what is unknown is text of several values."""
        answered = self._types.get(name)
        if answered is None:
            answered = self._types[name] = self.find(name) or AttributeType(name.partition(";")[0])
        return answered

    def primary(self, name: str) -> str:
        """One name for all spellings of it, in lower case. The option ``binary`` is one of the transfer alone."""
        answered = self._primary.get(name)
        if answered is None:
            base, *options = name.split(";")
            found = self._by_name.get(base.lower())
            kept = sorted(option.lower() for option in options if option.lower() != "binary")
            answered = self._primary[name] = ";".join([(found.name if found else base).lower(), *kept])
        return answered

    def describe(self) -> Sequence[AttributeInfo]:
        """Every attribute that is not only the server's own business, sorted."""
        types = {one.name: one for one in self._by_name.values()}
        return [
            AttributeInfo(one.name, one.kind, one.many, writable=one.writable)
            for _, one in sorted(types.items(), key=lambda item: item[0].lower())
            if not one.operational or one.name in _USEFUL
        ]


_USEFUL: Final = frozenset({"entryUUID", "entryCSN", "createTimestamp", "modifyTimestamp"})


def _parse(text: str) -> dict[str, list[str]]:
    """One description: ``OID``, and what follows each keyword; flags have an empty list."""
    tokens = [quoted or bracket or word for quoted, bracket, word in _TOKEN.findall(text)]
    found: dict[str, list[str]] = {"OID": tokens[1:2]}
    at = 2
    while at < len(tokens):
        keyword = tokens[at]
        at += 1
        if keyword in _FLAGS:
            found[keyword] = []
        elif keyword in _FIELDS and at < len(tokens):
            values = tokens[at : at + 1]
            if values == ["("]:
                end = tokens.index(")", at) if ")" in tokens[at:] else len(tokens)
                values = tokens[at + 1 : end]
                at = end
            found[keyword] = values
            at += 1
    return found


def _type(name: str, one: Mapping[str, list[str]], by_name: Mapping[str, Mapping[str, list[str]]]) -> AttributeType:
    inherited = one
    for _ in range(20):  # a chain of superiors; a circle would be the server's fault and ends here
        if "SYNTAX" in inherited or "SUP" not in inherited:
            break
        inherited = by_name.get(inherited["SUP"][0].lower(), {})
    syntax = inherited.get("SYNTAX", [""])[0].partition("{")[0]
    return AttributeType(
        name,
        _KINDS.get(syntax, "string"),
        many="SINGLE-VALUE" not in one,
        writable="NO-USER-MODIFICATION" not in one,
        comparable="EQUALITY" in one or "EQUALITY" in inherited,
        operational=one.get("USAGE", ["userApplications"])[0] != "userApplications",
    )
