"""What a definition file would do: the real stages on a copy of the mesh, which is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from identitymesh.definition.changes import compare, renames
from identitymesh.definition.compiling import attributes_read, compile_rules
from identitymesh.definition.reading import Definition
from identitymesh.lease import MESH
from identitymesh.runs.contract import (
    DefinitionStore,
    LeaseStore,
    MeshStore,
    PlannedRow,
    PlanStore,
    RunStore,
    StoredDefinition,
)
from identitymesh.runs.cycle import Parts
from identitymesh.runs.definitions import Current, Definitions
from identitymesh.runs.imports import Work, asked_digest, refresh
from identitymesh.runs.keeping import kept
from identitymesh.runs.planning import make_plan, target_reports
from identitymesh.runs.recording import people
from identitymesh.runs.reports import Progress, RunReport

ROWS = 1_000


@dataclass(frozen=True, slots=True)
class ScratchParts:
    """The stores of a copy."""

    mesh: MeshStore
    plans: PlanStore
    runs: RunStore
    leases: LeaseStore
    definitions: DefinitionStore


Scratch = Callable[[], AbstractContextManager[ScratchParts]]


def preview(
    parts: Parts, definitions: Definitions, scratch: Scratch, text: str, *, source: str, progress: Progress
) -> tuple[RunReport, Sequence[PlannedRow]]:
    """Evaluate everybody under the rules in ``text``, from the objects as last imported; reads no connector."""
    definition = definitions.read(text, source)
    stored = definitions.stored()
    old = definitions.read(stored.text, "the definition in force") if stored else None
    changes = compare(old, definition)
    version = (stored.version if stored else 0) + 1
    started = parts.clock()
    with scratch() as copy:
        record = StoredDefinition(version, text, source, parts.actor, version, started)
        copy.definitions.add(record, changes.waiting, [], renames(old, definition))
        run_id = copy.runs.start("plan", "none", parts.actor, version)
        rules = compile_rules(definition, version, started)
        with kept(copy.leases, copy.leases.acquire(MESH, "a preview")) as lease:
            work = Work(run_id, parts.actor, rules, copy.mesh, lease, progress, parts.clock)
            outcome = refresh(work, [rule.name for plan in rules.joins.values() for rule in plan.rules])
            judged = make_plan(work, copy.plans, Current(record, definition), {})
        rows = copy.plans.rows(run_id, limit=ROWS, anchor=None)
        rows += copy.plans.skipped(rules.frozen, limit=ROWS, anchor=None)
        targets = target_reports(copy.plans, run_id)
        notes = [*changes.lines, *_unread(copy.mesh, definition)]
    report = RunReport(
        run_id=0,
        command="preview",
        mode="none",
        state="held" if any(one.state == "held" for one in judged) else "done",
        actor=parts.actor,
        definition_version=version,
        started_at=started,
        ended_at=parts.clock(),
        people=people(outcome.counts),
        targets=targets,
        issues=outcome.issues,
        issue_count=len(outcome.issues),
        notes=notes,
    )
    return report, rows


def _unread(mesh: MeshStore, definition: Definition) -> list[str]:
    """What the preview cannot know, because no import has brought it yet."""
    notes = []
    for connector in definition.connectors.values():
        for object_class in connector.objects:
            names = attributes_read(definition, connector.name, object_class)
            state = mesh.import_state(connector.name, object_class)
            if names and state is None:
                notes.append(f"{connector.name} has not been imported yet: its {object_class}s are not in this preview")
            elif state is not None and state.names != asked_digest(connector, object_class, names):
                notes.append(
                    f"the rules ask for other attributes of {connector.name} than were imported: "
                    "the next run reads them, this preview does without the new ones"
                )
    return notes
