"""A loopback OpenBao of our own: KV version 2, AppRole, tokens and namespaces over HTTPS, in memory, with its bad days.

What it answers was compared with OpenBao 2.4.0 by the suite that runs against both (``make interop``). What to know:

* A mount that does not exist, a path that has never been written, an empty folder: all 404, with different ``errors``.
* A deleted or destroyed version is a 404, too, with its metadata beside ``data: null``.
* ``custom_metadata`` belongs to the path, not to a version, and is written by a call of its own.
* A token that is wrong, expired or used up is a 403 as a policy's refusal is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from tests.servers.authority import Authority, IssuedCertificate
from tests.servers.https import Answer, HttpsServer, Request
from tests.servers.process import private_folder

MOUNT = "secret"
NEVER = ""
ALL = ("create", "read", "update", "delete", "list")


@dataclass
class Version:
    data: dict[str, Any]
    created: str
    deleted: str = NEVER
    destroyed: bool = False

    @property
    def document(self) -> dict[str, Any]:
        return {"created_time": self.created, "deletion_time": self.deleted, "destroyed": self.destroyed}


@dataclass
class Entry:
    versions: dict[int, Version] = field(default_factory=dict)
    current: int = 0
    custom: dict[str, str] | None = None
    max_versions: int = 0
    created: str = ""


@dataclass
class Token:
    """``rules``: capabilities by the start of a path (``secret/data/...``); ``None``: root."""

    expires: float = float("inf")
    renewable: bool = False
    period: float = 0.0
    rules: Mapping[str, tuple[str, ...]] | None = None


@dataclass
class Role:
    secret_ids: set[str]
    seconds: float = 3600.0
    renewable: bool = True
    rules: Mapping[str, tuple[str, ...]] | None = None


Handled = Callable[[str, str, Request, dict[str, Entry]], Answer]


def moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def errors(status: int, *messages: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {"errors": list(messages)}, headers or {})


def denied() -> Answer:
    return errors(403, "1 error occurred:\n\t* permission denied\n\n")


NOTHING = Answer(404, {"errors": []})
DONE = Answer(204)


class OpenBaoServer:
    """``fault`` is asked first; what it answers is sent instead. ``mounts`` by name of namespace and mount."""

    def __init__(
        self,
        authority: Authority,
        *,
        port: int = 0,
        max_versions: int = 0,
        certificate: IssuedCertificate | None = None,
    ) -> None:
        self.authority = authority
        self.root = f"s.{uuid.uuid4().hex}"
        self.tokens: dict[str, Token] = {self.root: Token()}
        self.roles: dict[str, Role] = {}
        self.mounts: dict[tuple[str, str], dict[str, Entry]] = {("", MOUNT): {}}
        self.max_versions = max_versions
        self.detailed = True  # HashiCorp's has no list with metadata
        self.sealed = False
        self.fault: Callable[[Request], Answer | None] = lambda _request: None
        self.logins = 0
        self.renewals = 0
        self._lock = threading.RLock()
        self.http = HttpsServer(self.answer, certificate or authority.issue(), port=port)

    @classmethod
    def start(cls, folder: Path, *, max_versions: int = 0) -> Self:
        return cls(Authority.create(folder), max_versions=max_versions)

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def ca_file(self) -> Path:
        return self.authority.file

    @property
    def asked(self) -> list[Request]:
        return self.http.asked

    @property
    def kv(self) -> dict[str, Entry]:
        return self.mounts["", MOUNT]

    def stop(self) -> None:
        self.http.stop()

    # What a test arranges

    def token(self, **more: Any) -> str:
        """One more token."""
        name = f"s.{uuid.uuid4().hex}"
        self.tokens[name] = Token(**more)
        return name

    def role(self, **more: Any) -> tuple[str, str]:
        """One more AppRole: its role id, and a secret id."""
        role_id, secret_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.roles[role_id] = Role({secret_id}, **more)
        return role_id, secret_id

    def fail(self, times: int, answer: Answer) -> None:
        """Answer the next requests so."""
        left = [times]

        def fault(_request: Request) -> Answer | None:
            with self._lock:
                left[0] -= 1
                return answer if left[0] >= 0 else None

        self.fault = fault

    def cut_after(self, times: int) -> None:
        """After so many more requests every connection is cut."""
        left = [times]

        def fault(_request: Request) -> Answer | None:
            with self._lock:
                left[0] -= 1
                return Answer(cut=True) if left[0] < 0 else None

        self.fault = fault

    def write(self, path: str, data: dict[str, Any], tags: dict[str, str] | None = None) -> None:
        """One more version, without a request."""
        entry = self.kv.setdefault(path, Entry(created=moment(), custom=tags))
        entry.current += 1
        entry.versions[entry.current] = Version(data, moment())

    # Answers

    def answer(self, request: Request) -> Answer:
        arranged = self.fault(request)
        if arranged is not None:
            return arranged
        path = request.path.removeprefix("/v1/")
        if path == "sys/health":
            return Answer(503 if self.sealed else 200, {"initialized": True, "sealed": self.sealed, "standby": False})
        if self.sealed:
            return errors(503, "Vault is sealed")
        with self._lock:
            if path.startswith("auth/") and path.endswith("/login"):
                return self._login(request.document)
            return self._known(request, path)

    def _known(self, request: Request, path: str) -> Answer:
        """What a token may ask for."""
        name = request.headers.get("x-vault-token", "")
        token = self.tokens.get(name)
        if token is None or token.expires <= time.monotonic():
            return errors(403, "permission denied")
        if path.startswith("auth/token/"):
            return self._token(path.removeprefix("auth/token/"), name, token)
        if path == "sys/capabilities-self":
            found = {one: capabilities(token, one) for one in request.document["paths"]}
            return Answer(200, {"data": found, **found})
        return self._mounted(request, path, token)

    def _login(self, given: dict[str, str]) -> Answer:
        role = self.roles.get(given.get("role_id", ""))
        if role is None or given.get("secret_id") not in role.secret_ids:
            return errors(400, "invalid role or secret ID")
        self.logins += 1
        lasts = time.monotonic() + role.seconds
        name = self.token(expires=lasts, renewable=role.renewable, period=role.seconds, rules=role.rules)
        return Answer(200, {"auth": self._auth(name)})

    def _auth(self, name: str) -> dict[str, Any]:
        token = self.tokens[name]
        return {"client_token": name, "lease_duration": round(token.period), "renewable": token.renewable}

    def _token(self, call: str, name: str, token: Token) -> Answer:
        if call == "lookup-self":
            ttl = 0 if token.expires == float("inf") else max(0, round(token.expires - time.monotonic()))
            return Answer(200, {"data": {"id": name, "ttl": ttl, "renewable": token.renewable}})
        if call == "renew-self":
            if not token.renewable:
                return errors(400, "lease is not renewable")
            self.renewals += 1
            token.expires = time.monotonic() + token.period
            return Answer(200, {"auth": self._auth(name)})
        return errors(404, "unsupported path")

    def _mounted(self, request: Request, path: str, token: Token) -> Answer:
        mount, _, rest = path.partition("/")
        call, _, key = rest.partition("/")
        space = request.headers.get("x-vault-namespace", "").strip("/")
        if space not in {name for name, _mount in self.mounts}:
            return errors(404, "namespace not found")
        entries = self.mounts.get((space, mount))
        if entries is None:
            return errors(404, f'no handler for route "{path}". route entry not found.')
        method = "LIST" if request.query.get("list") == "true" else request.method
        if needed(method) not in capabilities(token, path) and "root" not in capabilities(token, path):
            return denied()
        return self._engine(call, method, key, request, entries)

    def _engine(self, call: str, method: str, key: str, request: Request, entries: dict[str, Entry]) -> Answer:
        kinds: dict[str, Handled] = {"data": self._data, "metadata": self._metadata, "delete": self._delete}
        if call in kinds:
            return kinds[call](method, key, request, entries)
        if call == "config":
            return Answer(200, {"data": {"max_versions": self.max_versions, "delete_version_after": "0s"}})
        if call == "detailed-metadata" and self.detailed:
            return listed(entries, key, detailed=True)
        versions = {"undelete": undelete, "destroy": destroy}.get(call)
        if versions is None:
            return Answer(404, {"data": None, "warnings": ["Invalid path for a versioned K/V secrets engine."]})
        if key in entries:
            versions(entries[key], request.document["versions"])
        return DONE

    def _data(self, method: str, key: str, request: Request, entries: dict[str, Entry]) -> Answer:
        entry = entries.get(key)
        if method == "GET":
            return NOTHING if entry is None else read(entry, int(request.query.get("version") or 0))
        if method == "DELETE":
            return self._delete("POST", key, request, entries, latest=True)
        document = request.document
        current = entry.current if entry else 0
        wanted = document.get("options", {}).get("cas")
        if wanted is not None and wanted != current:
            return errors(400, "check-and-set parameter did not match the current version")
        entry = entries.setdefault(key, Entry(created=moment()))
        entry.current += 1
        entry.versions[entry.current] = version = Version(document["data"], moment())
        most = max(entry.max_versions, self.max_versions) or 10
        for number in [number for number in entry.versions if number <= entry.current - most]:
            del entry.versions[number]
        return Answer(200, {"data": {"version": entry.current, "custom_metadata": entry.custom, **version.document}})

    def _metadata(self, method: str, key: str, request: Request, entries: dict[str, Entry]) -> Answer:
        if method == "LIST":
            return listed(entries, key)
        if method == "DELETE":
            entries.pop(key, None)
            return DONE
        if method == "GET":
            return NOTHING if key not in entries else metadata(entries[key])
        entry = entries.setdefault(key, Entry(created=moment()))
        given = request.document
        entry.custom = given.get("custom_metadata", entry.custom)
        entry.max_versions = given.get("max_versions", entry.max_versions)
        return DONE

    def _delete(
        self, _method: str, key: str, request: Request, entries: dict[str, Entry], *, latest: bool = False
    ) -> Answer:
        entry = entries.get(key)
        if entry is not None:
            numbers = [entry.current] if latest else request.document["versions"]
            for number in numbers:
                version = entry.versions.get(number)
                if version is not None and not version.deleted:
                    version.deleted = moment()
        return DONE


def needed(method: str) -> str:
    return {"GET": "read", "LIST": "list", "DELETE": "delete"}.get(method, "update")


def capabilities(token: Token, path: str) -> list[str]:
    if token.rules is None:
        return ["root"]
    found = [set(given) for start, given in token.rules.items() if path.startswith(start)]
    return sorted(set().union(*found)) if found else ["deny"]


def read(entry: Entry, number: int) -> Answer:
    number = number or entry.current
    version = entry.versions.get(number)
    if version is None:
        return NOTHING
    about = {"version": number, "custom_metadata": entry.custom, **version.document}
    if version.deleted or version.destroyed:
        return Answer(404, {"data": {"data": None, "metadata": about}})
    return Answer(200, {"data": {"data": version.data, "metadata": about}})


def metadata(entry: Entry) -> Answer:
    return Answer(200, {"data": metadata_of(entry)})


def metadata_of(entry: Entry) -> dict[str, Any]:
    versions = {str(number): version.document for number, version in entry.versions.items()}
    return {
        "versions": versions,
        "current_version": entry.current,
        "oldest_version": min(entry.versions, default=0),
        "custom_metadata": entry.custom,
        "max_versions": entry.max_versions,
        "cas_required": False,
        "delete_version_after": "0s",
        "created_time": entry.created,
        "updated_time": entry.created,
    }


def listed(entries: dict[str, Entry], folder: str, *, detailed: bool = False) -> Answer:
    start = f"{folder.rstrip('/')}/" if folder else ""
    names = set()
    for key in entries:
        if key.startswith(start):
            first, slash, _rest = key[len(start) :].partition("/")
            names.add(first + slash)
    if not names:
        return NOTHING
    data: dict[str, Any] = {"keys": sorted(names)}
    if detailed:
        known = {name: entries.get(f"{start}{name}") for name in names}
        data["key_info"] = {name: metadata_of(entry) if entry else {} for name, entry in known.items()}
    return Answer(200, {"data": data})


def undelete(entry: Entry, numbers: list[int]) -> None:
    for number in numbers:
        version = entry.versions.get(number)
        if version is not None and not version.destroyed:
            version.deleted = NEVER


def destroy(entry: Entry, numbers: list[int]) -> None:
    for number in numbers:
        version = entry.versions.get(number)
        if version is not None:
            version.destroyed = True
            version.data = {}


def main() -> None:
    """In a process of its own, until its standard input ends; the first line of output says where it is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-versions", type=int, default=0)
    chosen = parser.parse_args()
    folder = private_folder("openbao")
    server = OpenBaoServer.start(folder, max_versions=chosen.max_versions)
    sys.stdout.write(json.dumps({"url": server.url, "token": server.root, "ca_file": str(server.ca_file)}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
