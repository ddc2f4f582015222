"""A fork of this process that does one piece of work and hands back its answer.

A fork, and not a new program: key and password are in it already, and go through no file, pipe or argument.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, Generic, Self, TypeVar, cast

from identitymesh.columns.sweeping import Progress
from identitymesh.errors import ColumnsError, MeshError

T = TypeVar("T")
Piece = Callable[[Progress], T]
_STEP, _ANSWER, _FAILURE = range(3)


class Fork(Generic[T]):
    """At work from its beginning on; use it in a ``with``, which ends it.

    The work may use nothing that this process has open, writes nothing, and calls its progress often: that is where it
    ends when this process is gone. What it answers is pickled.
    """

    def __init__(self, piece: Piece[T]) -> None:
        self._pipe, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_run, args=(piece, theirs, os.getpid()), daemon=True)
        self._done = 0
        self._ended: tuple[int, Any] | None = None
        with warnings.catch_warnings():
            # Python 3.12 warns of other threads. There is one that draws progress, and the fork draws none.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def done(self) -> int:
        """How far it is; does not wait."""
        self.ended(0)
        return self._done

    def ended(self, seconds: float) -> bool:
        """Whether it has answered, or does within some seconds; comes back at every step that it makes meanwhile."""
        while self._ended is None and self._pipe.poll(seconds):
            self._receive()
            seconds = 0
        return self._ended is not None

    def answer(self) -> T:
        """Wait for its end.

        Raises:
            MeshError: what the work raised.
        """
        while self._ended is None:
            self._receive()
        kind, told = self._ended
        if kind == _FAILURE:
            error, message, hint = told
            raise error(message, hint=hint)
        return cast("T", told)

    def _receive(self) -> None:
        try:
            kind, told = self._pipe.recv()
        except EOFError:
            kind, told = _FAILURE, (ColumnsError, "a process that shared the work ended early", _AGAIN)
        if kind == _STEP:
            self._done = told
        else:
            self._ended = kind, told


_AGAIN: Final = "Run the same command again: nothing was changed by it."


def _run(piece: Piece[Any], pipe: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one is told, and ends it

    def step(done: int) -> None:
        if os.getppid() != parent:
            os._exit(1)
        pipe.send((_STEP, done))

    try:
        told = _ANSWER, piece(step)
    except MeshError as error:
        told = _FAILURE, (type(error), error.message, error.hint)
    pipe.send(told)
