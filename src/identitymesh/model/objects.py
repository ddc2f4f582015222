"""Objects of connectors, as the mesh keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from identitymesh.model.attributes import Attributes

JoinState = Literal["joined", "unjoined", "ambiguous", "aside"]


@dataclass(frozen=True, slots=True)
class ObjectId:
    """Where an object is: connector, object class, and its key there."""

    connector: str
    object: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as last read. ``digest`` is that of ``attributes``; ``aside``: no join rule concerns it."""

    id: ObjectId
    attributes: Attributes
    digest: bytes
    state: JoinState
    identity_id: int | None = None
    joined_by: str | None = None
    correlate: str | None = None
