"""The guarded change: read before, compare, change with the guard of the system; and what is known after it failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from identitymesh.connectors.contract import Entry
from identitymesh.connectors.outcomes import ANSWERED, NOT_SENT, Verdict, WriteOutcome
from identitymesh.errors import ConnectionLost, ObjectChanged, ObjectMissing
from identitymesh.model.attributes import Attributes, Value, same

_ROUNDS: Final = 3  # how often it looks again when the object changed between its read and its change

Repeat = Callable[[Callable[[], WriteOutcome]], WriteOutcome]


@dataclass(frozen=True, slots=True)
class GuardedChange:
    """One change of one object, safe to repeat because it begins with a read.

    Compared are the attributes ``names``: with ``expected``, the known image, and with ``desired``, which is ``None``
    where the object shall go.
    """

    doing: str
    read: Callable[[], Entry | None]
    names: Sequence[str]
    expected: Attributes
    desired: Attributes | None
    attempt: Callable[[Entry], Entry | None]

    def repeated(self, repeat: Repeat) -> WriteOutcome:
        """Carry it out; ``repeat`` makes a call again after what may pass.

        An answer that was lost stays lost if no later try got as far as to see what had become of the change; and what
        is neither as known nor as desired then may be what the change became, half of it or in another spelling.

        Raises:
            ConnectionLost, TimedOut: it may have been carried out.
        """
        lost = False

        def attempt(current: Entry) -> Entry | None:
            nonlocal lost
            try:
                return self.attempt(current)
            except (*NOT_SENT, ObjectChanged, ObjectMissing):
                raise
            except ANSWERED:
                lost = False  # it was looked at just before, and was as known
                raise
            except Exception:
                lost = True
                raise

        try:
            outcome = repeat(lambda: self._once(attempt))
        except (*NOT_SENT, *ANSWERED) as error:
            if not lost:
                raise
            raise ConnectionLost(f"no answer while {self.doing}, and then: {error}", hint=error.hint) from error
        return replace(outcome, unsure=lost and outcome.verdict is Verdict.STALE)

    def _once(self, attempt: Callable[[Entry], Entry | None]) -> WriteOutcome:
        for _ in range(_ROUNDS):
            current = self.read()
            if current is None:
                return WriteOutcome(Verdict.MISSING)
            if self.desired is not None and self._alike(current.attributes, self.desired):
                return WriteOutcome(Verdict.DONE, current)
            if not self._alike(current.attributes, self.expected):
                return WriteOutcome(Verdict.STALE, current)
            try:
                return WriteOutcome(Verdict.WRITTEN, attempt(current))
            except ObjectMissing:
                return WriteOutcome(Verdict.MISSING)
            except ObjectChanged:
                continue  # perhaps in attributes that are none of ours: look again
        current = self.read()
        return WriteOutcome(Verdict.MISSING) if current is None else WriteOutcome(Verdict.STALE, current)

    def _alike(self, left: Mapping[str, Value], right: Mapping[str, Value]) -> bool:
        return all(same(left.get(name), right.get(name)) for name in self.names)
