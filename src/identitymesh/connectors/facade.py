"""The only caller of connectors: what every kind needs, once.

A :class:`Facade` puts around one open connector

* the checks of what it yields (:mod:`identitymesh.connectors.checking`);
* repeats of the calls that are safe to repeat, and pauses that a server asks for
  (:mod:`identitymesh.connectors.patience`);
* one family of errors: whatever is not a ``ConnectorError``, ``SecretError`` or
  ``KeyringError`` becomes one, with the foreign exception as its cause and only the
  name of its type in the message (its text may hold values);
* the guarded write: read before, compare, write with the guard of the system.

Time limits are the drivers' own; each kind passes its setting ``timeout`` on. The
facade measures, so that a foreign error after that time is called ``TimedOut``; a call
that succeeded late has succeeded.
"""

# The protocols of the contract are asked for at run time, as values; that is what they are runtime_checkable for.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from identitymesh.connectors.checking import check, entry_fault
from identitymesh.connectors.contract import (
    AttributeInfo,
    ChangePasswordOp,
    Connector,
    CreateManyOp,
    CreateOp,
    CredentialSource,
    DeleteOp,
    Entry,
    GetOp,
    Kind,
    LookupOp,
    Modification,
    Page,
    SchemaOp,
    SearchOp,
    SyncOp,
    TestOp,
    TestReport,
    UpdateOp,
)
from identitymesh.connectors.creating import create_many
from identitymesh.connectors.guarding import GuardedChange
from identitymesh.connectors.outcomes import NOT_CARRIED_OUT, Verdict, WriteOutcome, after_a_change
from identitymesh.connectors.patience import Patience
from identitymesh.errors import (
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    KeyringError,
    MeshError,
    ObjectRefused,
    SecretError,
    TimedOut,
)
from identitymesh.model.attributes import Attributes, Value
from identitymesh.redaction import Secret

_ANY: Final = (ConnectorError,)
_RENEWALS: Final = 10  # rotations that may overtake one login; each try sends a version that was never sent before
_CANNOT: Final[dict[type, str]] = {
    TestOp: "be tested",
    SchemaOp: "say which attributes there are",
    SearchOp: "be read completely",
    SyncOp: "be read for changes only",
    GetOp: "read one object",
    LookupOp: "look objects up",
    CreateOp: "create objects",
    UpdateOp: "update objects",
    DeleteOp: "delete objects",
    ChangePasswordOp: "change its password",
}

Operation = TypeVar("Operation")
Result = TypeVar("Result")


def open_facade(  # noqa: PLR0913  clock, pause and repeats are replaced in tests
    name: str,
    kind: Kind,
    settings: Any,
    credentials: CredentialSource,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    retries: int = 3,
    renewed: Callable[[], bool] = lambda: False,
) -> Facade:
    """The facade of a connector of this kind. ``settings`` is a value of ``kind.settings``.

    ``renewed`` says whether the source would answer another credential than the one that was refused.
    """
    try:
        connector = kind.open(settings, credentials)
    except ConnectorError as error:
        error.connector = error.connector or name
        raise
    return Facade(
        name,
        connector,
        kind=kind.name,
        timeout=settings.timeout,
        sleep=sleep,
        clock=clock,
        retries=retries,
        renewed=renewed,
    )


