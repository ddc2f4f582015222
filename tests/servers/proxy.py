"""A TCP proxy that stands before a server and breaks the line on command: cut, stalled, slow, an answer lost.

It knows no protocol. What happens is switched at any time, also while connections are open; a switch is obeyed within
the twentieth of a second.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self

_TICK: Final = 0.05  # seconds
_PIECE: Final = 65_536  # bytes

State = Literal["open", "cut", "stalled"]


class Proxy:
    """Listens on 127.0.0.1 and passes on to ``host:port``. Use it in a ``with``."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TICK)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._state: State = "open"
        self._pause = 0.0
        self._answers_left: int | None = None
        self._stalls = False
        self._cut_at: Callable[[bytes], bool] | None = None
        self._delivered = True
        self._for_good = False
        self.cuts = 0  # made by cut_at
        self._last: int | None = None
        self._ended = False
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    # -- what happens on the line --------------------------------------------------

    def open(self) -> None:
        """Everything passes again."""
        self._state, self._pause, self._answers_left, self._cut_at = "open", 0.0, None, None

    def cut(self) -> None:
        """Connections break, and new ones break at once."""
        self._state = "cut"

    def stall(self) -> None:
        """Connections stay open, new ones too, and nothing passes."""
        self._state = "stalled"

    def slow(self, seconds: float) -> None:
        """Each piece waits so long."""
        self._pause = seconds

    def cut_after(self, answered: int) -> None:
        """The line breaks when the server has answered so many bytes from now on."""
        self._stalls = False
        self._answers_left = answered

    def stall_after(self, answered: int) -> None:
        """Nothing passes any more when the server has answered so many bytes from now on."""
        self._stalls = True
        self._answers_left = answered

    def cut_at(
        self,
        request: bytes | Callable[[bytes], bool],
        *,
        delivered: bool = True,
        times: int | None = None,
        for_good: bool = False,
    ) -> None:
        """The line breaks when a request has these bytes, or when the function says so; ``cuts`` counts.

        With ``delivered`` the server carries the request out and its answer never arrives, else it never hears of it.
        After ``times`` everything passes again; without, after :meth:`open`. ``for_good``: after one nothing does.
        """
        self._delivered, self._for_good = delivered, for_good
        self._last = None if times is None else self.cuts + times
        self._cut_at = (lambda piece: request in piece) if isinstance(request, bytes) else request

    # -- the line --------------------------------------------------------------------

    def close(self) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._pass, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass(self, client: socket.socket) -> None:
        if self._is("cut"):
            client.close()
            return
        try:
            server = socket.create_connection(self._server, timeout=10)
        except OSError:
            client.close()
            return
        with client, server:
            self._pump(client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        answer_is_lost = False
        while not self._ended and not self._is("cut"):
            if self._is("stalled"):
                time.sleep(_TICK)
                continue
            ready, _, _ = select.select([client, server], [], [], _TICK)
            for side in ready:
                piece = _receive(side)
                time.sleep(self._pause)
                if side is client and piece and self._is_cut_at(piece):
                    if not self._delivered:
                        return
                    answer_is_lost = True
                if answer_is_lost and side is server and self._for_good:
                    self.cut()
                if not piece or (answer_is_lost and side is server):
                    return
                if not self._send(piece, server if side is client else client, answers=side is server):
                    return

    def _is(self, state: State) -> bool:
        return self._state == state

    def _is_cut_at(self, request: bytes) -> bool:
        if self._cut_at is None or not self._cut_at(request):
            return False
        self.cuts += 1
        if self.cuts == self._last:
            self._cut_at = None
        return True

    def _send(self, piece: bytes, to: socket.socket, *, answers: bool) -> bool:
        """Whether the line still stands."""
        left = self._answers_left
        whole = not answers or left is None or len(piece) < left
        if not whole:
            piece = piece[:left]
        try:
            to.sendall(piece)
        except OSError:
            return False
        if answers and left is not None:
            self._answers_left = left - len(piece)
        if not whole and self._stalls:
            self._state = "stalled"
        return whole or self._stalls


def _receive(side: socket.socket) -> bytes:
    try:
        return side.recv(_PIECE)
    except OSError:
        return b""
