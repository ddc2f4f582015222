"""One run from start to end: lease, import, plan, limits, release, export, record.

The mesh lease is held from the first import to the release; exports hold the lease of
their target alone, so that one slow target never holds the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from identitymesh.audit import Record
from identitymesh.connectors.contract import Kind
from identitymesh.connectors.facade import Facade, open_facade
from identitymesh.definition.changes import targets as targets_of
from identitymesh.definition.compiling import attributes_read, compile_rules
from identitymesh.definition.reading import ConnectorDefinition
from identitymesh.errors import Busy, ConnectorError, KeyringError, LeaseLost, MeshError, SecretError, UsageError
from identitymesh.lease import MESH, Lease
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.contract import UNDECIDED, ExportStore, Issue, LeaseStore, MeshStore, PlanStore, RunStore
from identitymesh.runs.dates import Trusted, trusted
from identitymesh.runs.definitions import Current
from identitymesh.runs.exports import export
from identitymesh.runs.imports import Imported, Work, evaluate_due, import_objects, refresh
from identitymesh.runs.keeping import kept, wait_for
from identitymesh.runs.planning import make_plan, release
from identitymesh.runs.recording import Recorded, log_end, summary
from identitymesh.runs.reports import ExportReport, ImportReport, Progress
from identitymesh.runs.review_contract import ReviewStore
from identitymesh.runs.sending import ExportWork
from identitymesh.secrets.initial import InitialPasswords
from identitymesh.secrets.resolver import ConnectorSecrets, RunCredentials
from identitymesh.secrets.store import SecretStore


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs are made with; the composition fills it."""

    mesh: MeshStore
    plans: PlanStore
    exports: ExportStore
    runs: RunStore
    leases: LeaseStore
    secrets: SecretStore
    passwords: InitialPasswords
    reviews: ReviewStore
    kinds: Mapping[str, Kind]
    folder: Path  # paths in a definition start here
    actor: str
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Order:
    """What a person or a schedule asked for."""

    command: str  # plan | run | release
    delta: bool = False
    connectors: Sequence[str] = ()
    plan: int | None = None  # release exactly this plan
    accept_clock: bool = False  # a person says that the clock is right, however far it went since the last run
    due: str | None = None  # which due moment of a schedule this is


