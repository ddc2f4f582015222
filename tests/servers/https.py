"""A small HTTPS server on loopback for services that no test machine has: one thread for each connection.

What to know about it:

* Each answer leaves in one write, and TCP_NODELAY is set: otherwise each costs 40 ms of waiting for an acknowledgement.
* The handshake is done in the thread of the connection, so a client that refuses the certificate holds up nobody.
* ``stop`` closes the connections that are kept alive, as a server that dies does it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # by lower-case name
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True)
class Answer:
    """``delay``: seconds before it. ``cut``: the connection is closed before a byte of it."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answering = Callable[[Request], Answer]


@dataclass(frozen=True)
class Authority:
    """A certificate authority of its own, and a certificate of it for loopback. ``file``: what clients must trust."""

    file: Path
    chain: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        root, root_key = _certificate("test authority", None, None)
        leaf, leaf_key = _certificate("localhost", root, root_key)
        file, chain = folder / "authority.pem", folder / "server.pem"
        file.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        private = leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
        return cls(file, chain)

    def context(self) -> ssl.SSLContext:
        """For the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain)
        return context


def _certificate(
    name: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = issuer_key or key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    return builder.sign(signer, hashes.SHA256()), key


class HttpsServer:
    """Answers until it is stopped. ``asked`` are the requests so far; ``port`` 0 takes a free one."""

    def __init__(self, answering: Answering, authority: Authority, *, port: int = 0) -> None:
        self.asked: list[Request] = []
        self._server = _Server((HOST, port), _handler(answering, self.asked), authority.context())
        self.port: int = self._server.server_port
        self.url = f"https://{HOST}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._connections: set[socket.socket] = set()
        super().__init__(place, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = self._tls.wrap_socket(request, server_side=True)
        except OSError:  # a client that does not trust this server hangs up
            self.shutdown_request(request)
            return
        self._connections.add(secured)
        try:
            super().process_request_thread(secured, client_address)
        finally:
            self._connections.discard(secured)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what several tests are about."""


def _handler(answering: Answering, asked: list[Request]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # buffered: one write for the whole answer

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, unquote(parts.path), query, headers, body)
            asked.append(request)
            self._send(answering(request))

        def _send(self, answer: Answer) -> None:
            if answer.delay:
                time.sleep(answer.delay)
            if answer.cut:
                self.close_connection = True
                return
            content = answer.encoded()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = _answer  # noqa: N815  names of the library

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  name of the library
            pass

    return Handler
