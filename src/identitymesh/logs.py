"""Attaches the log: one handler for everything that this process says, redacted before it is written.

The product logs with the standard library (``logging.getLogger("identitymesh.runs")``; what belongs to an event goes
into ``extra``) or with structlog; other libraries with the former. All of it passes one handler: to standard error, to
syslog (RFC 3164 form, as ``/dev/log`` takes it) or to the journal of systemd (its native datagrams).

Other libraries are heard from ``warning`` on, at ``debug`` from ``info`` on. Never below: there some print what they
send and receive, already put together as text, which no redaction by type can look into.

Redaction goes by type, not by searching for what looks like a secret: known harmless types pass, everything else is
named by its type alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from logging.handlers import SysLogHandler
from pathlib import Path, PurePath
from typing import Any, Final, Literal, TextIO
from uuid import UUID

from identitymesh.cli.text import clean, clean_json
from identitymesh.errors import ConnectorError, KeyringError, MeshError, SecretError, StorageError
from identitymesh.redaction import MASKED, Secret

PRODUCT: Final = "identitymesh"
SYSLOG: Final = "/dev/log"
JOURNAL: Final = "/run/systemd/journal/socket"
LONGEST: Final = 8_000  # characters of one entry; a datagram has an end
_PRIORITY: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # RFC 5424, section 6.2.1
_PLAIN: Final = re.compile(r"[^\s\"=]+\Z")
_OWN: Final = ("event", "level", "logger", "timestamp")

Destination = Literal["stderr", "syslog", "journal"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the settings say. ``quiet``: a command of a person, which says on standard error itself what went wrong."""

    level: str = "info"
    format: str = "console"
    destination: Destination = "stderr"
    address: str | None = None
    quiet: bool = False


@contextmanager
def attached(wish: Wish, stream: TextIO | None = None) -> Iterator[tuple[str, ...]]:
    """Log as wished until the context ends; gives what a person should know about it.

    A syslog or journal that cannot be reached stops nothing, and is told. A service logs to standard error then.
    """
    told: tuple[str, ...] = ()
    try:
        handler = _handler(wish, stream or sys.stderr)
    except OSError as error:
        place = f"logging.destination: the {wish.destination} at {_place(wish)} does not answer"
        instead = "nothing is logged" if wish.quiet else "the log goes to standard error"
        told = (f"{place} ({type(error).__name__}); {instead}",)
        handler = _handler(replace(wish, destination="stderr"), stream or sys.stderr)
    handler.addFilter(RedactingFilter())
    writes = not isinstance(handler, logging.NullHandler)
    if writes:
        handler.setFormatter(_formatter(wish, stamped=isinstance(handler, logging.StreamHandler)))
    handler.set_name(PRODUCT)
    root, ours = logging.getLogger(), logging.getLogger(PRODUCT)
    before = (root.level, ours.level)
    others = logging.INFO if wish.level == "debug" else max(logging.WARNING, _number(wish.level))
    root.addHandler(handler)
    root.setLevel(others)
    ours.setLevel(_number(wish.level))
    if writes or "structlog" in sys.modules:  # it takes as long to import as a short command to run
        _join_structlog()
    try:
        yield told
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])
        handler.close()


@contextmanager
def failures() -> Iterator[None]:
    """Log what ends this block when it is about secrets, keyrings, connectors or the database."""
    try:
        yield
    except (SecretError, KeyringError, ConnectorError, StorageError) as error:
        log_failure(error)
        raise


def log_failure(error: MeshError) -> None:
    """One entry for an error of the product."""
    about: dict[str, object] = {"code": error.code, "problem": error.message}
    if isinstance(error, ConnectorError) and error.connector:
        about["connector"] = error.connector
    logging.getLogger(f"{PRODUCT}.failures").error("failed", extra=about)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _place(wish: Wish) -> str:
    return wish.address or (JOURNAL if wish.destination == "journal" else SYSLOG)


