"""Flow rules: which values reach the mesh, and which of several wins.

The highest confidence wins; ties go by the order of the connectors in the
definition, then by rule name, then by the object's key: never by arrival.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from identitymesh.model.attributes import Value
from identitymesh.rules.join import Condition

MOST: Final = 9_999  # people of one name

# One call evaluates every rule of a set: the values in order, and (index, message) of those that failed.
Evaluate = Callable[[Mapping[str, Value]], tuple[list[Value | None], list[tuple[int, str]]]]


@dataclass(frozen=True, slots=True)
class FirstFree:
    """The texts that a rule offers in order; the last of them is ``numbered``, and counts from 2."""

    texts: Sequence[Condition]
    numbered: Condition

    def offers(self, attributes: Mapping[str, Value]) -> Iterator[str]:
        """The texts for the attributes of one object, each once.

        Raises:
            EvaluationError: one of them cannot be made.
        """
        seen: set[str] = set()
        for evaluate in self.texts:
            text = evaluate(attributes)
            if isinstance(text, str) and text not in seen:
                seen.add(text)
                yield text
        for number in range(2, MOST + 1):
            text = self.numbered({**attributes, "#": number})
            if isinstance(text, str) and text not in seen:
                seen.add(text)
                yield text


def folded(text: str) -> str:
    """Texts that nobody should tell apart are one: upper and lower case, and normal forms of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True, slots=True)
class FlowRule:
    """One attribute flow. ``rank`` orders all rules of a mesh type: the smallest wins; ``free``: for one person."""

    name: str
    connector: str
    target: str
    confidence: int
    rank: int
    free: FirstFree | None = None


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """The flow rules of one (connector, object), compiled to one function."""

    rules: Sequence[FlowRule]
    evaluate: Evaluate
