"""Everything that one version of the rules says, compiled once and fixed for a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from identitymesh.model.attributes import Attributes
from identitymesh.model.objects import StoredObject
from identitymesh.rules.expressions import Changing
from identitymesh.rules.flow import FlowPlan
from identitymesh.rules.join import JoinPlan
from identitymesh.rules.project import ProjectRule


@dataclass(frozen=True, slots=True)
class MeshAttribute:
    """One attribute of the mesh. ``type``: string, integer, decimal, boolean, datetime or binary."""

    name: str
    type: str
    many: bool = False
    sensitivity: str = "internal"


@dataclass(frozen=True, slots=True)
class MeshType:
    """One type of identity, for example ``user``. ``join_attributes`` are indexed: join targets and the anchor."""

    name: str
    anchor: str
    attributes: Mapping[str, MeshAttribute]
    join_attributes: Sequence[str]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """``version`` is the definition version in which the rules last changed.

    ``joins`` and ``flows`` are keyed by (connector, object), ``projections`` by mesh type; ``renames`` gives, for
    former rule names, today's. ``now`` is the instant for which it was compiled; ``changes`` and ``mesh_changes`` say
    when what it says of an object or an identity can be another thing, with nothing changed but the date. ``unique``
    gives, for each mesh type, the attributes of which FirstFree gives values, and ``watched``, for each target, its
    attributes that hold them (target attribute to mesh attribute).
    """

    version: int
    types: Mapping[str, MeshType]
    joins: Mapping[tuple[str, str], JoinPlan]
    flows: Mapping[tuple[str, str], FlowPlan]
    projections: Mapping[str, Sequence[ProjectRule]]
    renames: Mapping[str, str]
    frozen: frozenset[str]
    now: datetime
    changes: Mapping[tuple[str, str], Changing]
    mesh_changes: Mapping[str, Changing]
    unique: Mapping[str, frozenset[str]]
    watched: Mapping[tuple[str, str], Mapping[str, str]]

    @property
    def looks_at_the_date(self) -> bool:
        """Whether any rule asks what day it is."""
        return bool(self.changes or self.mesh_changes)

    def object_due(self, connector: str, object_class: str, attributes: Attributes) -> datetime | None:
        """When join and flow rules can say something else of an object."""
        found = self.changes.get((connector, object_class))
        return found.next(attributes) if found is not None else None

    def identity_due(self, type_name: str, attributes: Attributes) -> datetime | None:
        """When project rules can say something else of an identity."""
        found = self.mesh_changes.get(type_name)
        return found.next(attributes) if found is not None else None

    def person_due(self, type_name: str, attributes: Attributes, objects: Iterable[StoredObject]) -> datetime | None:
        """When any rule can say something else of a person with these objects."""
        if not self.looks_at_the_date:
            return None
        moments = [self.object_due(one.id.connector, one.id.object, one.attributes) for one in objects]
        moments.append(self.identity_due(type_name, attributes))
        return min((one for one in moments if one is not None), default=None)

    def correlate_of(self, connector: str, object_class: str) -> str | None:
        """The attribute by which accounts of ours are found again in this connector."""
        for rule in self.projections.get(object_class, ()):
            if rule.connector == connector and rule.correlate:
                return rule.correlate
        return None

    def targets(self) -> list[str]:
        """Connectors that are written to, in the order of the definition's projections."""
        return list(dict.fromkeys(rule.connector for rules in self.projections.values() for rule in rules))
