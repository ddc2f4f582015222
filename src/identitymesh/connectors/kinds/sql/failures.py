"""Errors of the drivers as errors of the product.

A message carries the server's own first line. It never has the password: the drivers
report none, and statements are given without their parameters.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any, Final

import psycopg
from sqlalchemy import exc

from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    ObjectExists,
    ObjectRefused,
    PermissionDenied,
    Throttled,
    TimedOut,
    Unreachable,
)

LONGEST_DETAIL: Final = 300
_FULL_SERVER_PAUSE: Final = 5.0  # seconds; PostgreSQL does not say when a connection will be free

# libpq gives no SQLSTATE for a connection that failed, only words. English is what a server speaks before it
# knows the client's locale; another lc_messages ends in Unreachable, with the server's words in the message.
_REFUSED: Final = re.compile(
    r"password authentication failed|no password supplied|authentication failed|role .* does not exist|"
    r"no pg_hba\.conf entry|is not permitted to log in",
    re.IGNORECASE,
)
_UNKNOWN_DATABASE: Final = re.compile(r"database .* does not exist", re.IGNORECASE)
_CERTIFICATE: Final = re.compile(r"certificate|SSL|TLS", re.IGNORECASE)
_FULL: Final = re.compile(r"too many clients|connection slots|too many connections", re.IGNORECASE)

# SQLSTATE classes, PostgreSQL documentation appendix A.
_BY_STATE: Final[tuple[tuple[str, type[ConnectorError]], ...]] = (
    ("57014", TimedOut),  # statement_timeout
    ("55P03", TimedOut),  # lock_timeout
    ("57P", ConnectionLost),  # shutdown, crash, terminated by an administrator
    ("25P03", ConnectionLost),  # idle_in_transaction_session_timeout
    ("08", ConnectionLost),
    ("40", ConnectionLost),  # serialisation failure: the snapshot is gone
    ("53300", ConnectionLost),
    ("28", CredentialRefused),
    ("0A", ConnectorMisconfigured),  # a query that changes data where none may
    ("42501", PermissionDenied),
    ("25006", PermissionDenied),  # the query tries to write
    ("42", ConnectorMisconfigured),  # syntax, unknown table or column
    ("3F", ConnectorMisconfigured),
)


def translate_error(error: BaseException, what: str) -> ConnectorError:
    """Our error for one of SQLAlchemy's or a driver's. ``what`` was tried, in words: "reading table people"."""
    driver = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    if isinstance(driver, sqlite3.Error):
        return _sqlite(driver, what)
    if isinstance(driver, psycopg.Error):
        return _postgres(driver, what)
    if isinstance(error, exc.TimeoutError):
        return TimedOut(f"{what} took too long: no connection was free")
    return ConnectorError(f"{what} failed: {type(driver).__name__}")


# What the database says of one row or value: others may be fine.
_OF_THE_ROW: Final = (
    "22",  # data exceptions: not a number, too long, not a date
    "23",  # constraints
    "42804",  # a value of another type than the column's
    "44",  # WITH CHECK OPTION of a view
    "P0001",  # raised by a trigger
    "09",  # raised by a trigger
    "27",
)
_ROLLED_BACK: Final = ("40001", "40P01", "55P03")  # serialisation, deadlock, lock timeout: nothing was written
_NOT_WRITABLE: Final = ("55000", "0A", "428C9")  # a view, a generated column
_LOCK_PAUSE: Final = 1.0  # seconds
_MAY_NOT: Final = "Grant the connector's login what it needs: SELECT, INSERT, UPDATE, DELETE on this table."


def translate_write_error(error: BaseException, what: str, *, adding: bool) -> ConnectorError:
    """Our error for one of a transaction that writes. Unreachable and Throttled mean that nothing was written."""
    driver = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    detail = first_line(driver)
    if isinstance(driver, sqlite3.Error):
        return _sqlite_write(driver, what, detail, adding=adding)
    if isinstance(driver, psycopg.Error):
        return _postgres_write(driver, what, detail, adding=adding)
    return translate_error(error, what)


def not_begun(error: BaseException, what: str) -> ConnectorError:
    """Why a transaction of SQLite could not begin to write."""
    translated = translate_error(error, what)
    if isinstance(translated, TimedOut):
        return Throttled(str(translated), retry_after=_LOCK_PAUSE, hint=translated.hint)
    return translated


def _postgres_write(error: psycopg.Error, what: str, detail: str, *, adding: bool) -> ConnectorError:
    state = error.sqlstate or ""
    if state == "23505" and adding:
        return ObjectExists(f"{what} failed, it is there already: {detail}")
    if state.startswith(_OF_THE_ROW) or (not state and isinstance(error, psycopg.DataError)):
        return ObjectRefused(f"{what} failed: {detail}")
    if state.startswith(_ROLLED_BACK):
        return Throttled(f"{what} had to give way to another transaction: {detail}", retry_after=_LOCK_PAUSE)
    if state.startswith(_NOT_WRITABLE):
        return ConnectorMisconfigured(f"{what} failed: {detail}", hint="Name a table, or a view that can be written.")
    translated = translate_error(error, what)
    if isinstance(translated, PermissionDenied):
        return PermissionDenied(str(translated), hint=_MAY_NOT)
    return translated


def _sqlite_write(error: sqlite3.Error, what: str, detail: str, *, adding: bool) -> ConnectorError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if adding and name in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"}:
        return ObjectExists(f"{what} failed, it is there already: {detail}")
    if name.startswith(("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG")):
        return ObjectRefused(f"{what} failed: {detail}")
    if name.startswith(("SQLITE_IOERR", "SQLITE_FULL")):
        return ConnectionLost(f"{what} failed, and what became of it is not known: {detail}")
    return translate_error(error, what)


def connect_error(error: psycopg.Error, where: str, hide: Callable[[str], str]) -> ConnectorError:
    """Why a connection to PostgreSQL at ``where`` (host:port/database) did not come about.

    ``hide`` takes the password out of the server's words: it was told it, and may repeat it.
    """
    detail = first_line(error, hide)
    if _REFUSED.search(detail):
        return CredentialRefused(
            f"{where} refuses the login: {detail}",
            hint="Check user and password; store a new one with `identitymesh secrets set`.",
        )
    if _UNKNOWN_DATABASE.search(detail):
        return ConnectorMisconfigured(f"{where}: {detail}", hint="Check the name of the database in the URL.")
    if _FULL.search(detail):
        return Throttled(f"{where} has no free connection: {detail}", retry_after=_FULL_SERVER_PAUSE)
    if _CERTIFICATE.search(detail):
        return Unreachable(
            f"{where} does not prove who it is: {detail}",
            hint="Set ca_file to the authority of the server's certificate, and the URL's host to its name.",
        )
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return Unreachable(f"{where} did not answer in time")
    return Unreachable(f"{where} cannot be reached: {detail}", hint="Check host, port, and the network between.")


def first_line(error: Any, hide: Callable[[str], str] = str) -> str:
    """The driver's own words: one line, at most ``LONGEST_DETAIL`` characters."""
    diagnosis = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = [line.strip() for line in hide(str(diagnosis or error)).splitlines()]
    # libpq puts the server's own sentence after what it tried: the FATAL one says most.
    telling = [line for line in lines if "FATAL" in line] or [line for line in lines if line]
    return (telling[0] if telling else type(error).__name__)[:LONGEST_DETAIL]


def _postgres(error: psycopg.Error, what: str) -> ConnectorError:
    detail = first_line(error)
    state = error.sqlstate or ""
    for prefix, kind in _BY_STATE:
        if state.startswith(prefix):
            return kind(f"{what} failed: {detail}")
    if not state and isinstance(error, psycopg.OperationalError):
        return ConnectionLost(f"{what} failed, the connection is gone: {detail}")
    return ConnectorError(f"{what} failed: {detail}")


def _sqlite(error: sqlite3.Error, what: str) -> ConnectorError:
    detail = first_line(error)
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_INTERRUPT"):
        return TimedOut(f"{what} took too long and was stopped")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return TimedOut(f"{what} failed: the file is locked by another program", hint="Try again when it is idle.")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")):
        return Unreachable(f"{what} failed: {detail}")
    if name.startswith(("SQLITE_PERM", "SQLITE_AUTH", "SQLITE_READONLY")):
        return PermissionDenied(f"{what} failed: {detail}")
    if name.startswith(("SQLITE_ERROR", "SQLITE_NOTADB")):
        return ConnectorMisconfigured(f"{what} failed: {detail}")
    return ConnectorError(f"{what} failed: {detail}")
