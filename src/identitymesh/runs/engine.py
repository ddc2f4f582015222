"""The engine as commands, schedules and (later) the API use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from identitymesh.connectors.contract import TestReport
from identitymesh.connectors.facade import open_facade
from identitymesh.definition.compiling import compile_rules
from identitymesh.definition.reading import ConnectorDefinition, schema
from identitymesh.errors import DefinitionOutdated, NotFound, UsageError
from identitymesh.runs.contract import UNDECIDED, PeopleStore, PlannedRow
from identitymesh.runs.cycle import Cycle, Order, Parts, needs
from identitymesh.runs.definitions import Current, Definitions
from identitymesh.runs.explaining import explain
from identitymesh.runs.masking import Restricted, changes_of, mask, restricted_targets
from identitymesh.runs.preview import Scratch, preview
from identitymesh.runs.recording import report
from identitymesh.runs.reports import (
    ApplyReport,
    Decision,
    Explanation,
    Progress,
    RowView,
    RunReport,
    Unmatched,
    UnmatchedAccount,
    Walk,
)
from identitymesh.runs.review_desk import Choice, Review, ReviewDesk
from identitymesh.runs.walking import walk
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.resolver import connector_credentials

MANY = 1_000
WHY = {"ambiguous": "several people: identitymesh review list"}


class Engine:
    """Definitions, plans, runs and people of one installation. ``rest``: called after each run."""

    def __init__(
        self,
        parts: Parts,
        definitions: Definitions,
        people: PeopleStore,
        scratch: Scratch,
        rest: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._definitions = definitions
        self._people = people
        self._scratch = scratch
        self._rest = rest
        self._desk = ReviewDesk(parts.reviews, people, parts.actor)

    # -- definitions -------------------------------------------------------------

    def apply(
        self, text: str, *, source: str, base: int | None, replace: bool, release: bool, allow_audience: Collection[str]
    ) -> ApplyReport:
        """See :meth:`identitymesh.runs.definitions.Definitions.apply`."""
        allowed: list[SecretReference] = [parse(ref) for ref in allow_audience]
        return self._definitions.apply(
            text, source=source, base=base, replace=replace, release=release, allow_audience=allowed
        )

    def definition(self) -> tuple[int, str] | None:
        """Version and text of the definition in force."""
        stored = self._definitions.stored()
        return (stored.version, stored.text) if stored else None

    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of a definition file."""
        return schema(self._parts.kinds)

    def connectors(self) -> Sequence[ConnectorDefinition]:
        """Those of the definition in force, in its order; none before the first one."""
        if self._definitions.stored() is None:
            return []
        return list(self._definitions.current().definition.connectors.values())

    def test_connector(self, name: str) -> TestReport:
        """Reach it, log in, see its objects. Raises the ``ConnectorError`` family, or why its secret is not opened."""
        connectors = self._definitions.current().definition.connectors
        if name not in connectors:
            raise UsageError(f"no connector {name}", hint=f"There are: {', '.join(connectors)}.")
        connector = connectors[name]
        wants = needs(connector)
        source = connector_credentials(
            self._parts.secrets, name, wants.fields, wants.endpoints, actor=self._parts.actor
        )
        settings = connector.settings.below(self._parts.folder)
        with open_facade(name, connector.kind, settings, source) as facade:
            return facade.test()

    # -- runs --------------------------------------------------------------------

    def plan(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport:
        """Import, update the mesh, and say what each target would get; writes to none."""
        return self._execute(Order("plan", delta, connectors, accept_clock=accept_clock), progress)

    def run(
        self, *, delta: bool, connectors: Sequence[str], progress: Progress, accept_clock: bool = False
    ) -> RunReport:
        """The same, and export what may go."""
        return self._execute(Order("run", delta, connectors, accept_clock=accept_clock), progress)

    def scheduled(self, connector: str, *, delta: bool, due: str, progress: Progress) -> RunReport:
        """What a schedule asks for: this connector, released to every target. ``due`` names the moment.

        Raises:
            DueDone: that moment was carried out already, or is going on.
        """
        return self._execute(Order("run", delta, [connector], due=due), progress)

    def release(self, plan: int, *, progress: Progress) -> RunReport:
        """Export exactly that plan; naming it is approving it.

        Raises:
            NotFound: no such plan.
            UsageError: its import was cut short, it was dropped, or the rules have changed since.
        """
        self._decidable(plan, ())
        return self._execute(Order("release", plan=plan), progress)

    def _execute(self, order: Order, progress: Progress) -> RunReport:
        try:
            return self.show(self._carry_out(order, progress))
        finally:
            self._rest()

    def _carry_out(self, order: Order, progress: Progress) -> int:
        """By the definition in force when the mesh is free: what is applied while the run waits for it counts."""
        while True:
            current = self._definitions.current()
            if order.plan is not None:
                self._assert_by_the_rules_of(current, order.plan)
            try:
                return Cycle(self._parts, current, order, progress).execute()
            except DefinitionOutdated:
                continue

    def _assert_by_the_rules_of(self, current: Current, plan: int) -> None:
        ruleset = current.stored.ruleset
        if (self._parts.plans.definition_version(plan) or 0) < ruleset:
            raise UsageError(
                f"plan {plan} was made before the rules changed (definition version {ruleset})",
                hint="Make a new one with `identitymesh plan`; it decides by the rules in force.",
            )

    def preview(self, text: str, *, source: str, progress: Progress) -> tuple[RunReport, Sequence[RowView]]:
        """What a definition would do with what is stored; changes nothing."""
        told, rows = preview(self._parts, self._definitions, self._scratch, text, source=source, progress=progress)
        hidden = restricted_targets(self._definitions.read(text, source))
        return told, [row_view(one, hidden) for one in rows]

    def runs(self, limit: int, *, state: str | None = None, connector: str | None = None) -> Sequence[RunReport]:
        """The latest runs, newest first, without their issues; those that ended so, or concern that connector."""
        parts = self._parts
        found = parts.runs.latest(limit, state=state, connector=connector)
        return [report(one, parts.runs, parts.plans, issues=0) for one in found]

    def show(self, run_id: int) -> RunReport:
        """One run. Raises ``NotFound``."""
        stored = self._parts.runs.get(run_id)
        if stored is None:
            raise NotFound(f"there is no run {run_id}", hint="See `identitymesh runs list`.")
        return report(stored, self._parts.runs, self._parts.plans)

    def rows(self, run_id: int, *, limit: int, person: str | None, restricted: bool = False) -> Sequence[RowView]:
        """Rows of a plan, of all people or of one (by anchor); values of restricted attributes only on request."""
        plans, definition = self._parts.plans, self._definitions.current().definition
        rows = plans.rows(run_id, limit=limit, anchor=person)
        hidden = {} if restricted else restricted_targets(definition)
        skipped = plans.skipped(definition.shape.frozen, limit=limit, anchor=person)
        return [*(row_view(one, hidden) for one in rows), *(_frozen(row_view(one, hidden)) for one in skipped)][:limit]

    def walk(self, run_id: int, person: str) -> Walk:
        """One person's whole walk through a plan that was just made: objects, joins, values, accounts, decisions."""
        try:
            explanation = self.explain(person)
        except NotFound:
            explanation = None
        rows = self._parts.plans.rows(run_id, limit=MANY, anchor=explanation.anchor if explanation else person)
        return walk(person, explanation, self._people.alone(person), rows, self.show(run_id).targets)

    # -- decisions ---------------------------------------------------------------

    def approve(self, run_id: int, *, connectors: Sequence[str]) -> Decision:
        """Approve a held plan and the absences that were held by then; the next run carries them out.

        ``connectors`` may name targets of the plan, and sources whose absences are held.
        """
        sources = self._sources(run_id, connectors)
        chosen = [name for name in connectors if name not in sources]
        names = self._decidable(run_id, chosen) if chosen or not connectors else []
        rows, superseded = self._parts.plans.approve(run_id, names, self._parts.actor) if names else (0, 0)
        absences = self._parts.plans.approve_absences(run_id, connectors, self._parts.actor)
        return Decision(run_id, names, rows, superseded, absences)

    def _sources(self, run_id: int, connectors: Sequence[str]) -> list[str]:
        """Those of these connectors that are no targets of the plan, but were read by its run."""
        targets = {one.connector for one in self._parts.plans.targets(run_id)}
        stored = self._parts.runs.get(run_id)
        told = report(stored, self._parts.runs, self._parts.plans, issues=0).imports if stored else ()
        read = {one.connector for one in told}
        return [name for name in connectors if name not in targets and name in read]

    def drop(self, run_id: int, *, connectors: Sequence[str]) -> Decision:
        """Refuse a plan: what of it was approved or let out and not sent is withdrawn."""
        names = self._decidable(run_id, connectors)
        return Decision(run_id, names, self._parts.plans.drop(run_id, names, self._parts.actor), 0)

    def _decidable(self, run_id: int, connectors: Sequence[str]) -> list[str]:
        if self._parts.plans.definition_version(run_id) is None:
            raise NotFound(f"run {run_id} made no plan", hint="See `identitymesh runs list`.")
        targets = {one.connector: one for one in self._parts.plans.targets(run_id)}
        for name in connectors:
            if name not in targets:
                raise UsageError(f"plan {run_id} has no target {name}", hint=f"It has: {', '.join(targets) or 'none'}.")
        chosen = [targets[name] for name in connectors] if connectors else list(targets.values())
        for one in chosen:
            if one.state == "incomplete":
                raise UsageError(
                    f"plan {run_id}, {one.connector}: {'; '.join(one.reasons)}; such a plan is never released",
                    hint="Run again when the source can be read to its end.",
                )
            if one.state == "dropped" and connectors:
                raise UsageError(f"plan {run_id} was dropped for {one.connector} by {one.decided_by}")
        return [one.connector for one in chosen if one.state in UNDECIDED]

    # -- people ------------------------------------------------------------------

    def explain(self, subject: str) -> Explanation:
        """Where every value of a person comes from, since when, by which rule, and what lost against it."""
        current = self._definitions.current()
        rules = compile_rules(current.definition, current.stored.ruleset, self._parts.clock())
        found = explain(self._people, rules, subject)
        hidden = restricted_targets(current.definition)
        accounts = [
            replace(one, differences=mask(one.differences, hidden.get((one.connector, one.object), ())))
            for one in found.accounts
        ]
        return replace(found, accounts=accounts)

    def unmatched(self, *, connectors: Sequence[str], limit: int) -> Unmatched:
        """Accounts of targets that belong to nobody. Raises ``UsageError`` for what is no target."""
        rules = self._definitions.current().definition.shape.rules.project
        targets = {rule.connector for rule in rules}
        for name in connectors:
            if name not in targets:
                raise UsageError(f"{name} is no target", hint=f"Targets: {', '.join(sorted(targets)) or 'none'}.")
        places = {(rule.connector, rule.object) for rule in rules if not connectors or rule.connector in connectors}
        total, found = self._people.unmatched(places, limit)
        return Unmatched(
            total,
            [UnmatchedAccount(*one.id, one.correlate, WHY.get(one.state, "no rule finds anybody")) for one in found],
        )

    # -- reviews -----------------------------------------------------------------

    def reviews(self, *, decided: bool) -> Sequence[Review]:
        """See :class:`identitymesh.runs.review_desk.ReviewDesk`, here and below."""
        return self._desk.list(self._definitions.current().definition, decided=decided)

    def review(self, number: int) -> Review:
        return self._desk.show(number, self._definitions.current().definition)

    def decide(self, number: int, choice: Choice, *, person: str | None = None) -> Review:
        return self._desk.decide(number, choice, person, self._definitions.current().definition)

    def undo_review(self, number: int) -> Review:
        return self._desk.undo(number, self._definitions.current().definition)


def _frozen(row: RowView) -> RowView:
    return replace(row, note="frozen: skipped")


def row_view(row: PlannedRow, hidden: Restricted) -> RowView:
    """A planned row for people: what would change, if the account still is what the plan was made from."""
    account = row.account
    note = ""
    if account is None or account.row_digest != row.row_digest:
        return RowView(row.connector, row.object, row.identity_id, row.anchor, row.kind, (), "superseded or done")  # type: ignore[arg-type]
    if account.status == "parked":
        note = f"parked: {account.error}"
    elif account.released == row.row_digest:
        note = "released"
    elif account.approved == row.row_digest:
        note = "approved"
    return RowView(
        row.connector,
        row.object,
        row.identity_id,
        row.anchor,
        row.kind,  # type: ignore[arg-type]  # stored by this package alone
        mask(changes_of(account), hidden.get((row.connector, row.object), ())),
        note,
    )
