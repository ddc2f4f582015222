"""What runs tell: frozen records that the command line prints and ``--json`` gives as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from identitymesh.errors import Problem
from identitymesh.model.accounts import Difference, Kind
from identitymesh.model.attributes import Value
from identitymesh.runs.contract import Issue

RunState = Literal["running", "done", "problems", "held", "failed", "abandoned"]
# ready: may be released; held: waits for a person; incomplete: an import was cut short, never released
TargetState = Literal["empty", "ready", "held", "incomplete", "released", "dropped"]


class Progress(Protocol):
    """Told how long work goes on. ``total`` is ``None`` while nobody knows it."""

    def __call__(self, phase: str, subject: str, done: int, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class ImportReport:
    """One read of one object class. ``mode`` is full or delta; ``complete``: its absences may be believed."""

    connector: str
    object: str
    mode: str
    read: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    bad: int = 0
    complete: bool = False
    held_absences: int = 0
    held_reason: str = ""
    error_code: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What a plan says of one target. ``counts`` by kind; ``frozen`` rows are skipped; ``reasons`` why it is held."""

    connector: str
    state: TargetState
    counts: Mapping[str, int]
    frozen: int = 0
    parked: int = 0
    reasons: Sequence[str] = ()
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written to one target. ``done`` by kind; ``stale``: planned anew by the next run."""

    connector: str
    done: Mapping[str, int] = field(default_factory=dict)
    stale: int = 0
    parked: int = 0
    left: int = 0  # released, but not tried: the target could not be used
    error_code: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class RowView:
    """One row of a plan for a person to read. ``note``: frozen, parked with its reason, superseded."""

    connector: str
    object: str
    identity_id: int
    anchor: str | None
    kind: Kind
    differences: Sequence[Difference]
    note: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run from start to end. ``run_id`` names its plan too; 0 for a preview, which stores nothing."""

    run_id: int
    command: str
    mode: str
    state: RunState
    actor: str
    definition_version: int | None
    started_at: datetime
    ended_at: datetime | None
    imports: Sequence[ImportReport] = ()
    people: Mapping[str, int] = field(default_factory=dict)  # created, changed, left, returned
    targets: Sequence[TargetReport] = ()
    exports: Sequence[ExportReport] = ()
    issues: Sequence[Issue] = ()
    issue_count: int = 0
    error_code: str = ""
    error: str = ""
    notes: Sequence[str] = ()

    @property
    def row_count(self) -> int:
        """Rows of the plan over all targets."""
        return sum(sum(target.counts.values()) for target in self.targets)


@dataclass(frozen=True, slots=True)
class AudienceChange:
    """Where a secret may be sent from now on. ``needs_permission``: only with ``--allow-audience``."""

    reference: str
    connector: str
    endpoints: Sequence[str]
    needs_permission: bool = False


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What `apply` did. ``changes`` in words; ``waiting``: targets whose next plan waits for approval, and why."""

    version: int
    unchanged: bool
    changes: Sequence[str]
    waiting: Mapping[str, str]
    audience: Sequence[AudienceChange]
    missing_secrets: Sequence[str]
    warnings: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class Decision:
    """What approving or dropping a plan did. ``superseded`` rows have changed since and are judged again."""

    run_id: int
    connectors: Sequence[str]
    rows: int
    superseded: int
    absences: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One value offered for an attribute; the first of an attribute has won."""

    value: Value
    rule: str
    connector: str
    key: str
    confidence: int
    won: bool


@dataclass(frozen=True, slots=True)
class ExplainedValue:
    """One attribute of a person: what it is, since when (RFC 3339), and everything that was offered for it."""

    name: str
    value: Value | None
    since: str | None
    offers: Sequence[Offer]
    restricted: bool = False
    rule: str | None = None
    connector: str | None = None
    key: str | None = None
    confidence: int | None = None


@dataclass(frozen=True, slots=True)
class ExplainedAccount:
    """One account of a person. ``state`` in words."""

    connector: str
    object: str
    rule: str
    key: str | None
    state: str
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class ExplainedObject:
    """One object that belongs to a person, and why."""

    connector: str
    object: str
    key: str
    joined_by: str | None


@dataclass(frozen=True, slots=True)
class UnmatchedAccount:
    """An account of a target that belongs to nobody. ``why`` in words."""

    connector: str
    object: str
    key: str
    correlate: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Unmatched:
    """How many accounts belong to nobody, and the first of them."""

    total: int
    accounts: Sequence[UnmatchedAccount]


@dataclass(frozen=True, slots=True)
class LooseObject:
    """An object that belongs to nobody. ``state``: unjoined or ambiguous; ``due``: joined again then."""

    connector: str
    object: str
    key: str
    state: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """What a plan does with one account: change, skip, hold, parked or nothing to do, and why, in words."""

    connector: str
    object: str
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class Walk:
    """Everything that a plan did with one person. ``explanation`` is null while nobody is called so."""

    subject: str
    explanation: Explanation | None
    alone: Sequence[LooseObject]
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one person."""

    identity_id: int
    type: str
    anchor: str | None
    present: bool
    left_at: str | None
    frozen: bool
    objects: Sequence[ExplainedObject]
    values: Sequence[ExplainedValue]
    accounts: Sequence[ExplainedAccount]
    not_projected: Sequence[str] = ()  # for each rule that gives no account, why, in words
