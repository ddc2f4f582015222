"""Several changes under way at once on one connection (RFC 4511 section 3.1), answered in the order they were sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

import ldap

from identitymesh.connectors.kinds.ldap.session import Answer, Connection, Session, Translate
from identitymesh.errors import ConnectionLost, ConnectorError, TimedOut

_LARGEST: Final = 65_536  # bytes under way, about: a server that cannot get rid of its answers may not read on

Done = TypeVar("Done")


class Change(Protocol):
    """A change that is ready to be sent; ``size`` in bytes, about."""

    @property
    def size(self) -> int: ...
    def send(self, connection: Connection) -> int: ...


class _UnderWay(NamedTuple):
    change: Change
    size: int
    asked: int | ConnectorError


class Pipeline:
    """Use once. Up to ``most`` changes are under way; when the connection breaks, all of them have the same error."""

    def __init__(self, session: Session, failed: Translate, most: int) -> None:
        self._session = session
        self._failed = failed
        self._most = most
        self._connection = session.ready()
        self._under_way: deque[_UnderWay] = deque()
        self._size = 0
        self._broken: ConnectorError | None = None

    def answers(self, wanted: Iterator[Change]) -> Iterator[Answer | ConnectorError]:
        """One for each change that ``wanted`` gave; after a break it is asked for no more."""
        while True:
            while self._has_room and (change := next(wanted, None)) is not None:
                self._send(change)
            if not self._under_way:
                return
            yield self._oldest()

    @property
    def _has_room(self) -> bool:
        return self._broken is None and len(self._under_way) < self._most and self._size < _LARGEST

    def _send(self, change: Change) -> None:
        size = change.size
        self._size += size
        self._under_way.append(_UnderWay(change, size, self._attempt(lambda: change.send(self._connection))))

    def _oldest(self) -> Answer | ConnectorError:
        change, size, asked = self._under_way.popleft()
        self._size -= size
        return asked if isinstance(asked, ConnectorError) else self._attempt(partial(self._answer, change, asked))

    def _answer(self, change: Change, asked: int) -> Answer:
        try:
            return self._session.answer(self._connection, asked)
        except ldap.NO_SUCH_OBJECT:
            # A server may carry out the second before the first; what was sent before this one is answered by now.
            return self._session.answer(self._connection, change.send(self._connection))

    def _attempt(self, action: Callable[[], Done]) -> Done | ConnectorError:
        if self._broken is None and not self._session.keeps(self._connection):
            self._broken = ConnectionLost("the connection broke before the answer came")
        if self._broken is not None:
            return self._broken
        try:
            return action()
        except ldap.LDAPError as error:
            failure = self._failed(error)
        except ConnectorError as error:
            failure = error
        if isinstance(failure, ConnectionLost | TimedOut):
            self._session.close()
            self._broken = failure
        return failure
