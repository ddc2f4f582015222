"""A real SCIM 2.0 service provider: the `scim2-server` command, in memory, each with a bearer token of its own.

What to know about it (0.8.3):

* `/Users` and `/v2/Users` both answer, but `location` always says `/v2/Users`; `base_url` here ends in `/v2`.
* HTTP/1.0 of the standard library's server: the connection is closed after each answer, so a client never reuses one.
* It supports everything it can: bulk, PATCH, filter, ETag with If-Match (412), 409 for a `userName` that exists.
* The token is an argument of its command, so every user of the machine can read it while a test runs. Written
  with `=`, because a token that starts with a dash would be taken for an option.
* Only SIGINT lets it end by itself; `--dump-resources FILE` is written then, and with no other signal.
* It forgets everything when it ends: a fresh server is an empty directory. A start takes a second of a processor,
  so tests take over the server of an earlier one, emptied.
"""

import http.client
import json
import secrets
import shutil
import signal
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.servers.process import ServerFailed, ServerProcess, free_port, need, private_folder

HOST = "127.0.0.1"
START_ATTEMPTS = 3


@dataclass(slots=True)
class ScimServer:
    base_url: str
    token: str = field(repr=False)
    port: int
    process: ServerProcess
    folder: Path
    spent: bool = False  # what may still arrive there was sent by a test that is over

    @property
    def pid(self) -> int:
        return self.process.pid

    @classmethod
    def start(cls, *, options: Sequence[str] = ()) -> Self:
        """`options` are further arguments of the command, such as `--service-provider-config FILE`."""
        program = need("scim2-server", "none; PyPI package scim2-server", places=[sysconfig.get_path("scripts")])
        folder = private_folder("scim")
        token = secrets.token_urlsafe(24)
        try:
            return cls._start_on_a_free_port([program, f"--bearer-token={token}", *options], folder, token)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def _start_on_a_free_port(cls, command: list[str], folder: Path, token: str) -> Self:
        for attempt in range(1, START_ATTEMPTS + 1):
            port = free_port()
            argv = [*command, "--hostname", HOST, "--port", str(port)]
            process = ServerProcess(argv, folder / "log", signal_to_stop=signal.SIGINT)
            server = cls(f"http://{HOST}:{port}/v2", token, port, process, folder)
            try:
                process.start(server._answers)
            except ServerFailed as failure:  # somebody else may have taken the port since it was free
                if attempt == START_ATTEMPTS or "Address already in use" not in str(failure):
                    raise
                continue
            return server
        raise AssertionError

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def empty(self) -> None:
        """Remove every user and group, as a fresh server has none."""
        for kind in ("Users", "Groups"):
            while found := self._ask("GET", f"/{kind}?count=1000")["Resources"]:
                for one in found:
                    self._ask("DELETE", f"/{kind}/{one['id']}")

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, f"/v2{path}", headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            msg = f"{method} {path}: {answer.status} {content.decode(errors='replace')}"
            raise ServerFailed(msg)
        return json.loads(content or "{}")

    def _answers(self) -> bool:
        """With the right token: another server on this port would refuse it."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/v2/Users?count=0", headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
