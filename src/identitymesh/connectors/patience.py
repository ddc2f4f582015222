"""How long the facade waits, and which calls it makes again.

Exponential back-off with full jitter: the n-th repeat waits a random time of up to
``FIRST_PAUSE * 2**n`` seconds, at most ``LONGEST_PAUSE``, so that the calls of many
connectors do not meet again. A server that asks for a pause (``Throttled``) gets it, up
to ``THROTTLED_BUDGET`` seconds for one call, and such pauses do not use up repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from identitymesh.errors import ConnectorError, Throttled

FIRST_PAUSE: Final = 0.5  # seconds
LONGEST_PAUSE: Final = 20.0
LEAST_PAUSE: Final = 0.05
THROTTLED_BUDGET: Final = 60.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """``retries`` is the number of repeats after the first try; ``chance`` gives numbers from 0 to 1."""

    retries: int
    sleep: Callable[[float], None]
    chance: Callable[[], float]

    def call(self, action: Callable[[], Result], repeat_after: tuple[type[ConnectorError], ...]) -> Result:
        """Do it until it succeeds, fails in another way than ``repeat_after``, or patience ends.

        An error of these types is repeated only if it is marked retryable.

        Raises:
            ConnectorError: the error of the last try.
        """
        repeats = 0
        pauses = 0
        throttled = 0.0
        while True:
            try:
                return action()
            except repeat_after as error:
                if not error.retryable:
                    raise
                pause = self._pause(pauses)
                if isinstance(error, Throttled):
                    pause = max(pause, error.retry_after)
                    throttled += pause
                    if throttled > THROTTLED_BUDGET:
                        raise
                else:
                    repeats += 1
                    if repeats > self.retries:
                        raise
            pauses += 1
            self.sleep(pause)

    def _pause(self, pauses: int) -> float:
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(pauses, 10))
        return max(LEAST_PAUSE, ceiling * self.chance())
