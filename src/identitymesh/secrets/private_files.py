"""Files that only this process's user may read: how they are written and what is refused when reading.

A key in a file is as good as the file's permissions, so nothing is mended here: a file
that is too open, linked, or not ours is refused with the reason in words.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from identitymesh.redaction import Secret

_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
REPLACED: Final = 50  # times in a row that a file may be replaced under our hands before we say so
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class UnsafeFile(Exception):
    """The file may not be trusted; the message says why, without its content."""


def read_private(path: Path, *, modes: Collection[int], max_bytes: int) -> Secret:
    """The content of a regular file with one link, owned by us, with one of ``modes`` exactly.

    Raises:
        FileNotFoundError: there is none.
        UnsafeFile: it is a link, not a regular file, too open, not ours, empty or above ``max_bytes``.
    """
    for _ in range(REPLACED):
        handle = _open(path)
        try:
            found = os.fstat(handle)
            if found.st_nlink == 0:
                continue  # another process put a new file in its place since we opened it: the name leads to that one
            _check(found, modes, max_bytes)
            content = Secret(os.read(handle, max_bytes + 1))
        finally:
            os.close(handle)
        if len(content.reveal()) > max_bytes:
            raise UnsafeFile(f"it has more than {max_bytes} bytes")
        return content
    raise UnsafeFile("it is replaced again and again while it is read")


def _open(path: Path) -> int:
    try:
        return os.open(path, _READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        # ELOOP is what O_NOFOLLOW answers for a symbolic link.
        reason = (
            "it is a symbolic link" if Path(path).is_symlink() else (error.strerror or type(error).__name__).lower()
        )
        raise UnsafeFile(reason) from None


def _check(found: os.stat_result, modes: Collection[int], max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFile("it is not a regular file")
    if found.st_nlink != 1:
        raise UnsafeFile(f"it has {found.st_nlink} hard links; another name leads to the same content")
    if os.name == "posix":
        mode = stat.S_IMODE(found.st_mode)
        if mode not in modes:
            wanted = " or ".join(f"{allowed:04o}" for allowed in modes)
            raise UnsafeFile(f"its mode is {mode:04o}; {wanted} is required")
        if found.st_uid != os.geteuid():
            raise UnsafeFile(f"it belongs to user id {found.st_uid}, and this process runs as {os.geteuid()}")
    if found.st_size == 0:
        raise UnsafeFile("it is empty")
    if found.st_size > max_bytes:
        raise UnsafeFile(f"it has more than {max_bytes} bytes")


def create_private(path: Path, content: Secret, *, mode: int) -> None:
    """Write a new file and make it durable: after a kill or a power cut it is whole, or not there.

    Raises:
        FileExistsError: there is one already; it is left as it is.
    """
    with _alone_in(path.parent):
        if path.exists() or path.is_symlink():
            raise FileExistsError(path)
        _put_in_place(path, path.with_name(f".{path.name}.new"), content, mode)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time makes files in a folder."""
    if os.name != "posix":
        yield
        return
    import fcntl  # there is none on Windows

    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Of several processes that say this of one path, one goes on at a time. The lock is a file beside it."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.name == "posix":
            import fcntl  # there is none on Windows

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_private(path: Path, content: Secret, *, mode: int) -> None:
    """Put new content in place atomically: readers see the old or the new file, also after a power cut."""
    _put_in_place(path, path.with_name(f".{path.name}.{os.getpid()}.new"), content, mode)


def _put_in_place(path: Path, temporary: Path, content: Secret, mode: int) -> None:
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, _CREATE, mode)
    try:
        _write(handle, content, mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _write(handle: int, content: Secret, mode: int) -> None:
    """Write all of it, durably, with exactly this mode whatever the umask; closes the handle."""
    with os.fdopen(handle, "wb") as file:
        if os.name == "posix":
            os.fchmod(file.fileno(), mode)
        file.write(content.reveal())
        file.flush()
        os.fsync(file.fileno())


def sync_directory(folder: Path) -> None:
    """Make names in a folder durable. Windows has no such call and needs none."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
