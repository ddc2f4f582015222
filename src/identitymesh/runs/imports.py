"""Imports one object class of one connector: read and stage page by page, evaluate and store batch by batch.

A batch is stored while the next pages are read, in their order: a source, a file and the database spend much of their
time where Python can do something else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from identitymesh.collector import collector_resting
from identitymesh.connectors.contract import Page, SyncOp
from identitymesh.connectors.facade import Facade
from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import ConnectorError, ImportIncomplete
from identitymesh.lease import Lease
from identitymesh.pipeline.importing import Staged, stage
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs import absences
from identitymesh.runs.behind import Behind, one_behind
from identitymesh.runs.contract import ImportState, Issue, MeshStore
from identitymesh.runs.evaluation import Evaluation, Outcome
from identitymesh.runs.reports import ImportReport, Progress

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Work:
    """What every step of one run shares."""

    run_id: int
    actor: str
    rules: RuleSet
    mesh: MeshStore
    lease: Lease
    progress: Progress
    clock: Callable[[], datetime]

    def now(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Imported:
    """The result of one import. ``cut_short``: some of it was stored, and the end never came."""

    report: ImportReport
    people: Counter[str] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)
    cut_short: bool = False


def import_objects(
    work: Work, facade: Facade, connector: ConnectorDefinition, object_class: str, names: Sequence[str], *, delta: bool
) -> Imported:
    """Import. Connector errors end it in words, with what was stored before; other errors pass."""
    with one_behind("store") as behind:
        return _Import(work, facade, connector, object_class, names, delta=delta, behind=behind).run()


class _Import:
    def __init__(
        self,
        work: Work,
        facade: Facade,
        connector: ConnectorDefinition,
        object_class: str,
        names: Sequence[str],
        *,
        delta: bool,
        behind: Behind,
    ) -> None:
        self._work = work
        self._behind = behind
        self._facade = facade
        self._place = (connector.name, object_class)
        self._names = frozenset(names)
        self._state = work.mesh.import_state(*self._place)
        self._scope = _digest(connector.kind.scope(connector.settings, object_class))
        self._asked = asked_digest(connector, object_class, names)
        self._watermark = work.mesh.watermark(*self._place)
        self._known: dict[str, bytes] = {}
        self._stored = 0
        self._unreadable = 0
        self._staged: list[Staged] = []  # of pages that are read and not stored yet
        self._reached: str | None = None  # their watermark
        self._outcome = Outcome()
        # Other attributes, or another query, than last time: a delta would leave them unread in what did not change.
        asked = (self._scope, self._asked)
        fit_for_delta = self._watermark is not None and self._read_last() == asked
        self._whole = not (delta and fit_for_delta and facade.offers(SyncOp))
        self._result = Imported(ImportReport(*self._place, "delta" if delta else "full"))

    def _read_last(self) -> tuple[str, str] | None:
        return None if self._state is None else (self._state.scope, self._state.names)

    def run(self) -> Imported:
        mesh = self._work.mesh
        self._known = mesh.known_digests(*self._place, self._work.rules.version)
        self._stored = len(self._known)
        pages = 0
        last = Page()
        try:
            with collector_resting():
                for last in self._pages():
                    self._take(last)
                    pages += 1
        except ConnectorError as error:
            self._store_rest()
            self._failed(error, stored=pages > 0)
        else:
            self._store_rest()
            if self._result.report.mode == "full":
                self._finish(last)
            elif self._whole and last.incomplete:
                self._failed(_incomplete(self._place[0], last.incomplete), stored=True)
            else:
                self._note_delta(last)
        counts = self._outcome.counts
        self._result.report = replace(
            self._result.report, added=counts["added"], changed=counts["changed"], removed=counts["removed"]
        )
        self._result.people.update(counts)
        self._result.issues[:0] = self._outcome.issues
        return self._result

    def _pages(self) -> Iterator[Page]:
        _, object_class = self._place
        names = sorted(self._names)
        if self._whole:
            return self._facade.read(object_class, names)
        return self._facade.read_since(object_class, names, self._watermark)

    def _take(self, page: Page) -> None:
        connector, _ = self._place
        for bad in page.bad:
            subject = bad.key or bad.position
            self._result.issues.append(Issue(connector, subject, "bad-object", _placed(bad.reason, bad.position)))
            if bad.key is None:
                self._unreadable += 1
            else:
                self._known.pop(bad.key, None)
        self._staged += stage(page.entries, self._known, self._names)
        if page.watermark != self._watermark:
            self._reached = page.watermark or self._reached
        report = self._result.report
        self._result.report = replace(
            report, read=report.read + len(page.entries) + len(page.bad), bad=report.bad + len(page.bad)
        )
        if len(self._staged) >= BATCH:
            self._store()
        self._work.progress("import", connector, self._result.report.read, None)

    def _store(self) -> None:
        """What is to be looked at of the pages so far, and the watermark that they reached: one transaction, behind.

        A page is not worth a commit, and one that has a few changes even less: they are stored when there are
        ``BATCH`` objects to look at.
        """
        staged, self._staged = self._staged, []
        reached, self._reached = self._reached, None
        self._watermark = reached or self._watermark
        if staged or reached is not None:
            self._behind.start(lambda: self._store_these(staged, reached))

    def _store_rest(self) -> None:
        self._store()
        self._behind.wait()

    def _store_these(self, staged: Sequence[Staged], reached: str | None) -> None:
        with self._evaluation() as evaluation:
            evaluation.take(*self._place, staged)
            if reached is not None:
                evaluation.tx.put_watermark(*self._place, reached, self._work.run_id)

    @contextmanager
    def _evaluation(self) -> Iterator[Evaluation]:
        work = self._work
        with work.mesh.transaction(work.lease) as tx:
            evaluation = Evaluation(tx, work.rules, work.now(), work.actor, work.run_id)
            yield evaluation
            outcome = evaluation.finish()
        self._outcome.add(outcome)  # only what was committed

    def _failed(self, error: ConnectorError, *, stored: bool) -> None:
        connector, _ = self._place
        self._result.cut_short = stored
        self._result.report = replace(
            self._result.report, error_code=error.code, error=str(error), hint=error.hint or ""
        )
        self._result.issues.append(Issue(connector, "", error.code, str(error)))
        now = self._work.clock()
        self._note_state(replace(self._blank(), error_code=error.code, error=str(error), error_at=now))

    def _finish(self, last: Page) -> None:
        """After a complete read: who is gone?"""
        connector, object_class = self._place
        if last.complete is None:
            self._failed(_incomplete(connector, last.incomplete), stored=True)
            return
        mesh = self._work.mesh
        noted = mesh.held_absences(*self._place)
        changed = self._state is not None and self._state.scope != self._scope
        verdict = absences.judge(
            list(self._known),
            self._stored,
            noted,
            unreadable=self._unreadable,
            scope_changed=changed,
            doubt=last.complete.doubt,
        )
        for start in range(0, len(verdict.believed), BATCH):
            with self._evaluation() as evaluation:
                evaluation.remove(connector, object_class, verdict.believed[start : start + BATCH])
        mesh.hold_absences(connector, object_class, verdict.held, self._work.run_id, self._work.lease)
        self._result.report = replace(
            self._result.report, complete=True, held_absences=len(verdict.held), held_reason=verdict.reason
        )
        self._note_state(
            ImportState(
                scope=self._scope,
                names=self._asked,
                complete_at=self._work.clock(),
                complete_run=self._work.run_id,
                objects=last.complete.count,
                held_absences=len(verdict.held),
                held_reason=verdict.reason or None,
            )
        )

    def _note_delta(self, last: Page) -> None:
        state = replace(self._blank(), error=None, error_code=None, error_at=None)
        if self._state is not None and self._whole and last.complete is not None:
            # The next need not ask for everything again. Whether the scope is another one is for a full run to see.
            state = replace(state, names=self._asked)
        self._note_state(state)

    def _blank(self) -> ImportState:
        """The state as it was; of a first import, one that makes the next ask for everything again."""
        return self._state or ImportState(scope=self._scope, names="")

    def _note_state(self, state: ImportState) -> None:
        if state != self._state:
            self._work.mesh.put_import_state(*self._place, state, self._work.lease)


def _incomplete(connector: str, why: str) -> ImportIncomplete:
    return ImportIncomplete(
        f"the read of {connector} was not complete: {why or 'the source gave no proof'}",
        hint="What was read is stored; nobody is believed gone. The next full run reads again.",
        connector=connector,
    )


def _placed(reason: str, position: str) -> str:
    return f"{position}: {reason}" if position else reason


def asked_digest(connector: ConnectorDefinition, object_class: str, names: Iterable[str]) -> str:
    """What an import asks for: attributes, and changes by which mark. A mark of another kind says nothing of these."""
    mark = connector.watermark(object_class)
    return _digest("\n".join([*sorted(names), *([f"by {mark}"] if mark else [])]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _evaluate(work: Work, total: Outcome, step: Callable[[Evaluation], None]) -> None:
    with work.mesh.transaction(work.lease) as tx:
        evaluation = Evaluation(tx, work.rules, work.now(), work.actor, work.run_id)
        step(evaluation)
        outcome = evaluation.finish()
    total.add(outcome)


@collector_resting()
def refresh(work: Work, rule_names: Sequence[str]) -> Outcome:
    """After a change of rules: join again what has to be, and evaluate every identity under today's rules."""
    total = Outcome()
    if work.mesh.settled(work.rules.version):
        return total
    for objects in work.mesh.objects_to_rejoin(work.rules.version, rule_names, BATCH):
        _evaluate(work, total, lambda evaluation, objects=objects: evaluation.rejoin(objects))  # type: ignore[misc]
    work.mesh.settle_objects(work.rules.version, rule_names, work.lease)
    done = 0
    for ids in work.mesh.identities_to_refresh(work.rules.version, BATCH):
        _evaluate(work, total, lambda evaluation, ids=ids: evaluation.refresh(ids))  # type: ignore[misc]
        done += len(ids)
        work.progress("rules", "identities", done, None)
    work.mesh.settle(work.rules.version, work.lease)
    return _nothing_read(total)


@collector_resting()
def evaluate_due(work: Work) -> Outcome:
    """Whoever has become due: what the rules say of them can have changed with the date alone."""
    total = Outcome()
    done = 0
    for objects in work.mesh.objects_due(work.rules.now, BATCH):
        _evaluate(work, total, lambda evaluation, objects=objects: evaluation.rejoin(objects))  # type: ignore[misc]
        done += len(objects)
        work.progress("due", "objects", done, None)
    done = 0
    for ids in work.mesh.identities_due(work.rules.now, BATCH):
        _evaluate(work, total, lambda evaluation, ids=ids: evaluation.reconsider(ids))  # type: ignore[misc]
        done += len(ids)
        work.progress("due", "identities", done, None)
    return _nothing_read(total)


def _nothing_read(total: Outcome) -> Outcome:
    for kind in ("added", "changed"):
        total.counts.pop(kind, None)  # nothing was read
    return total
