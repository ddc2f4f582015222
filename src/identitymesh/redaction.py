"""Secret: a value that nothing shows by accident; and what may stand in a log.

From the edge inwards every credential travels as a :class:`Secret`. Its text
forms are a fixed mark, it cannot be pickled, copied into JSON or iterated, and
:meth:`Secret.reveal` is the one way out. A test lists every line that calls it.

Logs are redacted by type, not by searching for what looks like a secret: known
harmless types pass, everything else is named by its type alone.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import date, timedelta
from pathlib import PurePath
from typing import Any, Final, NoReturn
from uuid import UUID

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


_HARMLESS: Final = (str, int, float, bool, type(None), date, timedelta, UUID, PurePath)


def loggable(value: object) -> object:
    """What a log may show of a value: harmless types as they are, containers item by item, others as their type."""
    if isinstance(value, _HARMLESS):
        return value
    if isinstance(value, Secret):
        return MASKED
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Mapping):
        return {str(key): loggable(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [loggable(child) for child in value]
    return f"<{type(value).__name__}>"


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor; put it before those that render. ``exc_info`` is left for them: they show no locals."""
    return {name: value if name == "exc_info" else loggable(value) for name, value in event.items()}


class RedactingFilter(logging.Filter):
    """The same for the standard library's logging, which other libraries use."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: loggable(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(loggable(value) for value in record.args)
        if isinstance(record.msg, dict) and hasattr(record, "_logger"):  # an event of structlog, not yet rendered
            record.msg = redact_event(None, "", record.msg)
        elif not isinstance(record.msg, str):
            record.msg = str(loggable(record.msg))
        return True
