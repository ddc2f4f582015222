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
    missing: Collection[str],
    total: int,
    noted: Mapping[str, bool],
    *,
    unreadable: int,
    scope_changed: bool,
    doubt: str = "",
) -> Verdict:
    """Judge what a complete import did not show.

    Args:
        missing: keys that are stored, and were not read.
        total: how many objects were stored before the import.
        noted: keys whose absence is held already, and whether a person approved believing it.
        unreadable: rows without a readable key: each may be any of the missing ones.
        scope_changed: the source's query, path, base, filter or URL is not that of the last complete import.
        doubt: what the source's proof lacks, in words.
    """
    approved = sorted(key for key in missing if noted.get(key))
    open_ = sorted(key for key in missing if not noted.get(key))
    waiting = [key for key in open_ if key in noted]
    if not open_:
        return Verdict(approved, [])
    reason = _reason(len(open_), total, unreadable=unreadable, scope_changed=scope_changed, doubt=doubt)
    if reason:
        return Verdict(approved, open_, reason)
    if waiting:
        fresh = [key for key in open_ if key not in noted]
        return Verdict(
            sorted([*approved, *fresh]), waiting, "missing since an import whose absences nobody has approved"
        )
    return Verdict(sorted([*approved, *open_]), [])


def _reason(missing: int, total: int, *, unreadable: int, scope_changed: bool, doubt: str) -> str:
    """Why none of these absences is believed without a person; empty if they may be."""
    if unreadable:
        rows = "row has" if unreadable == 1 else "rows have"
        return f"{unreadable:,} {rows} no readable key and may be any of the missing objects"
    if doubt:
        return doubt
    if scope_changed:
        return "what the connector reads (query, path, base, filter or URL) has changed"
    if missing > SMALL and missing * 100 > PERCENT * total:
        return f"{missing:,} of {total:,} objects are missing, more than {PERCENT} %"
    return ""
