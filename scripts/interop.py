"""`make interop`: the contract of providers against real servers, built here and started on loopback.

    scripts/interop.py                   every server that this machine can build or start
    scripts/interop.py openbao -k list   one of them; what follows goes to pytest

Servers are kept in a cache folder (TESTS_INTEROP_CACHE, else ~/.cache/identitymesh-interop), never in the repository.
docs/howto/interop.md says more.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = {"openbao": ["tests/secrets/providers"]}

# OpenBao 2.4.0. Its main module has no versions of its own in Go's sense, so the commit stands here.
OPENBAO = "github.com/openbao/openbao"
OPENBAO_VERSION = "v0.0.0-20250828202315-f9407a27fbee"
START_SECONDS = 60


class Missing(Exception):
    """A program that a server needs is not on this machine."""


def cache() -> Path:
    named = os.environ.get("TESTS_INTEROP_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "identitymesh-interop"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def need(program: str, reason: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Missing(f"{program} is not installed: {reason}")
    return found


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], environment: Mapping[str, str], answers: Callable[[], bool]) -> Iterator[None]:
    """A server until the block ends; its output goes into the cache."""
    log = cache() / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start; see {log}")
            time.sleep(0.1)
        yield
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def answers_with_tls(url: str, authority: Path) -> bool:
    try:
        context = ssl.create_default_context(cafile=str(authority))
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 - our own https address
            return bool(answer.status == 200)
    except (OSError, ssl.SSLError):
        return False


def build_openbao() -> Path:
    """The program, from its Go module; built once, which takes minutes. It comes without its web interface."""
    program = cache() / f"bao-{OPENBAO_VERSION}"
    if program.exists():
        return program
    go = need("go", "OpenBao is built from its Go module")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    found = subprocess.run(
        [go, "mod", "download", "-json", f"{OPENBAO}@{OPENBAO_VERSION}"],
        stdout=subprocess.PIPE,
        check=True,
        cwd=cache(),
    )
    source = Path(json.loads(found.stdout)["Dir"])
    print(f"building OpenBao in {cache()}; the first time this takes some minutes", flush=True)
    with tempfile.TemporaryDirectory(dir=cache()) as place:
        copy = Path(place) / "source"
        shutil.copytree(source, copy)
        for one in [copy, *copy.rglob("*")]:  # the module cache is read-only
            one.chmod(one.stat().st_mode | 0o200)
        # Beside it in its repository, but modules of their own: their released versions take the place of the folders.
        edited = subprocess.run([go, "mod", "edit", "-json"], cwd=copy, stdout=subprocess.PIPE, check=True)
        for one in json.loads(edited.stdout).get("Replace") or []:
            subprocess.run([go, "mod", "edit", f"-dropreplace={one['Old']['Path']}"], cwd=copy, check=True)
        result = Path(place) / "bao"
        build = [go, "build", "-mod=mod", "-p=1", "-trimpath", "-ldflags=-s -w", "-o", str(result), "."]
        subprocess.run(["nice", "-n", "19", *build], cwd=copy, env=environment, check=True)
        result.rename(program)
    return program


@contextmanager
def openbao() -> Iterator[dict[str, str]]:
    """A server in development mode, with TLS of its own, and what the suite needs to know of it."""
    program = build_openbao()
    with tempfile.TemporaryDirectory(prefix="im-bao-") as place:
        address, token = f"127.0.0.1:{free_port()}", secrets.token_hex(16)
        authority = Path(place) / "vault-ca.pem"
        command = [str(program), "server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={place}"]
        command += [f"-dev-listen-address={address}", "-dev-no-store-token"]
        environment = {"BAO_DEV_ROOT_TOKEN_ID": token, "HOME": place}
        url = f"https://{address}"
        with running(command, environment, lambda: answers_with_tls(f"{url}/v1/sys/health", authority)):
            yield {
                "IDENTITYMESH_TEST_OPENBAO_ADDR": url,
                "IDENTITYMESH_TEST_OPENBAO_TOKEN": token,
                "IDENTITYMESH_TEST_OPENBAO_CACERT": str(authority),
            }


SERVERS = {"openbao": openbao}


def main(arguments: list[str]) -> int:
    chosen = arguments[:1] if arguments[:1] and arguments[0] in SERVERS else list(SERVERS)
    more = arguments[1:] if arguments[:1] == chosen and chosen[0] in arguments[:1] else arguments
    code = 0
    for name in chosen:
        try:
            with SERVERS[name]() as environment:
                print(f"{name} runs", flush=True)
                command = [sys.executable, "-m", "pytest", *SUITES[name], *more]
                code |= subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
        except Missing as reason:
            print(f"{name} is left out: {reason}", flush=True)
            code |= 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
