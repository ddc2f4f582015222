"""What a run did, as it grows, as it is stored, and as the report that is made of that."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from identitymesh.runs.contract import Issue, PlanStore, RunStore, StoredRun
from identitymesh.runs.planning import target_reports
from identitymesh.runs.reports import ExportReport, ImportReport, RunReport, RunState, TargetReport

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


def log_end(run_id: int, state: str, recorded: Recorded, error: str) -> None:
    """The end of a run, and every connector and secret that failed in it, for whoever watches the log."""
    log = logging.getLogger("identitymesh.runs")
    for issue in recorded.issues:
        if not issue.subject:  # the connector as a whole; what single objects lack stands in the run
            about = {"run": run_id, "connector": issue.connector, "code": issue.code, "problem": issue.message}
            log.error("connector failed", extra=about)
    failed = state == "failed"
    more = {"problem": error} if error else {"issues": len(recorded.issues)}
    log.log(logging.ERROR if failed else logging.INFO, "run ended", extra={"run": run_id, "state": state, **more})


def report(stored: StoredRun, runs: RunStore, plans: PlanStore, *, issues: int = SHOWN_ISSUES) -> RunReport:
    """The report of a recorded run, with its plan as it stands now."""
    told: Mapping[str, Any] = stored.summary
    imports = [ImportReport(**one) for one in told.get("imports", ())]
    targets = target_reports(plans, stored.id)
    return RunReport(
        run_id=stored.id,
        command=stored.command,
        mode=stored.mode,
        state=_state(stored, imports, targets),
        actor=stored.actor,
        definition_version=stored.definition_version,
        started_at=stored.started_at,
        ended_at=stored.ended_at,
        imports=imports,
        people=people(told.get("people", {})),
        targets=targets,
        exports=[ExportReport(**one) for one in told.get("exports", ())],
        issues=runs.issues(stored.id, issues),
        issue_count=runs.issue_count(stored.id),
        error_code=stored.error_code or "",
        error=stored.error or "",
        notes=told.get("notes", ()),
    )


def _state(stored: StoredRun, imports: Sequence[ImportReport], targets: Sequence[TargetReport]) -> RunState:
    """The end as recorded; a hold is over when somebody has decided on all that was held."""
    decided = not any(one.state in ("held", "incomplete") for one in targets)
    if stored.state == "held" and decided and not any(one.held_absences for one in imports):
        return "done"
    return stored.state  # type: ignore[return-value]  # stored by this package alone


def people(counts: Mapping[str, int]) -> dict[str, int]:
    """How many came, changed, left and returned."""
    names = {
        "created": "identity.create",
        "changed": "identity.change",
        "left": "identity.leave",
        "returned": "identity.return",
    }
    return {name: counts.get(action, 0) for name, action in names.items()}
