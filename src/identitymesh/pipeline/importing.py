"""Import: which of the objects just read have to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from identitymesh.connectors.contract import Entry
from identitymesh.model.attributes import Attributes, digest, image

UNSETTLED = b""  # a known digest of an object that must be looked at again whatever it says


class Staged(NamedTuple):
    """An object that is new, changed, or not settled under today's rules."""

    key: str
    attributes: Attributes
    digest: bytes


def stage(entries: Sequence[Entry], known: dict[str, bytes], names: AbstractSet[str]) -> list[Staged]:
    """Objects to look at, restricted to the attributes ``names``. Seen keys leave ``known``.

    ``known`` holds the digest of every stored object of the connector that is settled
    (unchanged rules, joined), :data:`UNSETTLED` for the others. What is left in it after
    a complete read is what the source no longer has.
    """
    changed = []
    for key, attributes, *_ in entries:
        if not attributes.keys() <= names:
            attributes = {name: value for name, value in attributes.items() if name in names}  # noqa: PLW2901
        now = digest(image(attributes))
        if known.pop(key, UNSETTLED) != now:
            changed.append(Staged(key, attributes, now))
    return changed
