"""Creates many objects, several under way at once where the connector can; one outcome for each, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Final

from identitymesh.connectors.contract import Entry
from identitymesh.connectors.outcomes import NOT_CARRIED_OUT, after_a_change
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    KeyringError,
    MeshError,
    SecretError,
)
from identitymesh.model.attributes import Attributes

_FAILURES: Final = (ConnectorError, SecretError, KeyringError)

Outcome = Entry | MeshError
Answers = Iterator[Entry | ConnectorError]


def create_many(
    wanted: Iterator[Attributes],
    *,
    alone: Callable[[Attributes], Entry],
    together: Callable[[Iterator[Attributes]], Answers] | None,
    take: Callable[[Answers], Entry | ConnectorError | None],
    sound: Callable[[Entry], Entry],
) -> Iterator[Outcome]:
    """The facade's ``create_many``.

    ``alone`` creates one, with all its repeats; ``together`` begins to create all that follow, where the connector
    can; ``take`` gives their next answer, ``None`` after the last; ``sound`` checks one.
    """
    for attributes in wanted:
        # The first, and the first after a break, goes alone: it opens the connection, and says why that cannot be done.
        first = _outcome(alone, attributes)
        yield first
        if together is not None and isinstance(first, Entry):
            yield from _under_way(wanted, alone, together, take, sound)


def _under_way(
    wanted: Iterator[Attributes],
    alone: Callable[[Attributes], Entry],
    together: Callable[[Iterator[Attributes]], Answers],
    take: Callable[[Answers], Entry | ConnectorError | None],
    sound: Callable[[Entry], Entry],
) -> Iterator[Outcome]:
    """Until all have their answers, or the connection broke."""
    asked: deque[Attributes] = deque()

    def noted() -> Iterator[Attributes]:
        for attributes in wanted:
            asked.append(attributes)
            yield attributes

    answers = together(noted())
    try:
        while (answer := _taken(take, answers, asked)) is not None:
            attributes = asked.popleft()
            if isinstance(answer, Entry):
                yield _outcome(sound, answer)
            else:
                yield _outcome(alone, attributes) if isinstance(answer, NOT_CARRIED_OUT) else answer
        failure: MeshError = ConnectionLost("the connector gave no answer; whether it was carried out is unknown")
    except _FAILURES as error:
        failure = error
    yield from [failure] * len(asked)


def _taken(
    take: Callable[[Answers], Entry | ConnectorError | None], answers: Answers, asked: Collection[Attributes]
) -> Entry | ConnectorError | None:
    try:
        return take(answers)
    except _FAILURES:
        if not asked:
            raise
        with after_a_change():  # no answer of one, but the end of all that are under way: each may be carried out
            raise


def _outcome(action: Callable[..., Entry], given: object) -> Outcome:
    try:
        return action(given)
    except _FAILURES as error:
        return error
