"""The join keys that one batch asks for: as stored, and as the batch has changed them so far."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from identitymesh.model.attributes import Attributes
from identitymesh.rules.join import key_texts
from identitymesh.runs.contract import MeshTransaction, Pair


@dataclass(slots=True)
class _Moves:
    added: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)


class KeyIndex:
    """Who has which join key. Keys of one batch are fetched together, see :meth:`fetch`."""

    def __init__(self, tx: MeshTransaction) -> None:
        self._tx = tx
        self._stored: dict[tuple[str, Pair], set[int]] = {}
        self._moves: dict[tuple[str, Pair], _Moves] = {}

    def fetch(self, type_name: str, pairs: Collection[Pair]) -> None:
        """Ask the database for those of these keys that were not asked for yet."""
        missing = [pair for pair in pairs if (type_name, pair) not in self._stored]
        if not missing:
            return
        found = self._tx.candidates(type_name, missing)
        for pair in missing:
            self._stored[type_name, pair] = found.get(pair, set())

    def find(self, type_name: str, pair: Pair) -> set[int]:
        """Identities that have this key now. It must have been fetched."""
        stored = self._stored[type_name, pair]
        moves = self._moves.get((type_name, pair))
        return stored if moves is None else (stored - moves.removed) | moves.added

    def move(self, type_name: str, identity_id: int, before: Collection[Pair], after: Collection[Pair]) -> None:
        """An identity had ``before`` and has ``after``."""
        for pair in before:
            if pair not in after:
                moves = self._moves.setdefault((type_name, pair), _Moves())
                moves.added.discard(identity_id)
                moves.removed.add(identity_id)
        for pair in after:
            if pair not in before:
                moves = self._moves.setdefault((type_name, pair), _Moves())
                moves.removed.discard(identity_id)
                moves.added.add(identity_id)

    def moved(self, type_name: str) -> set[Pair]:
        """Keys that this batch gave to, or took from, somebody."""
        return {
            pair
            for (where, pair), moves in self._moves.items()
            if where == type_name and (moves.added or moves.removed)
        }


def join_pairs(attributes: Attributes, names: Collection[str]) -> set[Pair]:
    """The join keys of an identity: every text of its join attributes."""
    return {(name, text) for name in names for text in key_texts(attributes.get(name))}
