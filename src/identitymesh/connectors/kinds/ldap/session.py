"""Connections to one directory: TLS first, then the login, with a time limit on everything.

The password is asked for when a connection is made and goes straight to the library's bind call. python-ldap's own
reconnecting connection is not used: it keeps the password to bind again with.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import ldap
from ldap.controls import RequestControl
from ldap.ldapobject import SimpleLDAPObject

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.ldap.ber import POST_READ, post_read
from identitymesh.connectors.kinds.ldap.failures import translate, words
from identitymesh.connectors.kinds.ldap.settings import LdapSettings
from identitymesh.connectors.kinds.ldap.subschema import Subschema
from identitymesh.connectors.kinds.ldap.trust import authorities, diagnose
from identitymesh.connectors.scrubbing import scrub
from identitymesh.errors import ConnectionLost, ConnectorError, CredentialRefused, TimedOut, Unreachable

Result = TypeVar("Result")
Translate = Callable[[ldap.LDAPError], ConnectorError]
Answer = tuple[str, dict[str, list[bytes]]] | None  # DN and attributes that the post-read control gives
Send = Callable[["Connection"], int]

_IDLE: Final = 60.0  # seconds after which a connection is not trusted to be still there; servers hang up on idle ones
_CIPHERS: Final = {  # of the two libraries that libldap is built with, beside the oldest protocol that is allowed
    "GnuTLS": "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
    "OpenSSL": "DEFAULT:!aNULL:!eNULL",
}
_UNREACHED: Final = (
    ldap.SERVER_DOWN,
    ldap.CONNECT_ERROR,
    ldap.LOCAL_ERROR,
    ldap.PROTOCOL_ERROR,
    ldap.DECODING_ERROR,
    ldap.UNAVAILABLE,
    ldap.TIMEOUT,
)
_BROKEN: Final = (ConnectionLost, TimedOut, Unreachable)


class Connection(SimpleLDAPObject):  # type: ignore[misc]  # the library has no types
    """A connection of the library, with a way to the next message of an answer that costs next to nothing."""

    def messages(self, asked: int, timeout: float) -> Callable[[], Any]:
        """What gives the next message: its type, its entries, its number and its controls, not decoded.

        The library's own method takes a lock and looks for controls, entry by entry, which is a fifth of a whole read.
        """
        return partial(self._l.result4, asked, 0, timeout, 0, 0, 0)

    def answer(self, asked: int, timeout: float) -> dict[str, bytes]:
        """The controls that come with the answer to a change, by object identifier, not decoded."""
        return {name: value for name, _, value in self._l.result4(asked, 1, timeout, 0, 0, 0)[3]}


class Session:
    """Opens connections, keeps one for single calls, and knows what the server can do. Close it."""

    def __init__(self, settings: LdapSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._connect = partial(connect, settings, credentials)
        self._kept: Connection | None = None
        self._used = 0.0

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            hang_up(kept)

    def connection(self) -> Connection:
        """A connection of the caller's own, logged in; to be hung up by the caller."""
        return self._connect()

    def call(self, action: Callable[[Connection], Result], failed: Translate) -> Result:
        """Do something on the kept connection; after a break the next call opens another one."""
        connection = self.ready()
        try:
            return action(connection)
        except ldap.LDAPError as error:
            failure = failed(error)
        if isinstance(failure, _BROKEN):
            self.close()
        raise failure

    def ready(self) -> Connection:
        """The kept connection, or another one where there is none, or it may have been hung up."""
        if self._kept is not None and time.monotonic() - self._used > _IDLE:
            self.close()
        if self._kept is None:
            self._kept = self._connect()
        self._used = time.monotonic()
        return self._kept

    def keeps(self, connection: Connection) -> bool:
        """Whether this connection is in use still: a call in between may have found it broken."""
        self._used = time.monotonic()
        return self._kept is connection

    def find(
        self, base: str, scope: int, filter_text: str, names: Sequence[str], failed: Translate, *, most: int = 0
    ) -> list[tuple[str, dict[str, list[bytes]]]]:
        """A search with a short answer: DN and attributes of each entry. Referrals are left out.

        ``most``: how many entries are wanted at most, 0 for all of them.
        """

        def action(connection: Connection) -> list[Any]:
            found: list[Any] = []
            asked = connection.search_ext(base, scope, filter_text, list(names), sizelimit=most)
            try:
                while True:
                    kind, data, _, _ = connection.result3(asked, 0, self._settings.timeout)
                    if kind == ldap.RES_SEARCH_ENTRY:
                        found += data
                    elif kind == ldap.RES_SEARCH_RESULT:
                        return found
            except ldap.SIZELIMIT_EXCEEDED:
                if most and len(found) >= most:
                    return found
                raise

        return self.call(action, failed)

    def change(self, send: Send, failed: Translate) -> Answer:
        """A change that ``send`` starts; what the post-read control answers, if it was asked for."""
        return self.call(lambda connection: self.answer(connection, send(connection)), failed)

    def answer(self, connection: Connection, asked: int) -> Answer:
        """The same of a change that is under way."""
        controls = connection.answer(asked, self._settings.timeout)
        try:
            return post_read(controls[POST_READ]) if POST_READ in controls else None
        except (ValueError, IndexError):
            self.close()
            raise ConnectionLost(
                "the answer to a change cannot be read; whether it was carried out is unknown"
            ) from None

    def offers(self, control: RequestControl | str) -> bool:
        """Whether the server supports a control, by its object identifier."""
        return control in self._root.get("supportedControl", ())

    @cached_property
    def _root(self) -> dict[str, list[str]]:
        """The entry of the server itself (RFC 4512 section 5.1); empty if it may not be read."""
        names = ("supportedControl", "subschemaSubentry")
        found = self.find("", ldap.SCOPE_BASE, "(objectClass=*)", names, partial(translate, what="reading the root"))
        return {
            name: [one.decode(errors="replace") for one in values] for _, raw in found for name, values in raw.items()
        }

    @cached_property
    def schema(self) -> Subschema:
        """The attributes of the directory; without any if they may not be read, and then everything is text."""
        places = self._root.get("subschemaSubentry") or ["cn=Subschema"]
        failed = partial(translate, what="reading the schema")
        try:
            found = self.find(places[0], ldap.SCOPE_BASE, "(objectClass=subschema)", ["attributeTypes"], failed)
        except ConnectorError as error:
            if error.retryable:
                raise
            found = []
        texts = [one.decode(errors="replace") for _, raw in found for one in raw.get("attributeTypes", ())]
        return Subschema(texts)