def _handler(wish: Wish, stream: TextIO) -> logging.Handler:
    if wish.destination == "journal":
        return JournalHandler(_place(wish))
    if wish.destination == "syslog":
        return Syslog(_place(wish))
    if wish.quiet and wish.level != "debug":
        return logging.NullHandler()
    return logging.StreamHandler(stream)


class Syslog(SysLogHandler):
    """The standard library's, but it never writes a traceback about itself.

    Raises:
        OSError: there is no such socket, when it is made.
    """

    def __init__(self, place: str) -> None:
        host, colon, port = place.rpartition(":")
        address: str | tuple[str, int] = (host, int(port)) if colon and port.isdigit() else place
        if isinstance(address, str) and not Path(address).is_socket():  # the library itself passes over that
            raise FileNotFoundError(address)
        super().__init__(address=address, facility=SysLogHandler.LOG_DAEMON)
        self.ident = f"{PRODUCT}[{os.getpid()}]: "
        self.append_nul = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        _not_written("syslog", record)


class JournalHandler(logging.Handler):
    """Sends entries as systemd's journal takes them: one datagram of fields for each (systemd's "Native Journal
    Protocol"). A journal that restarts is found again with the next entry.

    Raises:
        OSError: nobody listens there, when it is made.
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(place)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
            fields = {
                "MESSAGE": message,
                "PRIORITY": str(_PRIORITY.get(record.levelname.lower(), 6)),
                "SYSLOG_IDENTIFIER": PRODUCT,
                "SYSLOG_PID": str(os.getpid()),
                "IDENTITYMESH_LOGGER": record.name,
            }
            datagram = b"".join(_field(name, value) for name, value in fields.items())
            try:
                self._socket.send(datagram)
            except OSError:
                self._socket.connect(self._place)
                self._socket.send(datagram)
        except Exception:  # noqa: BLE001 - a log that cannot be written ends nothing
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        _not_written("journal", record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    """``NAME=value``; a value of several lines is preceded by its length, 64 bit, little endian."""
    content = value.encode(errors="backslashreplace")
    if b"\n" not in content:
        return name.encode() + b"=" + content + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"


def _not_written(where: str, record: logging.LogRecord) -> None:
    """Says which logger had something to say, never what."""
    kind = sys.exc_info()[0]
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{where}: an entry of {record.name} was not written ({kind.__name__ if kind else '?'})\n")


# -- form ------------------------------------------------------------------------


def _formatter(wish: Wish, *, stamped: bool) -> logging.Formatter:
    import structlog

    render = _as_json if wish.format == "json" else _as_line
    processors: list[Callable[[Any, str, Any], Any]] = [_only_frames, _extra]
    if stamped or wish.format == "json":
        processors.append(_stamp)
    processors += [structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact_event, render]
    return structlog.stdlib.ProcessorFormatter(processors=processors, logger=None)


_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "_logger",
    "_name",
}


def _extra(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = event["_record"]
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    if not event["_from_structlog"]:
        event.update({name: value for name, value in vars(record).items() if name not in {*_STANDARD, *event}})
    return event


def _stamp(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    moment = datetime.fromtimestamp(event["_record"].created, UTC)
    event["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _only_frames(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and the places it came through. Its message could hold a value, so could its locals."""
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        frames = traceback.extract_tb(given.__traceback__)
        event["exception"] = type(given).__name__
        event["where"] = " < ".join(f"{one.filename}:{one.lineno}" for one in reversed(frames))
    return event


def _as_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """``time level logger: event name=value …``, on one line whatever it holds."""
    head = " ".join(str(event[name]) for name in ("timestamp", "level") if event.get(name))
    rest = " ".join(f"{name}={_shown(value)}" for name, value in event.items() if name not in _OWN)
    return clean(f"{head} {event.get('logger', PRODUCT)}: {event.get('event', '')} {rest}".rstrip())[:LONGEST]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=False)


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return clean_json(json.dumps(dict(event), default=str, ensure_ascii=False))


def _join_structlog() -> None:
    """Whoever logs with structlog goes the same way."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


# -- redaction --------------------------------------------------------------------

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
