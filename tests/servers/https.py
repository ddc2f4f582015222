"""A small HTTPS server on loopback for services that no test machine has: one thread for each connection.

What to know about it:

* Each answer leaves in one write, and TCP_NODELAY is set: otherwise each costs 40 ms of waiting for an acknowledgement.
* The handshake is done in the thread of the connection, so a client that refuses the certificate holds up nobody.
* ``stop`` closes the connections that are kept alive, as a server that dies does it.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.authority import IssuedCertificate

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


class HttpsServer:
    """Answers until it is stopped. ``asked`` are the requests so far; ``port`` 0 takes a free one."""

    def __init__(self, answering: Answering, certificate: IssuedCertificate, *, port: int = 0) -> None:
        self.asked: list[Request] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        self._server = _Server((HOST, port), _handler(answering, self.asked), context)
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
