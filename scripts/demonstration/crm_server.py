"""The CRM of the demonstration: scim2-server on loopback, with a memory that outlives it.

    crm_server.py FOLDER          serve what the folder holds
    crm_server.py FOLDER --new    make the folder; the first line of standard input is the bearer token,
                                  and the server ends when standard input does

The folder holds the port, a salted hash of the token (never the token) and a journal of all
resources, one JSON line for each write. Ctrl-C or SIGTERM ends it; a kill loses nothing either.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

from scim2_models import Resource, ResourceType, ScimProvider, UnauthorizedException
from scim2_server.applications.wsgi import WSGIApplication
from scim2_server.memory import InMemoryStorage
from scim2_server.requests import ScimRequest
from scim2_server.testserver.application import BEARER_TOKEN_SCHEME
from scim2_server.testserver.cli import ThreadingWSGIServer
from scim2_server.utils import load_default_resource_types, load_default_schemas, load_default_service_provider_config

HOST: Final = "127.0.0.1"
SETTINGS: Final = "crm.json"
JOURNAL: Final = "journal.jsonl"


class RememberingStorage(InMemoryStorage):
    """Writes down every change before it is answered, and begins with what was written down."""

    def __init__(self, journal: Path, provider: ScimProvider) -> None:
        super().__init__()
        self.resources = list(_remembered(journal, provider).values())
        self._journal: TextIO = journal.open("a", encoding="utf-8")
        self._epoch = f"{time.time_ns():x}"

    def next_version(self) -> str:
        """Unique over restarts: the counter alone begins again, and an ETag would mean two states."""
        return f'W/"{self._epoch}-{next(self.versions)}"'

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Store a new resource under an id of its own."""
        with self.lock:
            made = super().create(resource_type, resource)
            self._write(made)
            return made

    def update(
        self, resource_type: ResourceType, resource: Resource[Any], *, expected_version: str | None = None
    ) -> Resource[Any]:
        """Replace a resource."""
        with self.lock:
            changed = super().update(resource_type, resource, expected_version=expected_version)
            self._write(changed)
            return changed

    def delete(self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None) -> None:
        """Forget a resource."""
        with self.lock:
            super().delete(resource_type, resource_id, expected_version=expected_version)
            self._line({"deleted": resource_id})

    def _write(self, resource: Resource[Any]) -> None:
        meta = resource.meta
        self._line({"type": meta.resource_type if meta else "User", "resource": resource.model_dump(scim_ctx=None)})

    def _line(self, content: dict[str, Any]) -> None:
        self._journal.write(json.dumps(content, ensure_ascii=False, default=str) + "\n")
        self._journal.flush()


def _remembered(journal: Path, provider: ScimProvider) -> dict[str, Resource[Any]]:
    found: dict[str, Resource[Any]] = {}
    if not journal.exists():
        return found
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # cut short by a kill: its answer was never given
            content = json.loads(line)
            if "deleted" in content:
                found.pop(content["deleted"], None)
                continue
            model = provider.model_for(content["type"])
            resource = model.model_validate(content["resource"]) if model else None
            if isinstance(resource, Resource) and resource.id:
                found[resource.id] = resource
    return found


class HashedTokenApplication(WSGIApplication):
    """Lets in who shows the token, and knows its hash alone."""

    def __init__(self, storage: InMemoryStorage, provider: ScimProvider, salt: str, digest: str) -> None:
        super().__init__(storage, provider)
        self._salt = salt
        self._digest = digest

    def check_auth(self, request: ScimRequest) -> None:
        """Refuse everybody else."""
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(self._salt, token), self._digest):
            raise UnauthorizedException


class QuietHandler(WSGIRequestHandler):
    """No line on standard error for every request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it overrides
        """Say nothing."""


def _digest(salt: str, token: str) -> str:
    # The token is 32 random bytes, so one round of SHA-256 is as good as many.
    return hashlib.sha256(f"{salt}{token}".encode()).hexdigest()


def _make(folder: Path, token: str) -> None:
    folder.mkdir(mode=0o700)
    salt = os.urandom(16).hex()
    settings = {"port": 0, "salt": salt, "token_sha256": _digest(salt, token)}
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def serve(folder: Path, *, until_input_ends: bool = False) -> int:
    """Serve until told to stop. The first port is a free one, and then it stays."""
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    config = load_default_service_provider_config()
    config.authentication_schemes = [*(config.authentication_schemes or []), BEARER_TOKEN_SCHEME]
    provider = ScimProvider.from_discovery(
        load_default_schemas().values(), load_default_resource_types().values(), config=config
    )
    storage = RememberingStorage(folder / JOURNAL, provider)
    application = HashedTokenApplication(storage, provider, settings["salt"], settings["token_sha256"])
    try:
        server = make_server(
            HOST, settings["port"], application, server_class=ThreadingWSGIServer, handler_class=QuietHandler
        )
    except OSError as error:
        sys.stderr.write(f"port {settings['port']} cannot be used: {error.strerror}; is the CRM running already?\n")
        return 1
    with server:
        (folder / SETTINGS).write_text(json.dumps(settings | {"port": server.server_port}), encoding="utf-8")
        print(
            f"http://{HOST}:{server.server_port}/v2 serves {len(storage.resources)} people; Ctrl-C ends it", flush=True
        )
        signal.signal(signal.SIGTERM, _stop)
        if until_input_ends:  # whoever started it is gone then, however that happened
            threading.Thread(target=_stop_later, args=(server,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.05)
        except KeyboardInterrupt:
            return 0
    return 0


def _stop_later(server: ThreadingWSGIServer) -> None:
    sys.stdin.read()
    server.shutdown()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Read the two arguments."""
    parser = argparse.ArgumentParser(description="The CRM of the demonstration, a SCIM service on loopback.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--new", action="store_true", help="make the folder; token on standard input")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.new:
        _make(options.folder, sys.stdin.readline().rstrip("\n"))
    return serve(options.folder, until_input_ends=options.new)


if __name__ == "__main__":
    sys.exit(main())
