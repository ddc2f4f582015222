"""Identities: one person (or group, or device) of the mesh, with the origin of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import is_
from typing import Any, NamedTuple

from identitymesh.model.attributes import Attributes, Value, dump


class Held(NamedTuple):
    """One attribute of an identity: its value, and where it came from, by which rule, since when (RFC 3339)."""

    value: Value
    rule: str
    connector: str
    key: str
    confidence: int
    since: str


@dataclass(slots=True)  # frozen in spirit: nine guarded assignments took as long as storing the row
class Identity:
    """``present``: a source with ``create`` holds the person. A leaver keeps the last values.

    ``due``: when rules about dates can say something else, although nothing changes at any source.
    """

    id: int
    type: str
    anchor: str | None
    values: Mapping[str, Held]
    present: bool
    left_at: str | None = None
    due: datetime | None = None
    attributes: Attributes = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = {name: held[0] for name, held in self.values.items()}

    def differs(self, before: Identity) -> bool:
        """Whether there is anything to store. A value that stayed is the very object that it was (pipeline/flowing)."""
        if (self.anchor, self.present, self.left_at, self.due) != (
            before.anchor,
            before.present,
            before.left_at,
            before.due,
        ):
            return True
        mine, earlier = self.values, before.values
        return len(mine) != len(earlier) or not all(map(is_, mine.values(), map(earlier.get, mine)))

    def document(self) -> bytes:
        """Canonical JSON: name to ``[value, rule, connector, key, confidence, since]`` (docs/formats)."""
        return dump(dict(zip(self.values, map(tuple, self.values.values()), strict=True)))


def held_from(document: Mapping[str, list[Any]]) -> dict[str, Held]:
    """Inverse of :meth:`Identity.document`, after :func:`identitymesh.model.attributes.load`."""
    return {name: tuple.__new__(Held, parts) for name, parts in document.items()}
