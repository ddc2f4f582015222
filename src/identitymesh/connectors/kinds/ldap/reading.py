"""A search that streams: pages of entries as they come, and at the end how it ended.

Reading has a connection of its own, so that single calls in between wait for nothing and nothing is left behind when a
read is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import ldap
from ldap.controls import DecodeControlTuples
from ldap.controls.libldap import SimplePagedResultsControl

from identitymesh.collector import collector_resting
from identitymesh.connectors.kinds.ldap.failures import translate, words
from identitymesh.connectors.kinds.ldap.session import Connection, Session, hang_up
from identitymesh.connectors.kinds.ldap.settings import LdapObject

PAGE: Final = 250  # entries handed on at once, see Page; on the wire `page_size` decides
SCOPES: Final = {"subtree": ldap.SCOPE_SUBTREE, "one": ldap.SCOPE_ONELEVEL}
# RFC 4511: the server stopped by itself; what came until then is sound, and not all of it.
_CUT: Final = {
    ldap.SIZELIMIT_EXCEEDED: "the server's size limit ended the read",
    ldap.TIMELIMIT_EXCEEDED: "the server's time limit ended the read",
    ldap.ADMINLIMIT_EXCEEDED: "a limit of the server ended the read",
    ldap.PARTIAL_RESULTS: "the server gives a part only",
}


@dataclass(slots=True)
class Ending:
    """How a read ended. ``incomplete`` is empty when the server said that it was everything."""

    count: int = 0
    referrals: int = 0
    incomplete: str = ""

    @property
    def why(self) -> str:
        """Why it proves nothing about who is gone; empty if it does."""
        if self.incomplete:
            return f"{self.incomplete} after {self.count:,} entries"
        if self.referrals:
            several = "a referral" if self.referrals == 1 else f"{self.referrals:,} referrals"
            return f"{several} to other servers came with the {self.count:,} entries, and is not followed"
        return ""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: entries of a class, perhaps fewer by another filter, with these attributes."""

    selected: LdapObject
    filter: str
    names: Sequence[str]
    page_size: int | None
    timeout: float  # seconds that the server may be silent


Take = Callable[[str, dict[str, list[bytes]]], Any]


def stream(session: Session, request: Request, take: Take, ending: Ending) -> Iterator[list[Any]]:
    """Lists of what ``take`` makes of each entry, about ``PAGE`` of them; ``ending`` is filled in as it goes.

    Raises:
        ConnectionLost, TimedOut: the server went away, or said nothing for the time limit.
        ConnectorMisconfigured: the base or the filter is wrong.
    """
    connection = session.connection()
    try:
        with collector_resting():
            search: _Search | None = _Search(connection, request, b"")
            while search is not None:
                made, search = _some(connection, request, search, take, ending)
                ending.count += len(made)
                if made:
                    yield made
    finally:
        hang_up(connection)


def _some(
    connection: Connection, request: Request, search: _Search, take: Take, ending: Ending
) -> tuple[list[Any], _Search | None]:
    """The next entries, and the search that goes on."""
    made: list[Any] = []
    try:
        if search.take(take, made, ending):
            return made, search
    except tuple(_CUT) as error:
        ending.incomplete = f"{_CUT[type(error)]} ({words(error)})"
        return made, None
    except ldap.LDAPError as error:
        failure = translate(error, f"reading below {request.selected.base or 'the root'}")
    else:
        return made, None if search.cookie is None else _Search(connection, request, search.cookie)
    raise failure


class _Search:
    """One request and its answers. ``cookie``: where the next one carries on; ``None`` when there is none."""

    def __init__(self, connection: Connection, request: Request, cookie: bytes) -> None:
        self.cookie: bytes | None = None
        self._connection = connection
        self._timeout = request.timeout
        selected = request.selected
        where = (selected.base, SCOPES[selected.scope], request.filter, list(request.names))
        self._begin = partial(connection.search_ext, *where, serverctrls=_paging(request.page_size, cookie))
        self._next_message: Callable[[], Any] | None = None

    def take(self, take: Take, made: list[Any], ending: Ending) -> bool:
        """Add up to ``PAGE`` entries to ``made``; whether there may be more of this answer."""
        if self._next_message is None:
            self._next_message = self._connection.messages(self._begin(), self._timeout)
        next_message, add, entry = self._next_message, made.append, ldap.RES_SEARCH_ENTRY
        room = PAGE
        while room:
            kind, data, _, controls = next_message()
            if kind == entry:
                room -= 1
                ((dn, raw),) = data
                add(take(dn, raw))
            elif kind == ldap.RES_SEARCH_RESULT:
                self.cookie = _cookie(controls)
                return False
            elif kind == ldap.RES_SEARCH_REFERENCE:
                ending.referrals += 1
        return True


def _paging(size: int | None, cookie: bytes) -> list[SimplePagedResultsControl] | None:
    # Critical: a server that does not page would cut the answer at its limit without saying so.
    return None if size is None else [SimplePagedResultsControl(criticality=True, size=size, cookie=cookie)]


def _cookie(controls: Sequence[tuple[str, bool, bytes]]) -> bytes | None:
    paged = [one for one in DecodeControlTuples(controls) if isinstance(one, SimplePagedResultsControl)]
    return next((one.cookie or None for one in paged), None)