class Facade:
    """One open connector. Not for several threads at once; close it, or use it in a ``with``.

    ``timeout``, ``sleep`` and ``clock`` are in seconds, ``clock`` is monotonic; ``retries``
    is the number of repeats after a first try; ``chance`` gives numbers from 0 to 1.

    Every method may raise the ``ConnectorError`` family with ``connector`` filled in,
    ``SecretError`` and ``KeyringError``; nothing else.
    """

    def __init__(  # noqa: PLR0913  clock, pause, repeats and chance are replaced in tests
        self,
        name: str,
        connector: Connector,
        *,
        timeout: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        retries: int = 3,
        kind: str = "",
        chance: Callable[[], float] = random.random,
        renewed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self._title = f"connector {name} ({kind})" if kind else f"connector {name}"
        self._connector = connector
        self._able: dict[type, Any] = {}  # asking whether an object has a protocol takes longer than many a call
        self._timeout = timeout
        self._clock = clock
        self._renewed = renewed
        self._patience = Patience(retries, sleep, chance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection. Never raises, may be called twice."""
        with contextlib.suppress(Exception):  # contract: close never raises; a connector that breaks it changes nothing
            self._connector.close()

    def offers(self, operation: type) -> bool:
        """Whether the connector can do this: one of the protocols of :mod:`identitymesh.connectors.contract`."""
        return isinstance(self._connector, operation)

    def test(self) -> TestReport:
        """Reach the system, log in and see the objects."""
        operation = self._need(TestOp)
        return self._repeat("being tested", operation.test)

    def change_password(self, name: str, new: Secret) -> None:
        """Give its login a new password at the system. Not repeated: after a lost answer either may be valid."""
        operation = self._need(ChangePasswordOp)
        self._once("changing its password", lambda: operation.change_password(name, new))

    def schema(self, object_class: str) -> Sequence[AttributeInfo]:
        """The attributes that objects there can have; empty means "any"."""
        operation = self._need(SchemaOp)
        return self._repeat("reading the schema", lambda: operation.schema(object_class))

    def read(self, object_class: str, names: Sequence[str]) -> Iterator[Page]:
        """Everything. The last page has either ``complete``, the proof, or ``incomplete``, why there is none.

        Opening the read is repeated like any safe call; once the first page is out, an error ends the read.
        """
        operation = self._need(SearchOp)
        return self._complete(lambda: operation.search(object_class, names))

    def read_since(self, object_class: str, names: Sequence[str], watermark: str | None) -> Iterator[Page]:
        """What changed at or after the watermark; ``None`` reads from the start. Proves nothing about absence."""
        operation = self._need(SyncOp)
        return self._changes(lambda: operation.sync(object_class, names, watermark))

    def get(self, object_class: str, key: str, names: Sequence[str] = ()) -> Entry | None:
        """One object by its key, ``None`` if there is none. No ``names``: all its attributes."""
        operation = self._need(GetOp)
        entry = self._repeat("reading an object", lambda: operation.get(object_class, key, names))
        return None if entry is None else self._sound(entry)

    def lookup(self, object_class: str, attribute: str, value: Value, names: Sequence[str] = ()) -> Sequence[Entry]:
        """The objects with this value in this attribute."""
        operation = self._need(LookupOp)
        found = self._repeat("looking objects up", lambda: operation.lookup(object_class, attribute, value, names))
        return [self._sound(entry) for entry in found]

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        """Create an object. Repeated only after errors which prove that nothing was created.

        Raises:
            ConnectionLost, TimedOut: it may have been created; look it up by ``correlate``.
            ObjectExists, ObjectRefused: it was not.
        """
        operation = self._need(CreateOp)
        created = self._repeat(
            "creating an object", lambda: operation.create(object_class, attributes), NOT_CARRIED_OUT
        )
        return self._made(created)

    def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | MeshError]:
        """What :meth:`create` answers or raises for each, in their order; several may be under way at once.

        ``wanted`` is asked for the next as soon as it can be sent, and whatever it gave has an outcome. Never raises.
        """
        several = self._connector if isinstance(self._connector, CreateManyOp) else None
        return create_many(
            wanted,
            alone=lambda attributes: self.create(object_class, attributes),
            together=None if several is None else lambda following: several.create_many(object_class, following),
            take=self._next_answer,
            sound=self._made,
        )

    def write(
        self, object_class: str, key: str, change: Modification, *, expected: Attributes, desired: Attributes
    ) -> WriteOutcome:
        """The guarded update: write only if the object still is as known, or say what it is instead.

        Compared are the attributes named in ``expected`` (the known image), ``desired`` and
        ``change.clear``, and no others. The whole of it is safe to repeat, because it begins with a read.

        Raises:
            ConnectionLost, TimedOut: it may have been carried out.
        """
        reader, writer = self._need(GetOp), self._need(UpdateOp)
        names = list(dict.fromkeys([*expected, *desired, *change.clear]))
        unset = set(change.clear)
        wanted = {name: value for name, value in desired.items() if name not in unset}

        def read() -> Entry | None:
            return reader.get(object_class, key, list(dict.fromkeys([*names, *change.put])))

        def update(current: Entry) -> Entry | None:
            return writer.update(object_class, current, change)

        return self._changed(GuardedChange("updating an object", read, names, expected, wanted, update))

    def remove(self, object_class: str, key: str, *, expected: Attributes) -> WriteOutcome:
        """The guarded delete: ``DONE`` if it is gone already, ``STALE`` if it is not as known. Raises as ``write``."""
        reader, remover = self._need(GetOp), self._need(DeleteOp)
        names = list(expected)

        def read() -> Entry | None:
            return reader.get(object_class, key, names)

        def delete(current: Entry) -> None:
            remover.delete(object_class, current)

        outcome = self._changed(GuardedChange("deleting an object", read, names, expected, None, delete))
        return WriteOutcome(Verdict.DONE) if outcome.verdict is Verdict.MISSING else outcome

    def _changed(self, change: GuardedChange) -> WriteOutcome:
        try:
            outcome = change.repeated(lambda action: self._repeat(change.doing, action))
        except ConnectorError as error:
            error.connector = error.connector or self.name
            raise
        if outcome.entry is None:
            return outcome
        if outcome.settled and entry_fault(outcome.entry) is not None:
            return replace(outcome, entry=None)  # it is as wanted all the same
        return replace(outcome, entry=self._sound(outcome.entry))

    def _complete(self, opened: Callable[[], Iterator[Page]]) -> Iterator[Page]:
        count = 0
        seen: set[str] = set()
        for page in self._pages(opened):
            good, bad = check(page.entries, seen, page.where)
            count += len(page.entries) + len(page.bad)
            complete, incomplete = page.complete, page.incomplete
            if complete is not None and complete.count != count:
                incomplete = f"the source counted {complete.count:,} objects, but gave {count:,}"
            if incomplete:
                complete = None
            # What is missing in an incomplete read may be older than its watermark.
            yield Page(good, [*page.bad, *bad], None if incomplete else page.watermark, complete, incomplete)
            if complete is not None or incomplete:
                return
        yield Page(incomplete="the read ended without a proof that it was complete")

    def _changes(self, opened: Callable[[], Iterator[Page]]) -> Iterator[Page]:
        seen: set[str] = set()
        for page in self._pages(opened):
            good, bad = check(page.entries, seen, page.where)
            yield Page(good, [*page.bad, *bad], page.watermark)

    def _pages(self, opened: Callable[[], Iterator[Page]]) -> Iterator[Page]:
        def begin() -> tuple[Iterator[Page], Page | None]:
            pages = opened()
            return pages, next(pages, None)

        pages, page = self._repeat("opening a read", begin)
        try:
            while page is not None:
                yield page
                page = self._once("reading", lambda: next(pages, None))
        finally:
            close = getattr(pages, "close", None)  # generators hold a cursor or a connection open
            if close is not None:
                self._once("ending a read", close)

    def _sound(self, entry: Entry) -> Entry:
        fault = entry_fault(entry)
        if fault is None:
            return entry
        raise ObjectRefused(f"{self._title} gave an object that cannot be taken over: {fault}", connector=self.name)

    def _made(self, created: Entry) -> Entry:
        with after_a_change():
            return self._sound(created)

    def _next_answer(self, answers: Iterator[Entry | ConnectorError]) -> Entry | ConnectorError | None:
        answer = self._once("creating objects", lambda: next(answers, None))
        if isinstance(answer, ConnectorError):
            answer.connector = answer.connector or self.name
        return answer

    def _need(self, operation: type[Operation]) -> Operation:
        able = self._able.get(operation)
        if able is None:
            able = self._able[operation] = self._connector if isinstance(self._connector, operation) else None
        if able is not None:
            found: Operation = able
            return found
        raise ConnectorMisconfigured(
            f"{self._title} cannot {_CANNOT[operation]}",
            hint="Use a kind of connector that can, or change the rule that asks for it.",
            connector=self.name,
        )

    def _repeat(
        self, doing: str, action: Callable[[], Result], repeat_after: tuple[type[ConnectorError], ...] = _ANY
    ) -> Result:
        return self._patience.call(lambda: self._once(doing, action), repeat_after)

    def _once(self, doing: str, action: Callable[[], Result]) -> Result:
        begun = self._clock()
        try:
            return self._with_renewal(action)
        except ConnectorError as error:
            error.connector = error.connector or self.name
            raise
        except (SecretError, KeyringError):
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) or self._clock() - begun >= self._timeout:
                raise TimedOut(
                    f"{self._title} took longer than {self._timeout:g} s while {doing}", connector=self.name
                ) from error
            raise ConnectorError(
                f"{self._title} failed while {doing}: {type(error).__name__}",
                hint="This is a fault of the connector, not of your data; the log has the details.",
                connector=self.name,
            ) from error

    def _with_renewal(self, action: Callable[[], Result]) -> Result:
        """After a refusal ask for a credential that was rotated in this moment. The same one is never sent twice.

        A login that is overtaken by one rotation after another goes on while each was the newest of its moment.
        """
        for _ in range(_RENEWALS):
            try:
                return action()
            except CredentialRefused:
                if not self._renewed():
                    raise
        return action()
