"""What a run did, as it grows, as it is stored, and as the report that is made of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from identitymesh.runs.contract import Issue, PlanStore, RunStore, StoredRun
from identitymesh.runs.planning import target_reports
from identitymesh.runs.reports import ExportReport, ImportReport, RunReport

SHOWN_ISSUES = 200


@dataclass(slots=True)
class Recorded:
    """What a run did, as it grows."""

    imports: list[ImportReport] = field(default_factory=list)
    people: Counter[str] = field(default_factory=Counter)
    exports: list[ExportReport] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    held: bool = False
    cut_short: dict[str, str] = field(default_factory=dict)

    def state(self) -> str:
        """The name of the end."""
        failed = any(one.error_code for one in self.imports) or any(one.error_code for one in self.exports)
        unsent = any(one.stale or one.parked for one in self.exports)
        if failed or unsent or self.issues:
            return "problems"
        return "held" if self.held else "done"


def summary(recorded: Recorded) -> dict[str, Any]:
    """What is stored of a run beside its plan and issues: JSON values."""
    return {
        "imports": [asdict(one) for one in recorded.imports],
        "exports": [asdict(one) for one in recorded.exports],
        "people": dict(recorded.people),
        "notes": recorded.notes,
    }


def report(stored: StoredRun, runs: RunStore, plans: PlanStore, *, issues: int = SHOWN_ISSUES) -> RunReport:
    """The report of a recorded run, with its plan as it stands now."""
    told: Mapping[str, Any] = stored.summary
    return RunReport(
        run_id=stored.id,
        command=stored.command,
        mode=stored.mode,
        state=stored.state,  # type: ignore[arg-type]  # stored by this package alone
        actor=stored.actor,
        definition_version=stored.definition_version,
        started_at=stored.started_at,
        ended_at=stored.ended_at,
        imports=[ImportReport(**one) for one in told.get("imports", ())],
        people=people(told.get("people", {})),
        targets=target_reports(plans, stored.id),
        exports=[ExportReport(**one) for one in told.get("exports", ())],
        issues=runs.issues(stored.id, issues),
        issue_count=runs.issue_count(stored.id),
        error_code=stored.error_code or "",
        error=stored.error or "",
        notes=told.get("notes", ()),
    )


def people(counts: Mapping[str, int]) -> dict[str, int]:
    """How many came, changed, left and returned."""
    names = {
        "created": "identity.create",
        "changed": "identity.change",
        "left": "identity.leave",
        "returned": "identity.return",
    }
    return {name: counts.get(action, 0) for name, action in names.items()}
