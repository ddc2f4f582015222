"""Objects of connectors, as the mesh keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from identitymesh.model.attributes import Attributes

JoinState = Literal["joined", "unjoined", "ambiguous", "aside"]


class ObjectId(NamedTuple):
    """Where an object is: connector, object class, and its key there."""

    connector: str
    object: str
    key: str


class StoredObject(NamedTuple):
    """An object as last read. ``digest`` is that of ``attributes``; ``aside``: no join rule concerns it.

    ``due``: when it is joined again without having changed; set while it is joined to nobody.
    """

    id: ObjectId
    attributes: Attributes
    digest: bytes
    state: JoinState
    identity_id: int | None = None
    joined_by: str | None = None
    correlate: str | None = None
    due: datetime | None = None

    def joined_to(self, identity_id: int | None, rule: str) -> StoredObject:
        """The object as joined to an identity by a rule."""
        place, attributes, digest, _, _, _, correlate, due = self
        return StoredObject(place, attributes, digest, "joined", identity_id, rule, correlate, due)
