"""The real scim2-server on loopback, served from this process, so that a test can put its contents back in no time."""

from __future__ import annotations

import copy
import secrets
import threading
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server

from scim2_models import Resource, ScimProvider
from scim2_server.memory import InMemoryStorage
from scim2_server.testserver.application import BEARER_TOKEN_SCHEME, BearerTokenApplication
from scim2_server.testserver.cli import ThreadingWSGIServer
from scim2_server.utils import load_default_resource_types, load_default_schemas, load_default_service_provider_config

HOST = "127.0.0.1"
OWN = ("id", "meta", "schemas")  # what the server adds; differs from world to world


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that it overrides
        """Say nothing."""


class _Server(ThreadingWSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that were killed in the middle of a request are what this is about."""


class Target:
    """Use in a ``with``."""

    def __init__(self) -> None:
        config = load_default_service_provider_config()
        config.authentication_schemes = [*(config.authentication_schemes or []), BEARER_TOKEN_SCHEME]
        provider = ScimProvider.from_discovery(
            load_default_schemas().values(), load_default_resource_types().values(), config=config
        )
        self.token = secrets.token_urlsafe(24)
        self._storage = InMemoryStorage()
        self._application = BearerTokenApplication(self._storage, provider, bearer_tokens=[self.token])
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/v2"

    def _listen(self) -> None:
        self._server = make_server(
            HOST, self.port, self._application, server_class=_Server, handler_class=_QuietHandler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody listens any more; what it holds is kept."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def start(self) -> None:
        """Again, at the same place."""
        self._listen()
        self._thread.start()

    def snapshot(self) -> list[Resource[Any]]:
        """A copy of what it holds."""
        with self._storage.lock:
            return copy.deepcopy(self._storage.resources)

    def restore(self, snapshot: list[Resource[Any]]) -> None:
        """What a snapshot says, and nothing else."""
        with self._storage.lock:
            self._storage.resources = copy.deepcopy(snapshot)

    def contents(self) -> dict[str, dict[str, Any]]:
        """Accounts by ``externalId``, without what the server adds. No two may have the same."""
        found: dict[str, dict[str, Any]] = {}
        for one in self.snapshot():
            attributes = {name: value for name, value in one.model_dump().items() if name not in OWN}
            person = str(attributes["externalId"])
            assert person not in found, f"two accounts of {person}"
            found[person] = attributes
        return found
