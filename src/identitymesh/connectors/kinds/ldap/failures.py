"""Result codes of a directory (RFC 4511 appendix A) as errors of the product, with the server's own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import ldap

from identitymesh.connectors.scrubbing import scrub
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    ConnectorMisconfigured,
    CredentialRefused,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    ObjectRefused,
    PermissionDenied,
    Throttled,
    TimedOut,
    Unreachable,
)
from identitymesh.redaction import Secret

LONGEST_DETAIL: Final = 300
BUSY_PAUSE: Final = 2.0  # seconds; a directory does not say when it will have time

_EVERYWHERE: Final[dict[type[ldap.LDAPError], type[ConnectorError]]] = {
    ldap.SERVER_DOWN: ConnectionLost,
    ldap.CONNECT_ERROR: ConnectionLost,
    ldap.DECODING_ERROR: ConnectionLost,
    ldap.LOCAL_ERROR: ConnectionLost,
    ldap.TIMEOUT: TimedOut,
    ldap.TIMELIMIT_EXCEEDED: TimedOut,
    ldap.UNAVAILABLE: Unreachable,
    ldap.INVALID_CREDENTIALS: CredentialRefused,
    ldap.INSUFFICIENT_ACCESS: PermissionDenied,
    ldap.ASSERTION_FAILED: ObjectChanged,
}
_MISCONFIGURED: Final[dict[type[ldap.LDAPError], str]] = {
    ldap.STRONG_AUTH_REQUIRED: "The server wants an encrypted connection: use ldaps:// or starttls: true.",
    ldap.CONFIDENTIALITY_REQUIRED: "The server wants an encrypted connection: use ldaps:// or starttls: true.",
    ldap.FILTER_ERROR: "Correct the filter of this class of objects.",
    ldap.PROTOCOL_ERROR: "The server does not know this operation.",
    ldap.UNAVAILABLE_CRITICAL_EXTENSION: "The server does not offer this; leave page_size out.",
}
_READING: Final[dict[type[ldap.LDAPError], str]] = {
    ldap.NO_SUCH_OBJECT: "Check the base of this class of objects, and that bind_dn may read it.",
    ldap.INVALID_DN_SYNTAX: "Correct the base of this class of objects.",
    ldap.REFERRAL: "The base is on another server: write that server's address. Referrals are not followed, "
    "because they could carry the password to another host.",
}
_WRITING: Final[dict[type[ldap.LDAPError], tuple[type[ConnectorError], str]]] = {
    ldap.ALREADY_EXISTS: (ObjectExists, "there is an entry with this dn already"),
    ldap.NO_SUCH_ATTRIBUTE: (ObjectChanged, "a value is not there any more"),
    ldap.TYPE_OR_VALUE_EXISTS: (
        ObjectRefused,
        "the same value twice: the directory does not tell values apart by case, spaces or Unicode form",
    ),
    ldap.REFERRAL: (
        ObjectRefused,
        "the server wants this written at another server; referrals are not followed with a password",
    ),
    ldap.INVALID_DN_SYNTAX: (ObjectRefused, "invalid dn; each value in it is prepared by EscapeDN"),
    ldap.NAMING_VIOLATION: (ObjectRefused, "naming violation: the dn does not fit the attributes"),
    ldap.OBJECT_CLASS_VIOLATION: (ObjectRefused, "schema violation"),
    ldap.UNDEFINED_TYPE: (ObjectRefused, "schema violation: the directory does not know an attribute"),
    ldap.INVALID_SYNTAX: (ObjectRefused, "schema violation: a value has not the attribute's syntax"),
    ldap.CONSTRAINT_VIOLATION: (ObjectRefused, "schema violation or a constraint of the server"),
    ldap.NO_OBJECT_CLASS_MODS: (ObjectRefused, "schema violation: the structural object class cannot change"),
    ldap.NOT_ALLOWED_ON_NONLEAF: (ObjectRefused, "there are entries below it"),
    ldap.NOT_ALLOWED_ON_RDN: (ObjectRefused, "the attribute is part of the dn; change the dn"),
    ldap.UNWILLING_TO_PERFORM: (ObjectRefused, "the server is unwilling to perform it"),
}


def words(error: ldap.LDAPError, hide: Callable[[str], str] = str) -> str:
    """What the library and the server say, one line, at most ``LONGEST_DETAIL`` characters."""
    told = _told(error)
    parts = [str(told[name]) for name in ("desc", "info") if told.get(name)]
    line = " ".join(hide(": ".join(parts)).split()) or type(error).__name__
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 1] + "…"


def translate(error: ldap.LDAPError, what: str, hide: Callable[[str], str] = str) -> ConnectorError:
    """Our error for a call that concerns no single entry: reading a base, the root, the schema.

    ``hide`` takes a password out of the server's words, where it was just told one.
    """
    told = f"{what}: {words(error, hide)}"
    hint = _READING.get(type(error))
    if hint is not None:
        return ConnectorMisconfigured(told, hint=hint)
    return _common(error, told) or ConnectorError(told)


def translate_write(error: ldap.LDAPError, what: str, *, creates: bool = False) -> ConnectorError:
    """Our error for a change of one entry. ``creates``: what is missing then is its parent."""
    if isinstance(error, ldap.NO_SUCH_OBJECT):
        if creates:
            return ObjectRefused(f"{what}: the entry above it does not exist", hint="Create it, or correct the dn.")
        return ObjectMissing(f"{what}: it is not there any more")
    known = _WRITING.get(type(error))
    if known is not None:
        kind, meaning = known
        return kind(f"{what}: {meaning}: {words(error)}")
    told = f"{what}: {words(error)}"
    return _common(error, told) or ObjectRefused(told)


def translate_password(error: ldap.LDAPError, told: Sequence[Secret]) -> ConnectorError:
    """Our error for a change of the login's own password; ``told`` are the passwords that the server was sent."""
    line = f"changing the password of the login: {words(error, partial(scrub, told))}"
    if isinstance(error, ldap.CONSTRAINT_VIOLATION | ldap.UNWILLING_TO_PERFORM | ldap.NO_SUCH_OBJECT):
        return ObjectRefused(line)
    return _common(error, line) or ObjectRefused(line)


def _common(error: ldap.LDAPError, told: str) -> ConnectorError | None:
    if isinstance(error, ldap.BUSY):
        return Throttled(told, retry_after=BUSY_PAUSE)
    if type(error) in _MISCONFIGURED:
        return ConnectorMisconfigured(told, hint=_MISCONFIGURED[type(error)])
    kind = _EVERYWHERE.get(type(error))
    return None if kind is None else kind(told)


def _told(error: ldap.LDAPError) -> dict[str, Any]:
    told = error.args[0] if error.args else {}
    return told if isinstance(told, dict) else {"desc": str(told)}