def connect(settings: LdapSettings, credentials: CredentialSource) -> Connection:
    """A connection that is secured and logged in; its password is asked for when the server has proved who it is.

    Raises:
        Unreachable, CredentialRefused, ConnectorMisconfigured: with the reason in words.
    """
    connection = Connection(settings.server.uri, trace_level=0)
    _prepare(connection, settings)
    _reach(connection, settings)
    try:
        _bound_waits(connection, settings.timeout)
        _log_in(connection, settings, credentials)
    except BaseException:
        hang_up(connection)
        raise
    return connection


def hang_up(connection: Connection) -> None:
    """Never raises."""
    with contextlib.suppress(ldap.LDAPError, AttributeError):
        connection.unbind_ext_s()


def _prepare(connection: Connection, settings: LdapSettings) -> None:
    whole = max(1, round(settings.timeout))
    connection.timeout = settings.timeout
    for option, value in (
        (ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3),
        (ldap.OPT_REFERRALS, ldap.OPT_OFF),  # following one would send the password to whoever the server names
        (ldap.OPT_NETWORK_TIMEOUT, settings.timeout),
        (ldap.OPT_TIMEOUT, settings.timeout),
        (ldap.OPT_X_KEEPALIVE_IDLE, whole),
        (ldap.OPT_X_KEEPALIVE_PROBES, 3),
        (ldap.OPT_X_KEEPALIVE_INTERVAL, max(1, whole // 3)),
    ):
        connection.set_option(option, value)
    if settings.encrypted:
        connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
        connection.set_option(ldap.OPT_X_TLS_CACERTFILE, authorities(settings))
        connection.set_option(ldap.OPT_X_TLS_PROTOCOL_MIN, ldap.OPT_X_TLS_PROTOCOL_TLS1_2)
        ciphers = _CIPHERS.get(ldap.get_option(ldap.OPT_X_TLS_PACKAGE))
        if ciphers is not None:
            connection.set_option(ldap.OPT_X_TLS_CIPHER_SUITE, ciphers)
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)  # last: it is what takes the others over


def _reach(connection: Connection, settings: LdapSettings) -> None:
    """Connect and shake hands.

    Neither the option for connecting nor that for answers limits a TLS handshake that a server lets hang (libldap 2.5
    with GnuTLS), so a thread waits for it and is left to itself after the time limit. It knows no password.
    """
    failures: list[ldap.LDAPError] = []
    reached = threading.Event()
    given_up = threading.Event()

    def shake_hands() -> None:
        try:
            if settings.starttls:
                connection.start_tls_s()
            connection.search_ext_s("", ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"])
        except ldap.LDAPError as error:
            failures.append(error)
        reached.set()
        if given_up.is_set():
            hang_up(connection)

    threading.Thread(target=shake_hands, daemon=True, name="ldap-handshake").start()
    where = settings.server.place
    if not reached.wait(settings.timeout):
        given_up.set()
        raise Unreachable(f"{where} did not answer in time")
    if failures and isinstance(failures[0], _UNREACHED):
        hang_up(connection)
        if isinstance(failures[0], ldap.TIMEOUT):
            raise Unreachable(f"{where} did not answer in time")
        raise _untrusted_or_down(settings)
    # Any other answer, a refusal to show the root to nobody too, came over the secured connection.


def _untrusted_or_down(settings: LdapSettings) -> Unreachable:
    where = settings.server.place
    reason, trust = diagnose(settings)
    if trust:
        return Unreachable(
            f"{where} does not prove who it is: {reason}",
            hint="Set ca_file to the authority of the server's certificate, and the url's host to its name.",
        )
    return Unreachable(f"{where} cannot be reached: {reason}", hint="Check host, port, and the network between.")


def _bound_waits(connection: Connection, timeout: float) -> None:
    """A read that waits for the rest of a TLS record ends too; the library's own limit is for its beginning."""
    seconds, rest = divmod(timeout, 1)
    limit = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
    with socket.socket(fileno=os.dup(connection.fileno())) as same:  # options are those of the socket, not of the copy
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _log_in(connection: Connection, settings: LdapSettings, credentials: CredentialSource) -> None:
    if settings.bind_dn is None:
        return
    secret = credentials("bind_password")
    where = settings.server.place
    if not secret:  # RFC 4513 section 5.1.2: a bind without a password succeeds as nobody
        raise CredentialRefused(f"{where}: the bind password is empty")
    hide = partial(scrub, (secret,))
    failure: ConnectorError
    try:
        connection.simple_bind_s(settings.bind_dn, secret.reveal())
    except (ldap.INVALID_CREDENTIALS, ldap.INAPPROPRIATE_AUTH, ldap.UNWILLING_TO_PERFORM) as error:
        failure = CredentialRefused(
            f"{where} refuses the login: {words(error, hide)}",
            hint="Check bind_dn and its password; store a new one with `identitymesh secrets set`.",
        )
    except _UNREACHED as error:
        failure = Unreachable(f"{where} went away during the login: {words(error, hide)}")
    except ldap.LDAPError as error:
        failure = translate(error, f"logging in at {where}", hide)
    else:
        return
    # Raised out here, without a cause: frames of the library's exception hold the password.
    raise failure