class Cycle:
    """One run. Use once."""

    def __init__(self, parts: Parts, current: Current, order: Order, progress: Progress) -> None:
        self._parts = parts
        self._current = current
        self._order = order
        self._progress = progress
        self._rules: RuleSet = compile_rules(current.definition, current.stored.ruleset, parts.clock())
        self.recorded = Recorded()
        self._must_read: set[str] = set()
        self.run_id = 0

    def execute(self) -> int:
        """Do all of it and record the end, whatever it is; answers the run's number.

        Raises:
            Busy: another run holds the mesh; nothing was done or recorded.
            MeshError: what ended the run; it is recorded as failed first.
        """
        self._check_names()
        with ExitStack() as stack:
            mesh = stack.enter_context(self._lease(MESH))
            mode = "none" if self._order.command == "release" else "delta" if self._order.delta else "full"
            self._bury_the_dead()
            version = self._current.stored.version
            self.run_id = self._parts.runs.start(self._order.command, mode, self._parts.actor, version, self._order.due)
            secrets = RunSecrets(self._parts, self.run_id)
            with self._alive(), self._recording(), secrets:
                self._settle_date(mesh)
                self._remove_expired()
                self._within_mesh(mesh, secrets)
                stack.close()  # the mesh is free; what follows concerns one target each
                if self._order.command != "plan":
                    self._export_all(secrets)
        return self.run_id

    def _remove_expired(self) -> None:
        """Nobody is given them any more: a vault that does not answer keeps no run from its work."""
        try:
            self._parts.passwords.remove_expired()
        except (SecretError, KeyringError) as error:
            self.recorded.notes.append(f"expired initial passwords were not removed: {error}")

    def _check_names(self) -> None:
        known = self._current.definition.connectors
        for name in self._order.connectors:
            if name not in known:
                raise UsageError(f"no connector {name}", hint=f"There are: {', '.join(known)}.")

    @contextmanager
    def _lease(self, name: str) -> Iterator[Lease]:
        leases = self._parts.leases

        def waiting(why: str) -> None:
            self._progress("waiting", why, 0, None)

        lease = wait_for(leases, name, f"a {self._order.command}", patience=leases.seconds, waiting=waiting)
        with kept(leases, lease):
            yield lease

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """A lease of this run alone, which says that its process lives; nobody needs it afterwards."""
        leases = self._parts.leases
        own = leases.acquire(f"run:{self.run_id}", f"run {self.run_id}")
        with kept(leases, own):
            yield
        with suppress(MeshError):  # a row too many is no reason to fail
            leases.forget(own.name)

    def _bury_the_dead(self) -> None:
        for run_id in self._parts.runs.running():
            if not self._parts.leases.held(f"run:{run_id}"):
                self._parts.runs.abandon(run_id)
                self._parts.leases.forget(f"run:{run_id}")
                self.recorded.notes.append(f"run {run_id} had ended without a word; this run carries on from there")

    @contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            code = error.code if isinstance(error, MeshError) else type(error).__name__
            told = str(error) if isinstance(error, MeshError) else f"the run was ended by {type(error).__name__}"
            self._finish("failed", code, told, suppress=True, stopped=isinstance(error, KeyboardInterrupt))
            raise
        self._finish(self.recorded.state(), "", "", suppress=False)

    def _finish(self, state: str, code: str, error: str, *, suppress: bool, stopped: bool = False) -> None:
        log_end(self.run_id, state, self.recorded, error)
        try:
            told, issues = summary(self.recorded), self.recorded.issues
            self._parts.runs.finish(self.run_id, state, told, issues, code=code, error=error, stopped=stopped)
        except MeshError:
            if not suppress:  # what ended the run is the better story
                raise

    # -- under the mesh lease ----------------------------------------------------

    def _settle_date(self, lease: Lease) -> None:
        """The instant for which rules about dates are evaluated: the clock's, unless it jumped."""
        if self._order.command == "release":
            return
        mesh, clock = self._parts.mesh, self._parts.clock()
        mark = mesh.date_mark() if self._rules.looks_at_the_date else None
        found = Trusted(clock) if self._order.accept_clock else trusted(clock, mark)
        if found.doubt:
            self.recorded.issues.append(Issue("", "clock", "clock-jumped", found.doubt))
        accepted = trusted(clock, mark).doubt if self._order.accept_clock else ""
        payload = {"before": mark.isoformat() if mark else "", "after": clock.isoformat()}
        event = Record("clock.accept", "clock", self._parts.actor, run=str(self.run_id), payload=payload)
        mesh.put_date_mark(found.now, lease, [event] if accepted else [])
        if found.now != self._rules.now:
            self._rules = compile_rules(self._current.definition, self._current.stored.ruleset, found.now)

    def _within_mesh(self, lease: Lease, secrets: RunSecrets) -> None:
        work = Work(
            self.run_id, self._parts.actor, self._rules, self._parts.mesh, lease, self._progress, self._parts.clock
        )
        self._must_read = self._unread_targets()
        if self._order.plan is not None:
            self._hold_unread(self._must_read)
            self._release_exactly(work, self._order.plan)
            return
        names = [rule.name for plan in self._rules.joins.values() for rule in plan.rules]
        refreshed = refresh(work, names)
        self.recorded.people.update(refreshed.counts)
        self.recorded.issues += refreshed.issues
        self._import_all(work, secrets)
        due = evaluate_due(work)
        self.recorded.people.update(due.counts)
        self.recorded.issues += due.issues
        self._hold_unread(self._unread_targets())
        if unknown := self._parts.plans.unknown_anchors(self._rules.frozen):
            named = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
            self.recorded.notes.append(f"`frozen` names {len(unknown)} that nobody is called: {named}")
        judged = make_plan(work, self._parts.plans, self._current, self.recorded.cut_short)
        self.recorded.held = any(one.state in ("held", "incomplete") for one in judged)
        self.recorded.held |= any(one.held_absences for one in self.recorded.imports)
        if self._order.command == "run":
            release(work, self._parts.plans, judged)

    def _release_exactly(self, work: Work, plan: int) -> None:
        """A person named the plan: that is its approval."""
        plans = self._parts.plans
        self.recorded.notes.append(f"this writes plan {plan}")
        for target in plans.targets(plan):
            if target.state in UNDECIDED and target.connector not in self._must_read:
                plans.approve(plan, [target.connector], work.actor)
                plans.release(plan, target.connector, {}, covered_only=False, actor=work.actor, lease=work.lease)

    def _unread_targets(self) -> set[str]:
        """Targets that came from a backup: what they hold now is not known before they are read."""
        pairs = self._parts.mesh.unread()
        definition = self._current.definition
        return {
            name
            for name in targets_of(definition)
            for kind in definition.connectors[name].objects
            if (name, kind) in pairs and attributes_read(definition, name, kind)
        }

    def _hold_unread(self, names: Iterable[str]) -> None:
        for name in names:
            reason = f"{name} was restored from a backup and has not been read completely since"
            self.recorded.cut_short.setdefault(name, reason)

    def _import_all(self, work: Work, secrets: RunSecrets) -> None:
        chosen = [one for one in self._current.definition.connectors.values() if self._is_read(one)]
        watched = {name for name, _ in self._rules.watched}
        chosen.sort(key=lambda one: one.name not in watched)  # what is free is known once these are read
        secrets.prepare(self._current.definition.connectors.values())
        self.recorded.notes += secrets.notes()
        for connector in chosen:
            try:
                self._import_connector(work, connector, secrets)
            except (ConnectorError, SecretError, KeyringError, Busy) as error:
                self._not_imported(connector, error)

    def _is_read(self, connector: ConnectorDefinition) -> bool:
        if connector.name in self._must_read:
            return True
        if self._order.connectors and connector.name not in self._order.connectors:
            return False
        if not self._order.delta:
            return True
        return any(name == connector.name for name, _ in (*self._rules.joins, *self._rules.flows))

    def _not_imported(self, connector: ConnectorDefinition, error: MeshError) -> None:
        """Nothing was read: nothing is known to have changed. A target whose state is unknown gets nothing, though."""
        mode = "delta" if self._order.delta else "full"
        for object_class in connector.objects:
            self.recorded.imports.append(
                ImportReport(
                    connector.name, object_class, mode, error_code=error.code, error=str(error), hint=error.hint or ""
                )
            )
        self.recorded.issues.append(Issue(connector.name, "", error.code, str(error)))
        if connector.name in targets_of(self._current.definition):
            self.recorded.cut_short[connector.name] = f"{connector.name} could not be read: {error}"

    def _import_connector(self, work: Work, connector: ConnectorDefinition, secrets: RunSecrets) -> None:
        is_target = connector.name in targets_of(self._current.definition)
        with ExitStack() as stack:
            if is_target:  # a read that overlaps an export would believe what is no longer so
                stack.enter_context(self._lease(f"export:{connector.name}"))
            facade = stack.enter_context(secrets.open(connector))
            for object_class in connector.objects:
                names = attributes_read(self._current.definition, connector.name, object_class)
                if not names:
                    continue
                delta = self._order.delta and connector.name not in self._must_read
                done = import_objects(work, facade, connector, object_class, names, delta=delta)
                self._imported(connector, done, is_target=is_target)

    def _imported(self, connector: ConnectorDefinition, done: Imported, *, is_target: bool) -> None:
        self.recorded.imports.append(done.report)
        self.recorded.people.update(done.people)
        self.recorded.issues += done.issues
        if not done.report.error_code:
            return
        reason = f"the import of {connector.name} ended early: {done.report.error}"
        if done.cut_short and not is_target:
            for target in targets_of(self._current.definition):
                self.recorded.cut_short.setdefault(target, reason)
        elif is_target:
            self.recorded.cut_short[connector.name] = reason

    # -- exports -----------------------------------------------------------------

    def _export_all(self, secrets: RunSecrets) -> None:
        chosen = []
        for name in targets_of(self._current.definition):
            waiting = self._parts.exports.waiting(name, self._rules.frozen)
            if waiting and name not in self.recorded.cut_short:
                chosen.append(self._current.definition.connectors[name])
        if not chosen:
            return
        secrets.prepare(chosen)
        with ThreadPoolExecutor(max_workers=len(chosen), thread_name_prefix="export") as pool:
            exports = [pool.submit(self._export, one, secrets) for one in chosen]
            failed = [error for one in exports if (error := one.exception()) is not None]
        for one in exports:
            if one.exception() is None:
                report, issues = one.result()
                self.recorded.exports.append(report)
                self.recorded.issues += issues
        if failed:
            raise failed[0]

    def _export(self, connector: ConnectorDefinition, secrets: RunSecrets) -> tuple[ExportReport, list[Issue]]:
        names = {
            one: frozenset(attributes_read(self._current.definition, connector.name, one)) for one in connector.objects
        }
        try:
            with self._lease(f"export:{connector.name}") as lease, secrets.open(connector) as facade:
                work = ExportWork(
                    run_id=self.run_id,
                    actor=self._parts.actor,
                    connector=connector.name,
                    rules=self._rules,
                    names=names,
                    exports=self._parts.exports,
                    lease=lease,
                    progress=self._progress,
                    retry_parked=not self._order.delta,
                    passwords=self._parts.passwords,
                )
                return export(work, facade)
        except (ConnectorError, SecretError, KeyringError, Busy, LeaseLost) as error:
            left = self._parts.exports.waiting(connector.name, self._rules.frozen)
            report = ExportReport(
                connector.name, left=left, error_code=error.code, error=str(error), hint=error.hint or ""
            )
            return report, [Issue(connector.name, "", error.code, str(error))]


class RunSecrets:
    """Opens the connectors of one run; their credentials are recorded together, before the first is released."""

    def __init__(self, parts: Parts, run_id: int) -> None:
        self._credentials = RunCredentials(parts.secrets, actor=parts.actor, run=str(run_id))
        self._folder = parts.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._credentials.close()

    def prepare(self, connectors: Iterable[ConnectorDefinition]) -> None:
        """Record the openings of all these in one transaction."""
        self._credentials.prepare([needs(one) for one in connectors if one.secrets])

    def notes(self) -> list[str]:
        """For the report."""
        return self._credentials.notes()

    def open(self, connector: ConnectorDefinition) -> Facade:
        """The connector behind its facade; nothing is connected yet."""
        wants = needs(connector)
        source = self._credentials.source(wants)
        settings = connector.settings.below(self._folder)
        return open_facade(
            connector.name, connector.kind, settings, source, renewed=lambda: self._credentials.renewed(wants)
        )


def needs(connector: ConnectorDefinition) -> ConnectorSecrets:
    """The secret settings of a connector, and where they are sent."""
    return ConnectorSecrets(connector.name, connector.secrets, connector.endpoints)
