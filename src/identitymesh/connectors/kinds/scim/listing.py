"""Reading a list of resources in pages, and the proof that nothing was left out.

Pages by index (RFC 7644 section 3.4.2.4) are no snapshot: when somebody is removed
between two pages, everybody behind moves up, and the one who crosses the edge of a page
is never seen. So each page after the first begins with the last resource of the page
before. If something else stands there, the list has moved, and the read proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from identitymesh.connectors.kinds.scim.paths import pick
from identitymesh.connectors.kinds.scim.session import Session

_EDGE: Final = 1  # resources that two pages have in common


@dataclass(slots=True)
class Listing:
    """What a read has seen so far. ``fault`` says, in words, why it proves nothing."""

    total: int | None = None
    read: int = 0
    ids: set[str] = field(default_factory=set)
    fault: str = ""

    def blame(self, fault: str) -> None:
        self.fault = self.fault or fault


def read_list(
    session: Session, endpoint: str, page_size: int, filter_text: str | None, listing: Listing
) -> Iterator[list[Any]]:
    """The resources, page by page; afterwards ``listing`` says how complete that was."""
    last: str | None = None
    while True:
        edge = _EDGE if last is not None else 0
        document = _page(session, endpoint, listing.read + 1 - edge, page_size + edge, filter_text)
        resources = _resources(document, listing)
        if last is not None:
            if resources and _id(resources[0]) == last:
                resources = resources[1:]
            else:
                listing.blame("the list moved while it was read")
        before = len(listing.ids)
        listing.ids.update(key for key in map(_id, resources) if key is not None)
        listing.read += len(resources)
        yield resources
        if listing.total is None or listing.read >= listing.total:
            return
        if len(listing.ids) == before:  # nothing new: the service gives no more, or the same page again
            return
        last = _id(resources[-1])


def conclusion(listing: Listing) -> str:
    """Why the read is not complete; empty if it is."""
    if listing.fault:
        return listing.fault
    if listing.total is None:
        return "the service did not say how many resources there are"
    if listing.total != len(listing.ids) or listing.read != listing.total:
        return (
            f"the service says that there are {listing.total:,} resources, but gave {listing.read:,}"
            f" with {len(listing.ids):,} different ids"
        )
    return ""


def _page(session: Session, endpoint: str, start: int, count: int, filter_text: str | None) -> Mapping[str, Any]:
    query: dict[str, str | int] = {"startIndex": start, "count": count}
    if filter_text is not None:
        query["filter"] = filter_text
    answer = session.request("GET", endpoint, query=query)
    answer.raise_for_status(on_object=False, writes=False)
    return answer.document()


def _resources(document: Mapping[str, Any], listing: Listing) -> list[Any]:
    total = pick(document, "totalResults")
    if isinstance(total, bool) or not isinstance(total, int):
        listing.blame("the service did not say how many resources there are")
        total = None
    elif listing.total is not None and total != listing.total:
        listing.blame(f"the number of resources changed from {listing.total:,} to {total:,} while they were read")
    listing.total = total if listing.total is None or total is None else max(listing.total, total)
    resources = pick(document, "Resources")
    return resources if isinstance(resources, list) else []


def _id(resource: Any) -> str | None:
    key = pick(resource, "id") if isinstance(resource, dict) else None
    return key if isinstance(key, str) and key else None
