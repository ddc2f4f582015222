"""Azure on loopback: a token authority, the endpoint of managed identities, and key vaults with secrets and keys.

Written after the REST reference of Key Vault and what the SDK really sends. It shows our code against the SDK,
not against Azure: `make interop` compares it with another double. What to know about it:

* A vault at ``https://127.0.0.1:PORT`` says that its resource is ``https://0.0.1:PORT``: so the SDK's own check, that
  the host of the vault lies below the resource, stays on, and each vault is a resource of its own.
* A token says for whom and for what it is; a vault takes only its own.
* ``Weather`` is what can go wrong. It is asked before each answer.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers.authority import Authority
from tests.servers.https import Answer, HttpsServer, Request

TENANT = "5f7b8b1e-0000-4000-8000-000000000001"
PAGE = 25
MAX_VALUE = 25 * 1024
RECOVERABLE = {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}


@dataclass(frozen=True)
class Grant:
    client: str
    resource: str
    until: float


@dataclass
class Entra:
    """Issues tokens: to clients with a secret or an assertion over HTTPS, and without either to this machine."""

    clients: dict[str, str] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    lifetime: int = 3600
    issued: int = 0

    def start(self, authority: Authority) -> HttpsServer:
        self.server = HttpsServer(self.answer, authority.issue())
        return self.server

    def issue(self, client: str, resource: str) -> dict[str, Any]:
        self.issued += 1
        token = f"token-{uuid.uuid4()}"
        self.grants[token] = Grant(client, resource.removesuffix("/.default").rstrip("/"), time.time() + self.lifetime)
        return {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": token}

    def answer(self, request: Request) -> Answer:
        here = self.server.url
        if request.path.endswith("/.well-known/openid-configuration"):
            tenant = request.path.split("/")[1]
            return Answer(
                body={
                    "issuer": f"{here}/{tenant}/v2.0",
                    "token_endpoint": f"{here}/{tenant}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{here}/{tenant}/oauth2/v2.0/authorize",
                    "jwks_uri": f"{here}/{tenant}/discovery/v2.0/keys",
                    "tenant_region_scope": "EU",
                }
            )
        if request.path.endswith("/oauth2/v2.0/token"):
            return self._token({name: values[0] for name, values in parse_qs(request.body.decode()).items()})
        return Answer(404, {"error": "not_found"})

    def _token(self, form: dict[str, str]) -> Answer:
        client = form.get("client_id", "")
        proof = form.get("client_secret") or form.get("client_assertion")
        if client not in self.clients or (proof != self.clients[client] and "client_assertion" not in form):
            words = "AADSTS7000215: Invalid client secret provided."
            return Answer(401, {"error": "invalid_client", "error_description": words, "error_codes": [7000215]})
        return Answer(body=self.issue(client, form["scope"].split()[0]))


class Imds:
    """The endpoint of managed identities, plain HTTP. ``broken``: the status that it answers instead."""

    def __init__(self, entra: Entra, client: str) -> None:
        self.broken: int | None = None
        self.asked = 0
        imds = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                imds.asked += 1
                query = parse_qs(urlsplit(self.path).query)
                if imds.broken is not None or self.headers.get("Metadata") != "true":
                    status = imds.broken or 400
                    body = {"error": "invalid_request", "error_description": "Identity not found"}
                else:
                    resource = query["resource"][0]
                    status, body = 200, {**entra.issue(client, resource), "resource": resource}
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  name of the library
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Weather:
    """What goes wrong. ``answers`` are given one by one, and then no more; ``answer`` to everything."""

    delay: float = 0.0
    cut_after: int | None = None
    answer: Answer | None = None
    answers: deque[Answer] = field(default_factory=deque)
    denied: set[str] = field(default_factory=set)  # get, set, list, delete, recover, purge, wrap, unwrap
    revoked: set[str] = field(default_factory=set)  # clients
    challenge: str | None = None
    settle: int = 0  # how many times a delete, recovery or purge is asked for before it is seen
    purge_protection: bool = False

    def before(self) -> Answer | None:
        if self.cut_after is not None:
            if self.cut_after <= 0:
                return Answer(cut=True)
            self.cut_after -= 1
        if self.answers:
            return self.answers.popleft()
        return self.answer


@dataclass
class Stored:
    """One version of a secret."""

    version: str
    value: str
    tags: dict[str, str] | None
    content_type: str | None
    created: int
    enabled: bool = True


@dataclass
class StoredKey:
    version: str
    key: rsa.RSAPrivateKey
    created: int
    enabled: bool = True
    expires: int | None = None


Handler = Callable[[Request, str, list[str]], Answer]


class KeyVault:
    """One vault. ``secrets`` and ``keys`` by name, the newest version last; ``gone`` is what was deleted."""

    def __init__(self, entra: Entra, authority: Authority, *, port: int = 0) -> None:
        self.entra = entra
        self.weather = Weather()
        self.secrets: dict[str, list[Stored]] = {}
        self.keys: dict[str, list[StoredKey]] = {}
        self.gone: dict[str, list[Stored]] = {}
        self.gone_keys: dict[str, list[StoredKey]] = {}
        self._settling: dict[tuple[str, str], int] = {}
        self._lock = threading.RLock()
        self.server = HttpsServer(self.answer, authority.issue(), port=port)
        self.url = self.server.url
        self.resource = f"https://0.0.1:{self.server.port}"

    @property
    def asked(self) -> list[Request]:
        return self.server.asked

    def stop(self) -> None:
        self.server.stop()

    # As operators do it

    def set_outside(self, name: str, value: str, tags: dict[str, str] | None = None) -> str:
        with self._lock:
            stored = Stored(uuid.uuid4().hex, value, tags, None, int(time.time()))
            self.secrets.setdefault(name, []).append(stored)
            return stored.version

    def make_key(self, name: str) -> str:
        with self._lock:
            made = StoredKey(uuid.uuid4().hex, rsa.generate_private_key(65537, 2048), int(time.time()))
            self.keys.setdefault(name, []).append(made)
            return f"{self.url}/keys/{name}/{made.version}"

    @contextmanager
    def when(self, **weather: Any) -> Iterator[None]:
        before = self.weather
        self.weather = Weather(**weather)
        yield
        self.weather = before

    # Answers

    def answer(self, request: Request) -> Answer:
        weather = self.weather
        with self._lock:
            spoilt = weather.before()
        if spoilt is not None:
            return spoilt
        if weather.delay:
            time.sleep(weather.delay)
        refused = self._unauthorised(request, weather)
        if refused is not None:
            return refused
        parts = request.path.strip("/").split("/")
        handler = _ROUTES.get(parts[0])
        if handler is None or not request.query.get("api-version"):
            return _error(404, "NotFound", "no such resource")
        with self._lock:
            return handler(self, request, parts[1:])

    def _unauthorised(self, request: Request, weather: Weather) -> Answer | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        grant = self.entra.grants.get(token)
        if grant is None or grant.resource != self.resource or grant.until < time.time():
            told = weather.challenge or (
                f'Bearer authorization="{self.entra.server.url}/{TENANT}", resource="{self.resource}"'
            )
            error = _error(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            return Answer(401, error.body, {"WWW-Authenticate": told})
        if grant.client in weather.revoked:
            return _error(
                403, "Forbidden", "Caller is not authorized to perform action on resource.", "ForbiddenByRbac"
            )
        return None

    def _may(self, action: str) -> Answer | None:
        if action not in self.weather.denied:
            return None
        words = f"The user, group or application does not have secrets {action} permission on key vault."
        return _error(403, "Forbidden", words, "AccessDenied")

    def _secrets(self, request: Request, parts: list[str]) -> Answer:
        if not parts:
            return self._may("list") or self._list(request, "secrets", self.secrets)
        name = parts[0]
        if parts[1:] == ["versions"]:
            return self._may("list") or self._list_versions(request, name)
        if request.method == "PUT":
            return self._may("set") or self._set(name, request.document)
        if request.method == "DELETE":
            return self._may("delete") or self._delete(name)
        if request.method == "PATCH":
            return self._may("set") or self._update(name, parts[1], request.document)
        return self._may("get") or self._get(name, parts[1] if len(parts) > 1 else "")

    def _get(self, name: str, version: str) -> Answer:
        versions = [] if self._is_settling("recover", name) else self.secrets.get(name, [])
        found = [one for one in versions if version in ("", one.version)]
        if not found:
            return _not_found("Secret", name, version)
        if not found[-1].enabled:
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return Answer(body=self._bundle(name, found[-1]))

    def _set(self, name: str, document: dict[str, Any]) -> Answer:
        if name in self.gone:
            state = "ObjectIsBeingDeleted" if self._is_settling("delete", name) else "ObjectIsDeletedButRecoverable"
            return _error(409, "Conflict", f"Secret {name} is currently in a deleted state.", state)
        if self._is_settling("purge", name):
            return _error(409, "Conflict", f"Secret {name} is currently being purged.", "ObjectIsBeingPurged")
        if len(document.get("value", "")) > MAX_VALUE or len(document.get("tags") or {}) > 15:
            return _error(400, "BadParameter", "Property has invalid value.")
        content = document.get("contentType")
        stored = Stored(uuid.uuid4().hex, document["value"], document.get("tags"), content, int(time.time()))
        self.secrets.setdefault(name, []).append(stored)
        return Answer(body=self._bundle(name, stored))

    def _update(self, name: str, version: str, document: dict[str, Any]) -> Answer:
        found = [one for one in self.secrets.get(name, []) if one.version == version]
        if not found:
            return _not_found("Secret", name, version)
        found[0].enabled = document.get("attributes", {}).get("enabled", found[0].enabled)
        found[0].tags = document.get("tags", found[0].tags)
        return Answer(body=self._bundle(name, found[0]))

    def _delete(self, name: str) -> Answer:
        if name not in self.secrets:
            return _not_found("Secret", name, "")
        self.gone[name] = self.secrets.pop(name)
        self._settling["delete", name] = self.weather.settle
        return Answer(body=self._deleted_bundle(name))

    def _deleted(self, request: Request, parts: list[str]) -> Answer:
        if not parts:
            return self._may("list") or self._list(request, "deletedsecrets", self.gone)
        name = parts[0]
        if name not in self.gone or self._is_settling("delete", name):
            return _not_found("DeletedSecret", name, "")
        if parts[1:] == ["recover"]:
            return self._may("recover") or self._recover(name)
        if request.method == "DELETE":
            return self._may("purge") or self._purge(name)
        return self._may("get") or Answer(body=self._deleted_bundle(name))

    def _recover(self, name: str) -> Answer:
        self.secrets[name] = self.gone.pop(name)
        self._settling["recover", name] = self.weather.settle
        return Answer(body=self._bundle(name, self.secrets[name][-1], value=False))

    def _purge(self, name: str) -> Answer:
        if self.weather.purge_protection:
            return _error(403, "Forbidden", "Operation purge is not allowed on this vault.", "ForbiddenByPolicy")
        del self.gone[name]
        self._settling["purge", name] = self.weather.settle
        return Answer(204)

    def _is_settling(self, what: str, name: str) -> bool:
        left = self._settling.get((what, name), 0)
        self._settling[what, name] = left - 1
        return left > 0

    # Lists

    def _list(self, request: Request, kind: str, found: dict[str, list[Stored]]) -> Answer:
        def item(name: str) -> dict[str, Any]:
            return self._item(kind, name, found[name][-1], versioned=False)

        return self._page(request, f"/{kind}", sorted(name for name, versions in found.items() if versions), item)

    def _list_versions(self, request: Request, name: str) -> Answer:
        # In no order that means anything, as the service does it.
        found = sorted(self.secrets.get(name, []), key=lambda one: one.version)
        if not found:
            return _not_found("Secret", name, "")
        return self._page(
            request, f"/secrets/{name}/versions", found, lambda one: self._item("secrets", name, one, versioned=True)
        )

    def _page(self, request: Request, path: str, items: list[Any], show: Callable[[Any], dict[str, Any]]) -> Answer:
        size = min(int(request.query.get("maxresults", PAGE)), PAGE)
        start = int(request.query.get("$skiptoken", 0))
        version, end = request.query["api-version"], start + size
        link = (
            f"{self.url}{path}?api-version={version}&$skiptoken={end}&maxresults={size}" if end < len(items) else None
        )
        shown = [show(one) for one in items[start:end]]
        return Answer(body={"value": shown, "nextLink": link if end < len(items) else None})

    def _item(self, kind: str, name: str, one: Stored, *, versioned: bool) -> dict[str, Any]:
        ending = f"/{one.version}" if versioned else ""
        item = {"id": f"{self.url}/secrets/{name}{ending}", "attributes": _attributes(one.created, one.enabled)}
        item |= {"tags": one.tags} if one.tags else {}
        item |= {"contentType": one.content_type} if one.content_type else {}
        return item | (self._when_deleted(name) if kind == "deletedsecrets" else {})

    def _bundle(self, name: str, one: Stored, *, value: bool = True) -> dict[str, Any]:
        return self._item("secrets", name, one, versioned=True) | ({"value": one.value} if value else {})

    def _deleted_bundle(self, name: str) -> dict[str, Any]:
        return self._bundle(name, self.gone[name][-1], value=False) | self._when_deleted(name)

    def _when_deleted(self, name: str) -> dict[str, Any]:
        now = int(time.time())
        recovery = f"{self.url}/deletedsecrets/{name}"
        return {"recoveryId": recovery, "deletedDate": now, "scheduledPurgeDate": now + 90 * 86400}

    # Keys

    def _keys(self, request: Request, parts: list[str]) -> Answer:
        name, version = parts[0], parts[1] if len(parts) > 1 else ""
        found = [one for one in self.keys.get(name, []) if version in ("", one.version)]
        if not found:
            return _not_found("Key", name, version)
        if len(parts) > 2:
            action = parts[2].removesuffix("key")
            return self._may(action) or self._use(name, found[-1], action, request.document)
        return self._may("get") or Answer(body=self._key_bundle(name, found[-1]))

    def _key_bundle(self, name: str, one: StoredKey) -> dict[str, Any]:
        numbers = one.key.public_key().public_numbers()
        key = {
            "kid": f"{self.url}/keys/{name}/{one.version}",
            "kty": "RSA",
            "key_ops": ["wrapKey", "unwrapKey"],
            "n": _b64(numbers.n.to_bytes(256, "big")),
            "e": _b64(numbers.e.to_bytes(3, "big")),
        }
        attributes = _attributes(one.created, one.enabled) | ({"exp": one.expires} if one.expires else {})
        return {"key": key, "attributes": attributes}

    def _use(self, name: str, one: StoredKey, action: str, document: dict[str, Any]) -> Answer:
        if not one.enabled:
            return _error(403, "Forbidden", f"Operation {action} is not allowed on a disabled key.", "KeyDisabled")
        if one.expires is not None and one.expires < time.time() and action == "wrap":
            return _error(403, "Forbidden", "Operation wrap is not allowed on an expired key.", "KeyExpired")
        if document["alg"] != "RSA-OAEP-256":
            return _error(400, "BadParameter", "Property alg has invalid value.")
        value = base64.urlsafe_b64decode(document["value"] + "==")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        try:
            result = one.key.decrypt(value, oaep) if action == "unwrap" else one.key.public_key().encrypt(value, oaep)
        except ValueError:
            return _error(400, "BadParameter", "The parameter is incorrect.")
        return Answer(body={"kid": f"{self.url}/keys/{name}/{one.version}", "value": _b64(result)})


_ROUTES: dict[str, Callable[[KeyVault, Request, list[str]], Answer]] = {
    "secrets": KeyVault._secrets,
    "deletedsecrets": KeyVault._deleted,
    "keys": KeyVault._keys,
}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _attributes(created: int, enabled: bool) -> dict[str, Any]:
    return {"enabled": enabled, "created": created, "updated": created, **RECOVERABLE}


def _error(status: int, code: str, message: str, inner: str | None = None) -> Answer:
    error: dict[str, Any] = {"code": code, "message": message}
    if inner is not None:
        error["innererror"] = {"code": inner}
    return Answer(status, {"error": error})


def _not_found(kind: str, name: str, version: str) -> Answer:
    which = f"{name}/{version}" if version else name
    return _error(404, f"{kind}NotFound", f"A {kind.lower()} with (name/id) {which} was not found in this key vault.")
