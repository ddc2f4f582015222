"""Distinguished names (RFC 4514): one spelling of them, whether two are the same entry, and their parts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import ldap
import ldap.dn

# As the expression function EscapeDN spells values, so that what a rule wrote reads the same afterwards.
_SPECIAL: Final = re.compile(r'["+,;<>\\]|^[ #]| \Z')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

Ava = tuple[str, str, int]  # attribute, value, flags of libldap


class NotADn(ValueError):
    """The text is not a distinguished name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A distinguished name, taken apart: its own part and that of its parent, as text."""

    rdn: str
    parent: str
    pairs: Sequence[tuple[str, str]]  # attributes and values of its own part


def canonical(dn: str) -> str:
    """The same name with its values escaped as ``EscapeDN`` does; servers each have their own way."""
    if "\\" not in dn and '"' not in dn:
        return dn
    return _join(_parse(dn))


def split(dn: str) -> Name:
    """Own part and parent.

    Raises:
        NotADn: it is not one, or the empty one.
    """
    parts = _parse(dn)
    if not parts:
        raise NotADn(dn)
    return Name(_join(parts[:1]), _join(parts[1:]), [(attribute, value) for attribute, value, _ in parts[0]])


def own_pairs(dn: str) -> Sequence[tuple[str, str]]:
    """Attributes and values of its own part. Raises like :func:`split`."""
    parts = _parse(dn)
    if not parts:
        raise NotADn(dn)
    return [(attribute, value) for attribute, value, _ in parts[0]]


def same_name(one: str, other: str) -> bool:
    """Whether a directory would take both for the same: spelling, case and spaces do not matter.

    Raises:
        NotADn: one of them is none.
    """
    return one == other or _folded(_parse(one)) == _folded(_parse(other))


def fold(value: str) -> str:
    """Text as caseIgnoreMatch compares it (RFC 4518, shortened): compatibility form, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _parse(dn: str) -> list[list[Ava]]:
    try:
        parts: list[list[Ava]] = ldap.dn.str2dn(dn, flags=ldap.DN_FORMAT_LDAPV3)
    except (ldap.DECODING_ERROR, ValueError, UnicodeError):
        raise NotADn(dn) from None
    return parts


def _join(parts: Iterable[Iterable[Ava]]) -> str:
    return ",".join("+".join(f"{attribute}={_escaped(value)}" for attribute, value, _ in part) for part in parts)


def _escaped(value: str) -> str:
    escaped = _SPECIAL.sub(r"\\\g<0>", value)
    return _CONTROL.sub(lambda found: f"\\{ord(found.group()):02X}", escaped)


def _folded(parts: Iterable[Iterable[Ava]]) -> list[frozenset[tuple[str, str]]]:
    return [frozenset((attribute.lower(), fold(value)) for attribute, value, _ in part) for part in parts]
