"""Web servers on loopback that do what a well-behaved SCIM service cannot be made to do."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # by lower-case name
    body: bytes
    port: int  # of the client

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """``delay``: seconds before it; ``drip``: seconds between its bytes; ``cut``: bytes sent before the line is cut."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: int | None = None

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class WebServer:
    url: str
    asked: list[Asked]

    def paths(self, method: str | None = None) -> list[str]:
        return [one.path for one in self.asked if method is None or one.method == method]


Answering = Callable[[Asked], Reply]


def _handler(answering: Answering, asked: list[Asked]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            one = Asked(self.command, parts.path, query, headers, body, self.client_address[1])
            asked.append(one)
            self._send(answering(one))

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.delay)
            content = reply.encoded()
            if reply.cut == 0:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/scim+json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if reply.drip:
                for at in range(len(content)):
                    self.wfile.write(content[at : at + 1])
                    self.wfile.flush()
                    time.sleep(reply.drip)
                return
            self.wfile.write(content[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  names of the library

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  name of the library
            pass

    return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what several tests are about."""


@contextmanager
def web_server(answering: Answering, *, tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    asked: list[Asked] = []
    server = _Quiet(("127.0.0.1", 0), _handler(answering, asked))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield WebServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """The context of a server on 127.0.0.1, and the file of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "server.pem", folder / "server.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return context, certificate_file


Resource = dict[str, Any]


@dataclass
class Service:
    """A small SCIM service. Each of ``quirks`` may answer instead of it; the first that does wins."""

    people: list[Resource] = field(default_factory=list)
    patch: bool = True
    quirks: list[Callable[[Asked], Reply | None]] = field(default_factory=list)
    largest_page: int = 1000

    def __call__(self, asked: Asked) -> Reply:
        for quirk in self.quirks:
            reply = quirk(asked)
            if reply is not None:
                return reply
        if asked.path == "/ServiceProviderConfig":
            able = {name: {"supported": True} for name in ("filter", "etag")}
            return Reply(body={**able, "patch": {"supported": self.patch}})
        if asked.path == "/Users":
            return self._users(asked)
        if asked.path.startswith("/Users/"):
            return self._user(asked, asked.path.removeprefix("/Users/"))
        return Reply(404, {"detail": "no such endpoint"})

    def _users(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            person = {**asked.document, "id": str(len(self.people) + 1), "meta": {"version": 'W/"1"'}}
            self.people.append(person)
            return Reply(201, person)
        start, count = int(asked.query.get("startIndex", 1)), int(asked.query.get("count", 1000))
        shown = self.people[start - 1 :][: min(count, self.largest_page)]
        return Reply(body={"totalResults": len(self.people), "startIndex": start, "Resources": shown})

    def _user(self, asked: Asked, key: str) -> Reply:
        person = next((person for person in self.people if person.get("id") == key), None)
        if person is None:
            return Reply(404, {"detail": "gone"})
        if asked.method == "PUT":
            person.update(asked.document)
        elif asked.method == "DELETE":
            self.people.remove(person)
            return Reply(204)
        return Reply(body=person)


def people(count: int) -> list[Resource]:
    return [{"id": str(number), "userName": f"u{number}"} for number in range(1, count + 1)]
