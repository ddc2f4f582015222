"""How requests to a vault are made: how long, how often, over which connections; and what is said when they fail.

The one module, with the clients' own, that calls azure-core (the extra ``[azure]``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.core.pipeline.policies import RetryPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import CredentialUnavailableError
from requests import Session
from requests.adapters import HTTPAdapter

from identitymesh.errors import (
    MeshError,
    ProviderDenied,
    ProviderError,
    ProviderMisconfigured,
    ProviderMismatch,
    ProviderRefused,
    ProviderUnavailable,
    SecretBroken,
    SecretError,
)
from identitymesh.secrets.azure.settings import AzureKeyVaultSettings

CONNECTIONS: Final = 16
CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 20
RETRIES: Final = 3
PATIENCE: Final = 15.0  # a longer Retry-After is not waited for, but told
TRANSIENT: Final = (408, 429, 500, 502, 503, 504)
MAX_TEXT: Final = 300


class Patience(RetryPolicy[Any, Any]):
    """Waits as the service asks, but not for ever; and then with all connections, so that no storm is answered by one.

    Only this policy is new: what is tried again, and how often, is the SDK's own.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            retry_total=RETRIES, retry_status=RETRIES, retry_backoff_factor=0.4, retry_backoff_max=5, **options
        )
        self._lock = threading.Lock()
        self._not_before = 0.0

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        asked = self.get_retry_after(response)
        if asked is not None and asked > PATIENCE:
            return False
        return response.http_response.status_code in TRANSIENT and bool(super().is_retry(settings, response))

    def sleep(self, settings: dict[str, Any], transport: Any, response: Any = None) -> None:
        asked = self.get_retry_after(response) if response is not None else None
        wait = asked or self.get_backoff_time(settings)
        if asked:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + asked)
        if wait > 0:
            transport.sleep(wait)

    def send(self, request: Any) -> Any:
        with self._lock:
            wait = self._not_before - time.monotonic()
        if wait > 0:
            request.context.transport.sleep(min(wait, PATIENCE))
        return super().send(request)


class OnlyThere(SansIOHTTPPolicy[Any, Any]):
    """Asks nobody but one host. A page of a list says where the next one is: that may not lead elsewhere."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc.lower()

    def on_request(self, request: Any) -> None:
        host = urlsplit(request.http_request.url).netloc.lower()
        # With and without the default port it is the same host.
        if host.removesuffix(":443") != self._host.removesuffix(":443"):
            raise ProviderMismatch(
                f"{self._host}: it sends us on to another host ({host[:100]}); nobody was asked there",
                hint="Correct azure_key_vault.vault_uri: what answers there is not this vault.",
            )


def options(settings: AzureKeyVaultSettings) -> dict[str, Any]:
    """What every pipeline is given: the SDK's own checks of certificates and challenges stay on."""
    found: dict[str, Any] = {
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": ANSWER_SECONDS,
        "retry_total": RETRIES,
        "retry_backoff_max": 5,
        "logging_enable": False,
    }
    if settings.ca_file is not None:
        found["connection_verify"] = str(settings.ca_file)
    return found


def for_clients(url: str, given: dict[str, Any]) -> dict[str, Any]:
    """What every client of a vault is given besides; ``given`` are :func:`options`."""
    return {
        "transport": _transport(given),
        "retry_policy": Patience(),
        "permit_redirects": False,
        "per_call_policies": [OnlyThere(url)],
    }


def _transport(given: dict[str, Any]) -> Any:
    """Connections that are kept alive, as many as are used at once."""
    session = Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
    names = ("connection_timeout", "read_timeout", "connection_verify")
    return RequestsTransport(session=session, **{name: given[name] for name in names if name in given})


@contextmanager
def translated(where: str, *, quiet: bool = False) -> Iterator[None]:
    """Turn errors of the SDK into our own, with its own words. ``quiet``: without them, a value could be repeated.

    What is not found passes through: what that means, the caller knows.
    """
    try:
        yield
    except (MeshError, ResourceNotFoundError):
        raise
    except (AzureError, ValueError, OSError) as error:
        raise _translate(where, error, quiet=quiet) from None


def _translate(where: str, error: Exception, *, quiet: bool) -> SecretError:
    text = f"{where}: {_words(error, quiet=quiet)}"
    if isinstance(error, CredentialUnavailableError):
        return ProviderUnavailable(text, hint=_CREDENTIAL)
    if isinstance(error, ClientAuthenticationError):
        return ProviderDenied(text, hint=_REFUSED)
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _answered(where, text, error, int(error.status_code))
    if isinstance(error, ValueError) and "challenge" in str(error):
        return ProviderMismatch(
            f"{where}: it asks for a token of another resource; none was asked for or sent",
            hint="Correct azure_key_vault.vault_uri: what answers there is not this vault.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        text = f"{where}: its certificate is not trusted; see azure_key_vault.ca_file"
    return ProviderUnavailable(text, hint=_DOWN)


def _answered(where: str, text: str, error: HttpResponseError, status: int) -> SecretError:
    if status in TRANSIENT:
        asked = getattr(error.response, "headers", {}).get("Retry-After", "")[:20]
        return ProviderUnavailable(f"{text} (Retry-After: {asked})" if asked else text, hint=_DOWN)
    if status == 403 and "disabled secret" in str(error):
        return SecretBroken(f"{where}: the current version is disabled", hint="Enable it there, or set a new one.")
    if 300 <= status < 400:
        reason = f"{where}: it answers with a redirect ({status}), which is not followed"
        return ProviderMisconfigured(reason, hint="Correct azure_key_vault.vault_uri.")
    kind, hint = _ANSWERS.get(status, (ProviderRefused, "See what the service says; nothing was changed."))
    return kind(text, hint=hint)


def _words(error: Exception, *, quiet: bool) -> str:
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None)
    code = getattr(getattr(error, "error", None), "code", None) or ""
    head = " ".join(str(part) for part in (status, code) if part)
    if quiet and response is not None:
        return head or type(error).__name__
    said = " ".join(str(getattr(error, "message", None) or error).split())[:MAX_TEXT]
    return f"{type(error).__name__} {head}: {said}" if head else f"{type(error).__name__}: {said}"


def installed(module: str) -> bool:
    """Whether a library of the extra is there, without loading it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_DOWN: Final = (
    "Nothing was changed, and the next run tries again. Check the network, the state of the vault and the name in "
    "azure_key_vault.vault_uri; see docs/howto/azure-key-vault.md."
)
_CREDENTIAL: Final = (
    "What azure_key_vault.credential names is not there, and no other one was tried. Check the identity of this host."
)
_REFUSED: Final = (
    "Check tenant, client and its secret, certificate or identity in azure_key_vault.*; no other credential was tried."
)
_FORBIDDEN: Final = (
    "Give the identity the role `Key Vault Secrets User` on the vault to read, `Key Vault Secrets Officer` to write; "
    "and check the firewall of the vault."
)
_ANSWERS: Final[dict[int, tuple[type[ProviderError], str]]] = {
    401: (ProviderDenied, _REFUSED),
    403: (ProviderDenied, _FORBIDDEN),
    409: (ProviderUnavailable, "It is being deleted, recovered or purged there. Try again in a minute."),
}
