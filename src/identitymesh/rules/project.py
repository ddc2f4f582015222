"""Projection rules: what a target should hold for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from identitymesh.rules.flow import Evaluate
from identitymesh.rules.join import Condition

Leaving = Literal["keep", "disable", "delete"]


@dataclass(frozen=True, slots=True)
class ProjectRule:
    """One projection, compiled. ``names`` go with ``evaluate``, ``disable_names`` with ``disable``.

    ``once`` is what only a create writes, and ``passwords`` how long the passwords are that it makes.
    ``managed``: the attributes that this rule writes, and that images of its accounts hold.
    """

    name: str
    connector: str
    object: str
    create: bool
    correlate: str | None
    on_leave: Leaving
    on_out_of_scope: Leaving
    when: Condition | None
    names: Sequence[str]
    evaluate: Evaluate
    disable_names: Sequence[str]
    disable: Evaluate | None
    once_names: Sequence[str] = ()
    once: Evaluate | None = None
    passwords: Mapping[str, int] = field(default_factory=dict)
    managed: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "managed", frozenset(self.names) | frozenset(self.disable_names))
