"""A server as a child process: its own folder and process group, ready when it answers, gone when the test is over."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

START_SECONDS = 60.0
STOP_SECONDS = 10.0


class ServerFailed(Exception):
    """The server ended, or did not answer in time; the message holds the end of its log."""


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def need(program: str, package: str, *, places: Sequence[str] = ()) -> str:
    """The full path of a program. Without it the test is skipped, and the reason names the package that has it."""
    found = shutil.which(program, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    return found


def private_folder(name: str) -> Path:
    """A new folder with a short path, because a socket in it may have 107 bytes at most."""
    return Path(tempfile.mkdtemp(prefix=f"im-{name}-"))


@dataclass(slots=True)
class ServerProcess:
    """One running server. `signal_to_stop` is what it takes for an orderly end; SIGKILL follows if it does not."""

    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None
    signal_to_stop: signal.Signals = signal.SIGTERM
    child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self.child is None:
            msg = "the server has not been started"
            raise ServerFailed(msg)
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def start(self, answers: Callable[[], bool]) -> Self:
        """Start it and wait until `answers` is true: a real answer in the server's own protocol, not an open port."""
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [*self._ends_with_parent(), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self.child.poll() is not None or time.monotonic() > deadline:
                state = "did not answer" if self.child.poll() is None else f"ended with {self.child.returncode}"
                self.stop()
                msg = f"{Path(self.argv[0]).name} {state}; its log ends:\n{self.log_tail()}"
                raise ServerFailed(msg)
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.send_signal(self.signal_to_stop)
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self.child.wait()

    def kill(self) -> None:
        """SIGKILL, as a power cut does it: nothing is written any more."""
        if self.child is not None and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def log_tail(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _ends_with_parent(self) -> list[str]:
        """When the test session is killed the kernel ends the server too; only Linux has this."""
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", self.signal_to_stop.name.removeprefix("SIG")] if setpriv else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
