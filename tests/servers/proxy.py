"""A TCP proxy that cuts a connection when the client says a word: before the server hears it, or after."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class CuttingProxy:
    """``word``: the bytes at which it cuts; empty: never. ``delivered``: whether the server still hears them.

    With ``delivered`` the server's answer is awaited, and not passed on.
    """

    host: str
    port: int  # of the server
    word: bytes = b""
    delivered: bool = True
    cuts: int = 0
    listener: socket.socket = field(default_factory=socket.socket)

    @property
    def own_port(self) -> int:
        found: int = self.listener.getsockname()[1]
        return found

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((self.host, self.port))
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.word and self.word in data:
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)  # nothing of the answer arrives
                    if self.delivered:
                        server.sendall(data)
                    break
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR if self.word and self.delivered else socket.SHUT_RDWR)


def _pump(server: socket.socket, client: socket.socket) -> None:
    """Pass on what the server says until it ends; then both are closed."""
    with server, client, contextlib.suppress(OSError):
        while data := server.recv(65536):
            with contextlib.suppress(OSError):
                client.sendall(data)


@contextlib.contextmanager
def cutting_proxy(host: str, port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(host, port)
    proxy.listener.bind(("127.0.0.1", 0))
    proxy.listener.listen()
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.listener.close()
