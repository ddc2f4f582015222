"""The bytes and the text of one file, watched while they pass."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from identitymesh.connectors.kinds.csv.settings import CsvObject
from identitymesh.errors import ConnectorError, ConnectorMisconfigured, PermissionDenied, Unreachable

BLOCK: Final = 1 << 18  # bytes
LONGEST_LINE: Final = 16 << 20  # bytes; what has no line break for so long is no file of rows
_SHA256_DIGITS: Final = 64
_PLACE: Final = 2  # the first parts of a state say which file it is
# Longest first: the mark of UTF-32 begins like that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITH_MARK: Final = ("utf-8", "utf-16", "utf-32")  # families of encodings that may begin with a byte order mark


class WatchedFile(io.BufferedIOBase):
    """An open file that gives its bytes in blocks and notes what they tell.

    ``spoilt``: some bytes so far are not in the encoding. ``ending`` has the last bytes so far.
    """

    def __init__(self, raw: IO[bytes], path: str, encoding: str, *, hashed: bool) -> None:
        self._raw = raw
        self._path = path
        self._encoding = encoding
        self._before = _state(os.fstat(raw.fileno()))
        self._hash = hashlib.sha256() if hashed else None
        self._ascii = _extends_ascii(encoding)
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._line = 0  # bytes since the last line break
        self.spoilt = False
        self.ending = b""

    @property
    def name(self) -> str:
        return self._path

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """The next block. ``size`` is what the caller would like; it takes what it gets."""
        del size
        block = self._raw.read(BLOCK)
        if self._hash is not None:
            self._hash.update(block)
        self._look(block)
        return block

    def feed(self, block: bytes) -> None:
        """Bytes that were read past this object, and belong to the file: its byte order mark."""
        if self._hash is not None:
            self._hash.update(block)

    def _look(self, block: bytes) -> None:
        if block:
            self.ending = block[-4:]
            at = max(block.rfind(b"\n"), block.rfind(b"\r"))
            self._line = self._line + len(block) if at < 0 else len(block) - at
            if self._line > LONGEST_LINE:
                raise ConnectorMisconfigured(
                    f"{self._path} has no line break for {LONGEST_LINE:,} bytes, so it is no file of rows"
                )
        if self.spoilt or (self._ascii and block.isascii() and not self._decoder.getstate()[0]):
            return
        try:
            self._decoder.decode(block, final=not block)
        except UnicodeError:  # also what UTF-16 says of a file without its mark
            self.spoilt = True

    @property
    def sha256(self) -> str:
        """Of all bytes so far, in hexadecimal digits."""
        return "" if self._hash is None else self._hash.hexdigest()

    def ends_with_newline(self) -> bool:
        return self.ending.decode(self._encoding, "ignore").endswith(("\n", "\r"))

    def change(self) -> str:
        """Why what was read is not one state of the file; empty if it is."""
        try:
            there = _state(Path(self._path).stat())
        except OSError:
            return f"{self._path} was removed while it was read"
        if there[:_PLACE] != self._before[:_PLACE]:
            return f"{self._path} was replaced while it was read"
        unchanged = _state(os.fstat(self._raw.fileno())) == self._before
        return "" if unchanged else f"{self._path} was changed while it was read"


@contextmanager
def open_watched(selected: CsvObject) -> Iterator[tuple[WatchedFile, io.TextIOWrapper]]:
    """The file and its text, without a byte order mark; undecodable bytes come as lone surrogates.

    Raises:
        ConnectorError: it is not there, not a file, not readable, or evidently in another encoding.
    """
    path = selected.path
    try:
        with _opened(path) as raw:
            mark, encoding = _byte_order(raw.read(4), selected.encoding, path)
            raw.seek(len(mark))
            hashed = selected.expect is not None and selected.expect.sha256_file is not None
            watched = WatchedFile(raw, path, encoding, hashed=hashed)
            watched.feed(mark)
            # newline="": line breaks inside quotes are values, and the reader of rows must see them as they are
            yield watched, io.TextIOWrapper(watched, encoding, errors="surrogateescape", newline="")
    except OSError as error:
        raise _failure(error, path) from error


def expected_sha256(path: str) -> str:
    """What a file of ``sha256sum`` says: its first word.

    Raises:
        ConnectorError: there is no such file, or it does not begin with a SHA-256.
    """
    try:
        with _opened(path) as raw:
            words = raw.read(2 * _SHA256_DIGITS).decode("ascii", "replace").split()
    except OSError as error:
        raise _failure(error, path) from error
    found = words[0].lower().lstrip("\\") if words else ""
    if len(found) != _SHA256_DIGITS or not set(found) <= set("0123456789abcdef"):
        raise ConnectorMisconfigured(
            f"{path} does not begin with a SHA-256", hint="Write it with `sha256sum people.csv > people.csv.sha256`."
        )
    return found


def _opened(path: str) -> IO[bytes]:
    if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for
        raise ConnectorMisconfigured(f"{path} is not a file", hint="Check the path in the definition.")
    return Path(path).open("rb", buffering=0)


def _failure(error: OSError, path: str) -> ConnectorError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(f"there is no file {path}", hint="Check the path, and whether the file was delivered.")
    if isinstance(error, PermissionError):
        return PermissionDenied(f"{path} may not be read", hint="Allow the user that runs Identity Mesh to read it.")
    return Unreachable(f"{path} cannot be read: {os.strerror(error.errno or 0)}")


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _byte_order(beginning: bytes, encoding: str, path: str) -> tuple[bytes, str]:
    """The mark that the file begins with (empty: none), and the encoding of what follows.

    Raises:
        ConnectorMisconfigured: the mark is that of another encoding.
    """
    name = codecs.lookup(encoding).name
    mark, marked = next(((mark, other) for mark, other in _MARKS if beginning.startswith(mark)), (b"", ""))
    if not mark:
        return b"", name.removesuffix("-sig")
    family = next((one for one in _WITH_MARK if name.startswith(one)), "")
    if family and marked.startswith(family) and not (name.endswith(("-le", "-be")) and name != marked):
        return mark, marked
    if not family and marked != "utf-8":  # þÿ is possible text of a national encoding, though hardly meant
        return b"", name
    raise ConnectorMisconfigured(
        f"{path} begins with the byte order mark of {marked}, but its encoding is said to be {encoding}",
        hint=f"Set `encoding: {marked}`.",
    )


def _extends_ascii(encoding: str) -> bool:
    sample = bytes(range(128))
    try:
        return sample.decode(encoding) == sample.decode("ascii")
    except UnicodeDecodeError:
        return False
