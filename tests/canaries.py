"""Looks for values where none may be, in eight families of spellings."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

SHORTEST = 10  # bytes of a spelling; less could stand anywhere by chance


def _base64(value: bytes, alphabet: bytes = b"+/") -> Iterator[bytes]:
    """As it looks inside of something larger: at each of three alignments, without what neighbours share."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value, alphabet)
        first = (before * 8 + 5) // 6
        yield encoded[first : (before + len(value)) * 8 // 6]


def _text_forms(text: str) -> Iterator[tuple[str, bytes]]:
    yield "percent", quote(text, safe="").encode()
    yield "percent", quote_plus(text).encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON", json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield "JSON", repr(text)[1:-1].encode()
    yield "UTF-16", text.encode("utf-16-le")
    yield "UTF-16", text.encode("utf-16-be")
    yield "reversed", text[::-1].encode()


def spellings(value: bytes) -> Iterator[tuple[str, bytes]]:
    """Family and bytes: raw, base64, base64url, hex, percent, JSON or repr, UTF-16, reversed or as numbers."""
    yield "raw", value
    yield from (("base64", one) for one in _base64(value))
    yield from (("base64url", one) for one in _base64(value, b"-_"))
    yield "hex", value.hex().encode()
    yield "hex", value.hex().upper().encode()
    yield "percent", "".join(f"%{byte:02x}" for byte in value).encode()
    yield "percent", "".join(f"%{byte:02X}" for byte in value).encode()
    yield "JSON", repr(value)[2:-1].encode()
    yield "numbers", ", ".join(map(str, value)).encode()
    yield "numbers", ",".join(map(str, value)).encode()
    yield "reversed", value[::-1]
    with suppress(UnicodeDecodeError):
        yield from _text_forms(value.decode())


@dataclass
class Canaries:
    """Values by name, and a search for all their spellings at once."""

    values: dict[str, bytes] = field(default_factory=dict)
    _forms: dict[bytes, str] = field(default_factory=dict)

    def add(self, name: str, value: bytes | str) -> None:
        self.values[name] = value.encode() if isinstance(value, str) else value
        self._forms = {}

    def found(self, data: bytes | str, *, without: frozenset[str] = frozenset()) -> set[str]:
        """``name: spelling`` of what is in there, also when it is split over lines; but not of ``without``."""
        content = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        if not self._forms:
            self._forms = {
                form: f"{name}: {family}"
                for name, value in self.values.items()
                for family, form in spellings(value)
                if len(form) >= SHORTEST
            }
        joined = re.sub(rb"[\s\\]*\n\s*", b"", content)
        hits = {name for form, name in self._forms.items() if form in content or form in joined}
        return {hit for hit in hits if hit.partition(":")[0] not in without}


def with_locals(error: BaseException) -> Iterator[tuple[str, str]]:
    """What a crash reporter would send: of every link of the chain, place and text of each local variable."""
    link: BaseException | None = error
    while link is not None:
        yield type(link).__name__, f"{link!r} {link} {link.args} {vars(link)}"
        for frame, _line in traceback.walk_tb(link.__traceback__):
            where = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
            for name, local in list(frame.f_locals.items()):
                with suppress(Exception):  # a repr may fail
                    yield f"{where}, {name}", repr(local)
        link = link.__cause__ or link.__context__


@dataclass
class Watched:
    """What was seen of processes and of files while something ran."""

    found: set[str] = field(default_factory=set)
    processes: set[int] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


@contextmanager
def watching(canaries: Canaries, folder: Path, allowed: Mapping[str, frozenset[str]]) -> Iterator[Watched]:
    """Sample arguments and environment of this process's new children, and every file in ``folder``, until the end.

    ``allowed`` says which values a file may hold, by its name.
    """
    seen, stop, here = Watched(), threading.Event(), os.getpid()
    before = set(_below(here))

    def look() -> None:
        rounds = 0
        while not stop.wait(0.004):
            for pid in set(_below(here, without=before)):
                seen.processes.add(pid)
                for kind in ("cmdline", "environ"):
                    with suppress(OSError):
                        content = Path(f"/proc/{pid}/{kind}").read_bytes()
                        seen.found |= {f"{kind} of a child: {hit}" for hit in canaries.found(content)}
            rounds += 1
            if rounds % 100 == 0:
                files(canaries, folder, allowed, seen)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        files(canaries, folder, allowed, seen)


def files(canaries: Canaries, folder: Path, allowed: Mapping[str, frozenset[str]], seen: Watched) -> None:
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                seen.files.add(path.name)
                hits = canaries.found(path.read_bytes(), without=allowed.get(path.name, frozenset()))
                seen.found |= {f"file {path.name}: {hit}" for hit in hits}


def _below(pid: int, without: frozenset[int] | set[int] = frozenset()) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if int(child) not in without:
                    yield int(child)
                    yield from _below(int(child), without)
