"""Flow rules: which values reach the mesh, and which of several wins.

The highest confidence wins; ties go by the order of the connectors in the
definition, then by rule name, then by the object's key: never by arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from identitymesh.model.attributes import Value

# One call evaluates every rule of a set: the values in order, and (index, message) of those that failed.
Evaluate = Callable[[Mapping[str, Value]], tuple[list[Value | None], list[tuple[int, str]]]]


@dataclass(frozen=True, slots=True)
class FlowRule:
    """One attribute flow. ``rank`` orders all rules of a mesh type: the smallest wins."""

    name: str
    connector: str
    target: str
    confidence: int
    rank: int


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """The flow rules of one (connector, object), compiled to one function."""

    rules: Sequence[FlowRule]
    evaluate: Evaluate
