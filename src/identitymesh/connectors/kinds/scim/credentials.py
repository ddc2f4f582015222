"""The bearer token of a session: given in the settings, or fetched with client credentials.

Credentials stay :class:`Secret` until the line that writes the header.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import quote_plus

from identitymesh.connectors.contract import CredentialSource
from identitymesh.connectors.kinds.scim.answers import Answer
from identitymesh.connectors.kinds.scim.settings import OAuth
from identitymesh.errors import ConnectorMisconfigured, CredentialRefused
from identitymesh.redaction import Secret

MARGIN: Final = 30.0  # seconds before its end at which a token is replaced
_HEADER_TEXT: Final = re.compile(rb"[\x21-\x7e]+\Z")  # RFC 6750 section 2.1, generously


class TokenSource(Protocol):
    def token(self) -> Secret:
        """A token that should be valid now."""

    def renewed(self, refused: Secret) -> Secret | None:
        """Another token than the one that was refused; ``None`` if there is no other."""


class StaticToken:
    """The token of the settings. After a refusal it is asked for again: it may have been rotated meanwhile."""

    def __init__(self, credentials: CredentialSource) -> None:
        self._credentials = credentials
        self._token: Secret | None = None

    def token(self) -> Secret:
        if self._token is None:
            self._token = fit_for_header(self._credentials("token"), "the token")
        return self._token

    def renewed(self, refused: Secret) -> Secret | None:
        self._token = None
        token = self.token()
        return None if token == refused else token


class FetchedToken:
    """Client credentials grant, RFC 6749 section 4.4. The token is kept in memory until shortly before its end.

    ``post`` sends a form to the token URL with an ``Authorization`` header made from its third argument; the
    fourth, the client secret itself, only goes out of the words of the answer.
    """

    def __init__(
        self,
        settings: OAuth,
        credentials: CredentialSource,
        post: Callable[[str, dict[str, str], Secret, Secret], Answer],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._post = post
        self._clock = clock
        self._token: Secret | None = None
        self._ends = 0.0

    def token(self) -> Secret:
        if self._token is None or self._clock() >= self._ends:
            self._fetch()
        assert self._token is not None  # noqa: S101  for the type checker: _fetch sets it or raises
        return self._token

    def renewed(self, refused: Secret) -> Secret | None:
        self._token = None
        token = self.token()
        return None if token == refused else token

    def _fetch(self) -> None:
        form = {"grant_type": "client_credentials"}
        if self._settings.scope is not None:
            form["scope"] = self._settings.scope
        secret = self._credentials("oauth.client_secret")
        answer = self._post(self._settings.token_url, form, self._login(secret), secret)
        if not answer.ok:
            self._refused(answer)
        document = answer.document()
        token, kind = document.get("access_token"), document.get("token_type", "bearer")
        if not isinstance(token, str) or not token or str(kind).lower() != "bearer":
            raise ConnectorMisconfigured(f"{answer.asked}: the answer has no bearer token")
        lifetime = document.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int | float | str) and _is_number(lifetime) else 0.0
        self._token = fit_for_header(Secret(token), "the access token")
        # Without a lifetime the token is used until it is refused.
        self._ends = self._clock() + max(seconds - MARGIN, seconds / 2) if seconds > 0 else float("inf")

    def _login(self, secret: Secret) -> Secret:
        """What stands after ``Basic``; both parts are form-encoded first (RFC 6749 section 2.3.1)."""
        try:
            pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(secret.reveal_text())}"
        except ValueError:
            pair = ""
        if not pair:  # raised out here: the decoder's exception keeps the bytes
            raise ConnectorMisconfigured("the client secret is not text")
        return Secret(base64.b64encode(pair.encode()))

    def _refused(self, answer: Answer) -> None:
        # RFC 6749 section 5.2: these say that the client is not who it claims, with status 400 or 401.
        code = answer.error_code()
        if answer.status == 401 or code in {"invalid_client", "unauthorized_client"}:
            raise CredentialRefused(
                f"{answer.asked}: the client is refused: {answer.words()}",
                hint="Check client_id and the client secret at the service.",
            )
        if answer.status == 400:
            raise ConnectorMisconfigured(f"{answer.asked}: {code or answer.words()}", hint="Check oauth.scope.")
        answer.raise_for_status(on_object=False, writes=False)


def fit_for_header(secret: Secret, what: str) -> Secret:
    """The same secret, if it can stand in a header: the HTTP library would repeat it in its error otherwise.

    Raises:
        ConnectorMisconfigured: it cannot.
    """
    if _HEADER_TEXT.match(secret.reveal()):
        return secret
    raise ConnectorMisconfigured(
        f"{what} has characters that cannot stand in an HTTP header, perhaps a space or a line end",
        hint="Store it again with `identitymesh secrets set`.",
    )


def _is_number(value: float | str) -> bool:
    try:
        return float(value) > 0
    except ValueError:
        return False
