"""Calls to one OpenBao or Vault server: TLS, token, retries, and its errors as the product's own.

hvac builds the requests; its adapter is replaced by one that follows no redirect, reads no variable and no file of the
person who started the program (``VAULT_TOKEN``, ``~/.vault-token``, ``~/.netrc``), tries again within a bound, and
never quotes what the server says about a request that carried a value.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
from hvac.adapters import RawAdapter
from hvac.api.auth_methods import AppRole
from hvac.api.auth_methods import Token as TokenCalls

from identitymesh.errors import (
    ProviderDenied,
    ProviderError,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from identitymesh.redaction import Secret
from identitymesh.secrets.stores.openbao.place import Place

TIMEOUT: Final = 10.0
PATIENCE: Final = 20.0  # seconds that one call may take, with all its attempts
ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 0.1
DOWN_SECONDS: Final = 5.0  # after giving up, the next calls try once only
POOL: Final = 32
AGAIN: Final = frozenset({408, 412, 429, 500, 502, 503, 504})
RENEW_AT: Final = 1 / 3  # of its life, what is left when a token is renewed
RENEW_SECONDS: Final = 5.0


class Gone(ProviderError):
    """404: nothing is there. ``document`` is what the server said besides."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__("not found")
        self.document = document


class Mismatch(ProviderError):
    """The check-and-set parameter was not the current version."""


