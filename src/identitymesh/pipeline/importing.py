"""Import: which of the objects just read have to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from identitymesh.connectors.contract import Entry
from identitymesh.model.attributes import Attributes, digests

UNSETTLED = b""  # a known digest of an object that must be looked at again whatever it says


class Staged(NamedTuple):
    """An object that is new, changed, or not settled under today's rules."""

    key: str
    attributes: Attributes
    digest: bytes


def stage(entries: Sequence[Entry], known: dict[str, bytes], names: frozenset[str]) -> list[Staged]:
    """Objects to look at, restricted to the attributes ``names``. Seen keys leave ``known``.

    ``known`` holds the digest of every stored object of the connector that is settled
    (unchanged rules, joined), :data:`UNSETTLED` for the others. What is left in it after
    a complete read is what the source no longer has.
    """
    keys = [entry[0] for entry in entries]
    asked = [entry[1] for entry in entries]
    if not all(map(names.issuperset, asked)):
        asked = [{name: value for name, value in one.items() if name in names} for one in asked]
    forget = known.pop
    return [
        Staged(key, attributes, now)
        for key, attributes, now in zip(keys, asked, digests(asked), strict=True)
        if forget(key, UNSETTLED) != now
    ]
