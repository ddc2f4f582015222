"""Who is gone? Absence is believed only after a complete import, and not in large numbers without a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

SMALL = 2
PERCENT = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """``believed``: remove these. ``held``: note these, and ``reason`` why."""

    believed: list[str]
    held: list[str]
    reason: str = ""


def judge(
    missing: Collection[str], total: int, noted: Mapping[str, bool], *, unreadable: int, scope_changed: bool
) -> Verdict:
    """Judge what a complete import did not show.

    Args:
        missing: keys that are stored, and were not read.
        total: how many objects were stored before the import.
        noted: keys whose absence is held already, and whether a person approved believing it.
        unreadable: rows without a readable key: each may be any of the missing ones.
        scope_changed: the source's query, path, base, filter or URL is not that of the last complete import.
    """
    approved = sorted(key for key in missing if noted.get(key))
    open_ = sorted(key for key in missing if not noted.get(key))
    waiting = [key for key in open_ if key in noted]
    if not open_:
        return Verdict(approved, [])
    if unreadable:
        rows = "row has" if unreadable == 1 else "rows have"
        return Verdict(approved, open_, f"{unreadable:,} {rows} no readable key and may be any of the missing objects")
    if scope_changed:
        return Verdict(approved, open_, "what the connector reads (query, path, base, filter or URL) has changed")
    if len(open_) > SMALL and len(open_) * 100 > PERCENT * total:
        return Verdict(approved, open_, f"{len(open_):,} of {total:,} objects are missing, more than {PERCENT} %")
    if waiting:
        fresh = [key for key in open_ if key not in noted]
        return Verdict(
            sorted([*approved, *fresh]), waiting, "missing since an import whose absences nobody has approved"
        )
    return Verdict(sorted([*approved, *open_]), [])