class Session:
    """Logged in when first used. Any number of threads may call it."""

    def __init__(
        self,
        place: Place,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = place
        self._clock = clock
        self._sleep = sleep
        self._login_lock = threading.Lock()
        self._token: Secret | None = None
        self._life = 0.0
        self._ends = float("inf")
        self._renewable = False
        self._not_before = 0.0
        self._down_until = 0.0
        self.adapter = _Adapter(self)

    def close(self) -> None:
        self.adapter.close()

    # The token

    def token(self) -> Secret:
        """A token that is valid for now: logged in, renewed before its end, or logged in anew."""
        if self._token is not None and self._ends - self._clock() > self._margin():
            return self._token
        with self._login_lock:
            left = self._ends - self._clock()
            if self._token is not None and left > self._margin():
                return self._token
            if self._token is not None and self._renewable and left > 0 and self._renewed():
                return self._token
            return self._logged_in()

    def _margin(self) -> float:
        return max(min(RENEW_SECONDS, self._life / 2), self._life * RENEW_AT) if self._life else 0.0

    def _logged_in(self) -> Secret:
        place = self.place
        if place.auth == "token":
            self._token = place.credential()
            self._look_up()
        else:
            calls = AppRole(adapter=self.adapter)
            answer = calls.login(
                role_id=place.role_id,
                secret_id=place.credential().reveal_text(),
                use_token=False,
                mount_point=place.auth_mount,
            )
            self._accept(answer.json()["auth"])
        assert self._token is not None  # noqa: S101  for the type checker: both ways have set it
        return self._token

    def _look_up(self) -> None:
        try:
            data = TokenCalls(adapter=self.adapter).lookup_self().json()["data"]
        except ProviderError:
            self._token = None
            raise
        ttl = float(data.get("ttl") or 0)
        self._life = ttl
        self._ends = self._clock() + ttl if ttl else float("inf")
        self._renewable = bool(data.get("renewable"))

    def _renewed(self) -> bool:
        """False: it was not to be had, or not for longer; then a new login is due."""
        ends = self._ends
        try:
            answer = TokenCalls(adapter=self.adapter).renew_self()
        except ProviderError:
            return self.place.auth == "token" and ends > self._clock()
        self._accept(answer.json()["auth"])
        if self.place.auth == "token":
            return self._ends > self._clock()
        return self._ends - self._clock() > self._margin()

    def _accept(self, auth: Mapping[str, Any]) -> None:
        life = float(auth.get("lease_duration") or 0)
        self._token = Secret(auth["client_token"])
        # A renewal near the maximum answers less than was asked: what counts is the whole life of this token.
        self._life = max(self._life, life) if self._renewable else life
        self._renewable = bool(auth.get("renewable"))
        self._ends = self._clock() + life if life else float("inf")

    def forget(self, used: Secret | None) -> bool:
        """After a 403: whether a new login may help, because this one has not been replaced and can be."""
        with self._login_lock:
            if self.place.auth != "approle" or used is None:
                return False
            if self._token is not None and self._token == used:
                self._token = None
            return True

    # One call

    def send(self, once: Callable[[Secret | None], requests.Response], *, quiet: bool, login: bool) -> Any:
        """Send a request until it is answered for good, within :data:`PATIENCE`.

        Raises:
            Gone, Mismatch: what they say.
            ProviderError: why it was refused, or that the server does not answer.
        """
        deadline = self._clock() + (PATIENCE if self._clock() >= self._down_until else 0.0)
        about_token = getattr(once, "about_token", False)  # made while a thread holds the lock of the login
        logged_in_again = login or about_token
        wait: float | None
        attempt = 0
        while True:
            attempt += 1
            if (pause := self._not_before - self._clock()) > 0:
                self._sleep(pause)
            token = None if login else self._token if about_token else self.token()
            try:
                response = once(token)
            except requests.RequestException as error:
                failure, wait = self._unreachable(error), None
                if not failure.retryable:
                    raise failure from None
            else:
                if response.status_code == 403 and not logged_in_again and self.forget(token):
                    logged_in_again = True
                    continue
                if response.status_code not in AGAIN:
                    return self._judged(response, quiet=quiet)
                failure = self._busy(response)
                wait = _retry_after(response)
            self._pause(failure, attempt, wait, deadline)

    def _pause(self, failure: ProviderError, attempt: int, wait: float | None, deadline: float) -> None:
        now = self._clock()
        pause = wait if wait is not None else FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        if attempt >= ATTEMPTS or now + pause > deadline:
            self._down_until = now + DOWN_SECONDS
            raise failure
        if wait is not None:  # all threads wait together: a server that is asked for less should be
            self._not_before = max(self._not_before, now + wait)
        self._sleep(pause)

    def _judged(self, response: requests.Response, *, quiet: bool) -> requests.Response:
        status = response.status_code
        self._down_until = 0.0
        if 200 <= status < 300:
            return response
        if 300 <= status < 400:
            raise ProviderRefused(
                f"openbao {self.place.address}: it answers with a redirect; it is not followed, it would get the token",
                hint="Put the address of the active server, or of its load balancer, into openbao.address.",
            )
        said = _said(response)
        if status == 404 and (not said or "data" in _document(response)):
            raise Gone(_document(response))
        if status == 400 and "check-and-set" in said:
            raise Mismatch(f"openbao {self.place.address}: another value was written at the same time")
        raise self._refused(status, said, tell=not quiet)

    def _refused(self, status: int, said: str, *, tell: bool) -> ProviderError:
        where, mount = f"openbao {self.place.address}", self.place.mount
        if status == 403:
            return ProviderDenied(
                f"{where}: permission denied in mount {mount!r}, or the token is not valid any more",
                hint="Give the role the policy that docs/howto/openbao.md shows, or renew the token or the secret id.",
            )
        if status == 404 and "namespace" in said:
            return ProviderMisconfigured(
                f"{where}: there is no namespace {self.place.namespace!r}", hint="Correct openbao.namespace."
            )
        if status == 404:
            return ProviderMisconfigured(
                f"{where}: there is no KV engine at mount {mount!r}",
                hint=f"Correct openbao.mount, or make it: bao secrets enable -path={mount} -version=2 kv",
            )
        if status == 400 and "invalid role or secret" in said:
            return ProviderDenied(
                f"{where}: the role id or the secret id is not accepted",
                hint="Make a new secret id for the role and store it where openbao.secret_id says.",
            )
        told = f": {said[:200]}" if said and tell else ""
        return ProviderRefused(
            f"{where}: it refuses the request with status {status}{told}", hint="Its log says why; then try again."
        )

    def _busy(self, response: requests.Response) -> ProviderUnavailable:
        where, status = f"openbao {self.place.address}", response.status_code
        if status == 503 and "sealed" in _said(response):
            return ProviderUnavailable(f"{where}: it is sealed", hint="Unseal it: bao operator unseal. Then try again.")
        if status == 429:
            wait = _retry_after(response)
            asks = f" and asks for a pause of {wait:.0f} seconds" if wait is not None else ""
            return ProviderUnavailable(
                f"{where}: too many requests{asks}",
                hint="Try again later, or raise the rate limit of the mount (sys/quotas/rate-limit).",
            )
        return ProviderUnavailable(
            f"{where}: it answers with status {status}", hint="Look into its log; then try again."
        )

    def _unreachable(self, error: requests.RequestException) -> ProviderError:
        where = f"openbao {self.place.address}"
        if isinstance(error, requests.exceptions.SSLError):
            return ProviderMisconfigured(
                f"{where}: its certificate is not trusted",
                hint="Name the certificate of its authority in openbao.ca_file. Verification cannot be switched off.",
            )
        if isinstance(error, requests.exceptions.Timeout):
            return ProviderUnavailable(f"{where}: no answer within {TIMEOUT:.0f} seconds", hint="Try again later.")
        return ProviderUnavailable(
            f"{where}: it cannot be reached", hint="See that it runs, and that openbao.address is right."
        )


class _Adapter(RawAdapter):  # type: ignore[misc]  # hvac comes without types
    """Every request of hvac goes through :meth:`Session.send`."""

    def __init__(self, session: Session) -> None:
        place = session.place
        web = requests.Session()
        web.trust_env = False  # no proxy password, certificate bundle or ~/.netrc of whoever started the program
        web.verify = str(place.ca_file) if place.ca_file else True
        pool = requests.adapters.HTTPAdapter(pool_connections=2, pool_maxsize=POOL)
        web.mount("https://", pool)
        super().__init__(
            base_uri=place.address,
            token=None,
            timeout=TIMEOUT,
            allow_redirects=False,
            session=web,
            namespace=place.namespace,
            ignore_exceptions=True,
        )
        self._owner = session

    def request(self, method: str, url: str, headers: Any = None, raise_exception: Any = None, **more: Any) -> Any:
        """Called by hvac with what a request is made of."""
        del raise_exception
        login = url.startswith("/v1/auth/") and url.endswith("/login")
        send = super().request

        def once(token: Secret | None) -> requests.Response:
            # hvac would keep the token in an attribute; here it is plain for the time of one call.
            given = dict(headers or {})
            if token is not None:
                given["X-Vault-Token"] = token.reveal_text()
            answer: requests.Response = send(method, url, headers=given, raise_exception=False, **more)
            return answer

        once.about_token = url.startswith("/v1/auth/token/")  # type: ignore[attr-defined]
        return self._owner.send(once, quiet=method.lower() in ("post", "put", "patch"), login=login)


def _document(response: requests.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _said(response: requests.Response) -> str:
    """The server's own words, on one line."""
    found = _document(response).get("errors")
    words = " ".join(str(one) for one in found) if isinstance(found, list) else ""
    return " ".join(words.split())


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:6])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
