"""Secret: a value that nothing shows by accident.

From the edge inwards every credential travels as a :class:`Secret`. Its text
forms are a fixed mark, it cannot be pickled, copied into JSON or iterated, and
:meth:`Secret.reveal` is the one way out. A test lists every line that calls it.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from typing import Final, NoReturn

MASKED: Final = "********"


class Secret:
    """A credential, as bytes. Compare with ``==`` (constant time); read with ``reveal()``."""

    __slots__ = ("__value",)

    def __init__(self, value: bytes | str) -> None:
        self.__value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The bytes. Call it on the line that binds, logs in or seals, and nowhere else."""
        return self.__value

    def reveal_text(self) -> str:
        """The value as UTF-8 text.

        Raises:
            ValueError: the value is not UTF-8; the message carries no part of it.
        """
        with suppress(UnicodeDecodeError):
            return self.__value.decode()
        # Raised here and not while handling the other error, which holds the bytes and would travel as the context.
        raise ValueError("the secret is not UTF-8 text")

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]  # a hashed secret would end up as a key in some table

    def __repr__(self) -> str:
        return f"Secret({MASKED})"

    def __str__(self) -> str:
        return MASKED

    def __format__(self, spec: str) -> str:
        return format(MASKED, spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; pass it on as it is")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to hand out; call reveal() where the value is used")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self
