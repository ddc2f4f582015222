"""Starts the CRM of the demonstration, and looks into it as anybody else would: over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

SERVER: Final = Path(__file__).with_name("crm_server.py")
START_COMMAND: Final = '''\
#!/usr/bin/env python3
"""Brings the CRM of the demonstration back, with everybody in it under the same ids. Ctrl-C ends it."""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
os.execv(sys.executable, [sys.executable, {server!r}, os.path.join(here, "crm")])
'''
PAGE: Final = 250


class Crm:
    """The service as a child process. It ends with this process, however that ends."""

    def __init__(self, folder: Path, token: str) -> None:
        self._token = token
        self._child = subprocess.Popen(
            [sys.executable, str(SERVER), str(folder), "--new"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder.parent / "crm.log").open("w"),
            text=True,
        )
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise TypeError("both are pipes")
        stdin.write(f"{token}\n")  # not an argument: the process list would show it
        stdin.flush()
        self.url = stdout.readline().split(" ")[0]
        if not self.url.startswith("http"):
            raise SystemExit(f"the CRM did not start; see {folder.parent / 'crm.log'}")

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def people(self) -> list[dict[str, Any]]:
        """Everybody it holds, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(f"{self.url}/Users?startIndex={len(found) + 1}&count={PAGE}")
            found += page.get("Resources", [])
            if not page.get("Resources") or len(found) >= page["totalResults"]:
                return found

    def _get(self, url: str) -> dict[str, Any]:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            content: dict[str, Any] = json.load(answer)
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def write_start_command(path: Path) -> None:
    """The one command that brings the service back."""
    path.write_text(START_COMMAND.format(server=str(SERVER.resolve())), encoding="utf-8")
    path.chmod(0o755)
