"""Reading what changed since a mark, without losing an entry between two runs.

A directory answers in no order and changes while it answers. So the highest mark is asked for first: what changed after
that answer is left to the next run. And entries are put in order before they are handed on, so that a page's watermark
never stands after an entry that is still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from identitymesh.connectors.contract import BadEntry, Entry, Page
from identitymesh.connectors.kinds.ldap.entries import EntryReader, first
from identitymesh.connectors.kinds.ldap.reading import PAGE, Ending, Take
from identitymesh.connectors.kinds.ldap.watermarks import write_watermark
from identitymesh.errors import ConnectorMisconfigured, ImportIncomplete

HELD: Final = 50_000  # entries that are put in order in memory; beyond, the watermark moves at the end alone

Marked = tuple[str, Entry | BadEntry]
Streams = Callable[[Sequence[str], Take, Ending], Iterator[list[Any]]]


def highest(attribute: str, streams: Streams) -> str | None:
    """The highest mark among the entries; ``None`` when there are none, or when the server did not give all.

    Raises:
        ConnectorMisconfigured: there are entries, and none of them shows its mark.
    """
    ending = Ending()
    most = ""
    for marks in streams([attribute], lambda _, raw: first(raw, attribute) or "", ending):
        most = max(most, *marks)
    if not most and ending.count:
        raise ConnectorMisconfigured(
            f"no entry shows {attribute} to this login, so changes cannot be told",
            hint="Let bind_dn read it, or choose the other watermark, or leave watermark out.",
        )
    return None if ending.why or not most else most


def changes(attribute: str, reader: EntryReader, streams: Streams) -> Iterator[Page]:
    """The entries of a stream in pages, each with the watermark from which a later read may carry on.

    Raises:
        ImportIncomplete: the server did not give all; the watermark stays where the last page left it.
    """
    limit = highest(attribute, streams)
    ending = Ending()
    held: list[Marked] = []
    ordered = True
    for marked in streams(reader.asked, lambda dn, raw: (first(raw, attribute) or "", reader.entry(dn, raw)), ending):
        held += marked
        if len(held) > HELD:
            ordered = False
        if not ordered:
            yield from _pages(held)
            held = []
    whole = not ending.why and limit is not None
    if ordered and whole:
        held.sort(key=_mark)
    for at, page in enumerate(_pages(held)):
        last = held[min((at + 1) * PAGE, len(held)) - 1][0]
        known = ordered and whole and last
        yield Page(page.entries, page.bad, write_watermark(attribute, min(last, limit or "")) if known else None)
    if ending.why:
        raise ImportIncomplete(
            f"the changes were not read completely: {ending.why}", hint="The next run reads them again."
        )
    if not ordered and limit is not None:
        yield Page(watermark=write_watermark(attribute, limit))


def _pages(held: Sequence[Marked]) -> Iterator[Page]:
    for at in range(0, len(held), PAGE):
        yield page_of([entry for _, entry in held[at : at + PAGE]])


def page_of(made: Sequence[Entry | BadEntry]) -> Page:
    entries = [one for one in made if type(one) is Entry]
    bad = [] if len(entries) == len(made) else [one for one in made if isinstance(one, BadEntry)]
    return Page(entries, bad)


def _mark(marked: Marked) -> str:
    return marked[0]
