"""HTTP with a SCIM service.

One client with verified TLS, no redirects, a time limit, and a guard on where credentials go.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import orjson

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.scim.answers import Answer
from identitymesh.connectors.kinds.scim.credentials import FetchedToken, StaticToken, TokenSource
from identitymesh.connectors.kinds.scim.settings import ScimSettings, endpoint, endpoints
from identitymesh.connectors.scrubbing import scrub
from identitymesh.errors import ConnectionLost, ConnectorError, ConnectorMisconfigured, TimedOut, Unreachable
from identitymesh.redaction import Secret

MEDIA_TYPE: Final = "application/scim+json"
LARGEST_ANSWER: Final = 64 * 1024 * 1024  # bytes after decompression
_HTTP_UNAUTHORIZED: Final = 401
_ADDRESSES: Final = 32


class Session:
    """Requests to one service. Opened with its first use; close it."""

    def __init__(self, settings: ScimSettings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._allowed = frozenset(endpoints(settings))
        self._client: httpx2.Client | None = None
        self._parsed = lru_cache(maxsize=_ADDRESSES)(httpx2.URL)  # all creates of a class go to one
        self._tokens: TokenSource = (
            StaticToken(credentials)
            if settings.oauth is None
            else FetchedToken(settings.oauth, credentials, self._post_form, time.monotonic)
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        tag: str | None = None,
    ) -> Answer:
        """One request below the service's address, with the token; once more with another token after a 401.

        A 401 proves that nothing was carried out, so this is safe for every method.

        Raises:
            ConnectorError: no answer came. Any answer at all is returned.
        """
        headers = {"Accept": f"{MEDIA_TYPE}, application/json"}
        if tag is not None:
            headers["If-Match"] = tag
        content = None
        if body is not None:
            headers["Content-Type"] = MEDIA_TYPE
            content = orjson.dumps(body)

        def attempt(token: Secret) -> Answer:
            address = self._parsed(self._settings.url + path)
            request = self._open().build_request(method, address, params=query, headers=headers, content=content)
            return self._send(request, "Bearer", token, f"{method} {path}")

        token = self._tokens.token()
        answer = attempt(token)
        if answer.status == _HTTP_UNAUTHORIZED:
            other = self._tokens.renewed(token)
            if other is not None:
                answer = attempt(other)
        return answer

    def _post_form(self, url: str, form: dict[str, str], login: Secret, secret: Secret) -> Answer:
        request = self._open().build_request("POST", url, data=form, headers={"Accept": "application/json"})
        return self._send(request, "Basic", login, f"POST {urlsplit(url).path or '/'}", secret)

    def _send(self, request: httpx2.Request, scheme: str, credential: Secret, asked: str, *kept: Secret) -> Answer:
        """``kept`` are further values that the service may know and that no message may repeat."""
        target = endpoint(str(request.url))
        if target not in self._allowed:
            raise ConnectorMisconfigured(f"{asked}: the credential may not be sent to {target}")
        request.headers["Authorization"] = f"{scheme} {credential.reveal_text()}"
        deadline = time.monotonic() + self._settings.timeout
        try:
            response = self._open().send(request, stream=True, follow_redirects=False)
            try:
                body = _receive(response, deadline, asked)
            finally:
                response.close()
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise _no_answer(error, asked, target) from error
        finally:
            # The library's exceptions hold the request; it must not hold the credential.
            del request.headers["Authorization"]
        return Answer(response.status_code, response.headers, body, asked, partial(scrub, (credential, *kept)))

    def _open(self) -> httpx2.Client:
        if self._client is None:
            self._client = httpx2.Client(
                verify=_tls(self._settings.ca_file),
                timeout=httpx2.Timeout(self._settings.timeout),
                follow_redirects=False,
                trust_env=False,  # no proxy and no login that the definition does not name
                headers={"User-Agent": "identitymesh"},
            )
        return self._client


def _tls(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx2.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConnectorMisconfigured(
            f"the certificates of {ca_file} cannot be read: {type(error).__name__}", hint="Set ca_file to a PEM file."
        ) from error


def _receive(response: httpx2.Response, deadline: float, asked: str) -> bytes:
    """The body, within the time limit: the library limits each read, and a service could drip for ever."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise ConnectorError(f"{asked}: the answer is larger than {LARGEST_ANSWER:,} bytes")
        if time.monotonic() > deadline:
            raise TimedOut(f"{asked}: the answer took too long")
    return b"".join(parts)


def _no_answer(error: Exception, asked: str, target: str) -> ConnectorError:
    if isinstance(error, httpx2.ConnectTimeout):
        return Unreachable(f"{asked}: {target} did not answer in time")
    if isinstance(error, httpx2.TimeoutException):
        return TimedOut(f"{asked}: {target} did not answer in time")
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
        if _is_certificate(error):
            return Unreachable(
                f"{asked}: {target} does not prove who it is: its certificate is not trusted",
                hint="Set ca_file to the authority of the server's certificate, and check the host name.",
            )
        return Unreachable(f"{asked}: {target} cannot be reached", hint="Check host, port, and the network between.")
    if isinstance(error, httpx2.LocalProtocolError | httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return ConnectorMisconfigured(f"{asked}: the request cannot be sent: {type(error).__name__}")
    return ConnectionLost(f"{asked}: the connection to {target} broke: {type(error).__name__}")


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
