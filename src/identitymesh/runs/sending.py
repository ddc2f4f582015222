"""Sends the changes of one target, in order, and says what came of each."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, takewhile

from identitymesh.audit import Record
from identitymesh.connectors.contract import Entry, LookupOp
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.outcomes import ANSWERED, NOT_SENT, Verdict
from identitymesh.errors import (
    AccountTaken,
    ConnectionLost,
    ConnectorError,
    KeyringError,
    LeaseLost,
    MeshError,
    ObjectError,
    ObjectExists,
    SecretError,
    StorageError,
    TimedOut,
)
from identitymesh.lease import Lease
from identitymesh.model.accounts import Account, attributes_of
from identitymesh.model.attributes import Attributes, digest, image
from identitymesh.model.objects import ObjectId, StoredObject
from identitymesh.pipeline import exporting
from identitymesh.rules.join import key_text
from identitymesh.rules.ruleset import RuleSet
from identitymesh.runs.contract import Attempt, ExportStore, Issue, Result
from identitymesh.runs.initial import Creates
from identitymesh.runs.people import FoundDone, found_event, sent_event
from identitymesh.runs.reports import Progress
from identitymesh.secrets.initial import InitialPasswords

LOST_IN_A_ROW = 3
SOMEBODY_ELSES = "the target answers with an account that belongs to somebody else here"
CHANGED = "the account is not what the plan was made from; it was left alone and is planned anew"
HALF_DONE = "the answer to a change was lost, and the account is not quite as it should be; it is planned anew"
TAKEN = "the account with this person's correlate value belongs to somebody else here; it was not touched"


@dataclass(frozen=True, slots=True)
class ExportWork:
    """What the export of one target needs."""

    run_id: int
    actor: str
    connector: str
    rules: RuleSet
    names: dict[str, frozenset[str]]  # for each object class, the attributes that are kept of objects
    exports: ExportStore
    lease: Lease
    progress: Progress
    retry_parked: bool
    passwords: InitialPasswords


@dataclass(slots=True)
class Exported:
    done: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    parked: int = 0
    issues: list[Issue] = field(default_factory=list)
    stopped_by: MeshError | None = None

    def stop(self, error: MeshError, connector: str) -> None:
        if self.stopped_by is None:
            self.stopped_by = error
            self.issues.append(Issue(connector, "", error.code, str(error)))


class Sender:
    """Sends attempts in order and says what came of each. ``go_on`` is asked before each, and may end it."""

    def __init__(self, work: ExportWork, facade: Facade, total: Exported, go_on: Callable[[], bool]) -> None:
        self._work = work
        self._facade = facade
        self._total = total
        self._go_on = go_on
        self._lost = 0
        self._last_loss: ConnectorError | None = None
        self._creates = Creates(work.passwords, work.lease, work.run_id)
        self._linked: dict[tuple[str, str], int] = {}  # (object class, key): whose account it became just now
        self._made: dict[tuple[str, str], Attempt] = {}  # those of them in this chunk that may be somebody's already
        self._results: dict[tuple[int, str, str], Result] = {}  # of this chunk
        self._sent_event = partial(sent_event, actor=work.actor, run_id=work.run_id)
        self._found_event = partial(found_event, actor=work.actor, run_id=work.run_id, by="export")
        self._managed = {rule.name: rule.managed for several in work.rules.projections.values() for rule in several}

    def chunk(self, attempts: Sequence[Attempt]) -> tuple[list[Result], list[Attempt]]:
        """What came of each, and those that were not tried."""
        self._results.clear()
        try:
            self._creates.prepare(attempts)
        except (SecretError, KeyringError, StorageError, LeaseLost) as error:
            self._stop(error)
            return [], list(attempts)
        for object_class, several in groupby(attempts, _made_anew):
            if object_class is not None:
                self._create_all(object_class, list(several))
                continue
            for attempt in takewhile(lambda _: not self._ended, several):
                self._settle(attempt, partial(self._one, attempt))
        if not self._go_on():  # nothing can be recorded
            return [], []
        self._refuse_taken(self._results)
        untried = [one for one in attempts if one.account.place not in self._results]
        self._creates.drop(untried)
        if self._creates.not_dropped is not None:
            self._stop(self._creates.not_dropped)
        return list(self._results.values()), untried

    @property
    def _ended(self) -> bool:
        return self._total.stopped_by is not None or not self._go_on()

    def _create_all(self, object_class: str, attempts: Sequence[Attempt]) -> None:
        """Several may be under way at once: after the end was decided, answers to those still come in."""
        under_way: deque[Attempt] = deque()

        def wanted() -> Iterator[Attributes]:
            for attempt in takewhile(lambda _: not self._ended, attempts):
                try:
                    self._work.lease.assert_live()
                    attributes = self._creates.attributes(attempt)
                except (SecretError, KeyringError, StorageError, LeaseLost) as error:
                    self._stop(error)
                    return
                under_way.append(attempt)
                yield attributes

        for outcome in self._facade.create_many(object_class, wanted()):
            attempt = under_way.popleft()
            self._settle(attempt, partial(self._created, attempt, partial(self._creates.answered, attempt, outcome)))

    def _settle(self, attempt: Attempt, action: Callable[[], Result]) -> None:
        place = attempt.account.place
        try:
            self._results[place] = action()
            self._lost = 0
        except (*NOT_SENT, StorageError, LeaseLost) as error:  # the rest waits for the next run
            self._stop(error)
        except ANSWERED as error:
            self._results[place] = self._refused(attempt, error)
            self._lost = 0
        except ConnectorError as error:
            self._results[place] = self._without_answer(attempt, error)

    def _refuse_taken(self, results: dict[tuple[int, str, str], Result]) -> None:
        """Creates that were answered with an account which is somebody else's here already: asked for all at once."""
        owners = self._work.exports.owners(self._work.connector, list(self._made)) if self._made else {}
        for place, owner in owners.items():
            attempt = self._made[place]
            if owner != attempt.account.identity_id:
                self._linked[place] = owner
                self._total.done["create"] -= 1
                self._creates.forget([attempt])
                results[attempt.account.place] = self._refused(
                    attempt, AccountTaken(SOMEBODY_ELSES, connector=self._work.connector)
                )
        self._made.clear()

    def _stop(self, error: MeshError) -> None:
        self._total.stop(error, self._work.connector)

    def _without_answer(self, attempt: Attempt, error: ConnectorError) -> Result:
        """Nobody knows whether it was done; three in a row, and the target is left alone until the next run.

        Where a connection broke, all that was under way on it has the same error, and is one loss.
        """
        account = attempt.account
        self._lost += error is not self._last_loss
        self._last_loss = error
        if self._lost >= LOST_IN_A_ROW:
            self._stop(error)
        self._issue(attempt, error.code, str(error))
        return self._result(attempt, lambda row: exporting.failed(row, account, error.code, str(error)), error=error)

    def _one(self, attempt: Attempt) -> Result:
        self._work.lease.assert_live()
        if attempt.account.kind == "create":
            return self._create(attempt)
        return self._delete(attempt) if attempt.account.kind == "delete" else self._change(attempt)

    def _refused(self, attempt: Attempt, error: ConnectorError) -> Result:
        self._total.parked += 1
        self._issue(attempt, error.code, str(error))
        account, code, reason = attempt.account, error.code, str(error)
        return self._result(attempt, lambda row: exporting.refused(row, account, code, reason), error=error)

    # -- the three things that can be done ---------------------------------------

    def _create(self, attempt: Attempt) -> Result:
        """A create that was tried before."""
        account = attempt.account
        if (existing := self._lookup(account)) is not None:
            if account.status == "sending":
                return self._complete(attempt, existing)
            self._creates.forget([attempt])
            return self._stale(attempt, existing)
        self._work.lease.assert_live()  # no guard at the target: whoever took over may have made it
        return self._created(attempt, partial(self._creates.create, self._facade, attempt))

    def _created(self, attempt: Attempt, made: Callable[[], Entry]) -> Result:
        account = attempt.account
        try:
            entry = made()
        except ObjectExists as exists:
            try:
                existing = self._lookup(account)
            except (ConnectionLost, TimedOut) as error:
                raise exists from error  # it is known what became of the create, whoever has made the account
            if existing is None:
                raise
            return self._stale(attempt, existing)  # somebody made it meanwhile: looked at before it is changed
        place = (account.object, entry.key)
        try:
            self._claim(account, place, self._linked.get(place), SOMEBODY_ELSES)
        except AccountTaken:
            self._creates.forget([attempt])
            raise
        self._made[place] = attempt
        return self._written(attempt, entry)

    def _claim(self, account: Account, place: tuple[str, str], owner: int | None, otherwise: str) -> None:
        """One account at the target is the account of one person: nobody else's is linked, let alone written to.

        Raises:
            AccountTaken: it belongs to somebody else here.
        """
        if owner not in (None, account.identity_id):
            raise AccountTaken(otherwise, connector=account.connector)
        self._linked[place] = account.identity_id

    def _lookup(self, account: Account) -> Entry | None:
        attribute = self._work.rules.correlate_of(account.connector, account.object)
        if attribute is None or account.correlate is None or not self._facade.offers(LookupOp):
            return None
        wanted = attributes_of(account.desired).get(attribute, account.correlate)
        try:
            found = self._facade.lookup(account.object, attribute, wanted)
        except ANSWERED as error:
            if account.status != "sending":
                raise
            raise ConnectionLost(f"whether it was made cannot be seen: {error}", hint=error.hint) from error
        if len(found) > 1:
            raise ObjectExists(
                f"{len(found)} accounts carry {attribute} of this person; none was touched",
                hint="Remove all but one at the target; the next full run takes the one that is left.",
                connector=account.connector,
            )
        if found:
            place = (account.object, found[0].key)
            owner = self._linked.get(place) or self._work.exports.owners(account.connector, [place]).get(place)
            self._claim(account, place, owner, TAKEN)
        return found[0] if found else None

    def _complete(self, attempt: Attempt, entry: Entry) -> Result:
        """A create whose answer was lost: adopt it, and see to it that it holds what was sent."""
        account = attempt.account
        current = {name: value for name, value in entry.attributes.items() if name in self._managed[account.rule]}
        desired, change = attributes_of(account.desired), exporting.whole(account)
        try:
            outcome = self._facade.write(account.object, entry.key, change, expected=current, desired=desired)
        except ANSWERED:
            return self._stale(attempt, entry)  # it was made: what is refused is a change of it, and is planned as one
        if outcome.verdict is Verdict.STALE and outcome.entry is not None:
            return self._stale(attempt, outcome.entry)
        return self._written(attempt, outcome.entry or entry) if outcome.settled else self._missing(attempt)

    def _change(self, attempt: Attempt) -> Result:
        account = attempt.account
        outcome = self._facade.write(
            account.object,
            _key(account),
            exporting.modification(account),
            expected=attributes_of(exporting.expected(account)),
            desired=attributes_of(account.desired),
        )
        if outcome.verdict is Verdict.MISSING:
            return self._missing(attempt)
        if outcome.verdict is Verdict.STALE and outcome.entry is not None:
            return self._stale(attempt, outcome.entry, unsure=outcome.unsure)
        return self._written(attempt, outcome.entry)

    def _delete(self, attempt: Attempt) -> Result:
        account = attempt.account
        held = attributes_of(exporting.expected(account))
        outcome = self._facade.remove(account.object, _key(account), expected=held)
        if outcome.verdict is Verdict.STALE and outcome.entry is not None:
            return self._stale(attempt, outcome.entry)
        self._total.done["delete"] += 1
        return self._result(attempt, exporting.gone, removed=ObjectId(account.connector, account.object, _key(account)))

    # -- what came of it ---------------------------------------------------------

    def _written(self, attempt: Attempt, entry: Entry | None) -> Result:
        account = attempt.account
        managed = self._managed[account.rule]
        self._total.done[str(account.kind)] += 1
        return self._result(attempt, lambda row: exporting.written(row, account, entry, managed), entry=entry)

    def _stale(self, attempt: Attempt, entry: Entry, *, unsure: bool = False) -> Result:
        account = attempt.account
        self._total.stale += 1
        change = partial(exporting.found, entry=entry, managed=self._managed[account.rule])
        now = change(account)
        ours = (unsure or exporting.unanswered(account)) and account.kind != "delete" and now.known != account.known
        self._issue(attempt, "object-changed", HALF_DONE if ours else CHANGED)
        event = self._found_event(FoundDone(account, now, attempt.anchor)) if ours else None
        return self._result(attempt, change, entry=entry, outcome="stale", event=event)

    def _missing(self, attempt: Attempt) -> Result:
        self._total.stale += 1
        self._issue(attempt, "object-missing", "the account is gone at the target; it is planned anew")
        account = attempt.account
        removed = ObjectId(account.connector, account.object, account.key or "")
        return self._result(attempt, exporting.gone, removed=removed, outcome="stale")

    def _issue(self, attempt: Attempt, code: str, message: str) -> None:
        subject = attempt.anchor or str(attempt.account.identity_id)
        self._total.issues.append(Issue(self._work.connector, subject, code, message))

    def _result(
        self,
        attempt: Attempt,
        change: Callable[[Account], Account],
        *,
        entry: Entry | None = None,
        removed: ObjectId | None = None,
        outcome: str = "done",
        error: ConnectorError | None = None,
        event: Record | None = None,
    ) -> Result:
        code = error.code if error else None
        event = event or self._sent_event(attempt, "failed" if error else outcome, code)
        stored = self._stored(attempt.account, entry) if entry is not None else None
        return Result(change, attempt.account.place, stored, removed if self._keeps(attempt.account) else None, event)

    def _keeps(self, account: Account) -> bool:
        """Objects of pure targets are kept as written; those of connectors that are read too come by import."""
        place = (account.connector, account.object)
        return place not in self._work.rules.joins and place not in self._work.rules.flows

    def _stored(self, account: Account, entry: Entry) -> StoredObject | None:
        if not self._keeps(account):
            return None
        names: Collection[str] = self._work.names.get(account.object, frozenset())
        attributes = {name: value for name, value in entry.attributes.items() if name in names}
        correlate = self._work.rules.correlate_of(account.connector, account.object)
        return StoredObject(
            ObjectId(account.connector, account.object, entry.key),
            attributes,
            digest(image(attributes)),
            "aside",
            correlate=key_text(attributes.get(correlate)) if correlate else None,
        )


def _made_anew(attempt: Attempt) -> str | None:
    """The object class of a create that was never sent before."""
    return attempt.account.object if attempt.account.kind == "create" and not attempt.recovering else None


def _key(account: Account) -> str:
    """How the target names the account; what is known to be there has a name."""
    if account.key is None:
        raise ObjectError("the account has no key at the target", connector=account.connector)
    return account.key
