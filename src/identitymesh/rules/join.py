"""Join rules: which identity an object belongs to (correlation)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from identitymesh.errors import EvaluationError
from identitymesh.model.attributes import Value, values_of

Condition = Callable[[Mapping[str, Value]], Value | None]


@dataclass(frozen=True, slots=True)
class JoinRule:
    """``source`` of the object equals ``target`` of the mesh. With ``create``, nobody found means a new identity."""

    name: str
    source: str
    target: str
    create: bool = False
    present_when: Condition | None = None


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """The join rules of one (connector, object), in order of the definition."""

    rules: Sequence[JoinRule]

    def keys(self, attributes: Mapping[str, Value]) -> list[tuple[JoinRule, list[str]]]:
        """For each rule the texts that its source attribute offers; rules without a value are left out."""
        found = []
        for rule in self.rules:
            texts = key_texts(attributes.get(rule.source))
            if texts:
                found.append((rule, texts))
        return found

    def holds(self, attributes: Mapping[str, Value]) -> bool:
        """Whether a ``create`` rule of these says that the person is present.

        Raises:
            EvaluationError: ``present_when`` failed; the caller keeps what was believed before.
        """
        return any(rule.create and _present(rule, attributes) for rule in self.rules)


def _present(rule: JoinRule, attributes: Mapping[str, Value]) -> bool:
    if rule.present_when is None:
        return True
    try:
        return rule.present_when(attributes) is True
    except EvaluationError as error:
        raise EvaluationError(f"rule {rule.name}, present_when: {error}") from None


KEY_LENGTH = 500  # characters; what is longer fits into no index, and names nobody


def key_text(value: object) -> str | None:
    """A value as a join key: text as it is, numbers in decimal.

    Truth values, bytes, empty text and text of more than :data:`KEY_LENGTH` characters join nobody.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value)
    return text if 0 < len(text) <= KEY_LENGTH else None


def key_texts(value: Value | None) -> list[str]:
    """All join keys of an attribute, each once."""
    if type(value) is str:  # nearly always
        return [value] if 0 < len(value) <= KEY_LENGTH else []
    texts = (key_text(one) for one in values_of(value))
    return list(dict.fromkeys(text for text in texts if text is not None))
