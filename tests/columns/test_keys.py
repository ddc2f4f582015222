"""Key files: made once, for their owner alone, and looked at again at each load."""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from identitymesh.columns import keys
from identitymesh.columns.keys import create_key, load_key, make_key
from identitymesh.errors import ColumnKeyExists, ColumnKeyMissing, ColumnKeyUnsafe
from identitymesh.redaction import Secret
from tests.secrets.decoder import hkdf


def test_a_key_has_32_bytes_and_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0, 0o777):
        path = tmp_path / f"umask {umask}.key"
        before = os.umask(umask)
        try:
            create_key(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_bytes()) == 32


def test_it_is_private_from_its_first_moment_exclusive_and_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.key"
    calls: list[tuple[object, ...]] = []
    real_open, real_sync = os.open, os.fsync

    def opened(name: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        handle = real_open(name, flags, mode, **more)
        if Path(name) == path and flags & os.O_CREAT:
            calls.append(("made", oct(stat.S_IMODE(path.stat().st_mode)), bool(flags & os.O_EXCL), path.stat().st_size))
        return handle

    def synced(handle: int) -> None:
        what = os.fstat(handle)
        calls.append(("synced", "folder" if stat.S_ISDIR(what.st_mode) else what.st_size))
        real_sync(handle)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    before = os.umask(0)
    try:
        create_key(path)
    finally:
        os.umask(before)
    assert calls == [("made", "0o600", True, 0), ("synced", 32), ("synced", "folder")]


def test_what_exists_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    before = path.read_bytes()
    with pytest.raises(ColumnKeyExists, match="left as it is"):
        create_key(path)
    assert path.read_bytes() == before
    link = tmp_path / "link.key"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ColumnKeyExists):
        create_key(link)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ColumnKeyMissing, match="no folder"):
        create_key(tmp_path / "no folder" / "a.key")


def test_of_many_that_make_the_same_key_one_wins(tmp_path: Path) -> None:
    path, made, refused = tmp_path / "a.key", [], []

    def make() -> None:
        try:
            made.append(create_key(path).id)
        except ColumnKeyExists:
            refused.append(1)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    assert made == [load_key(path).id]


def test_what_a_killed_maker_left_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.touch(0o600)
    with pytest.raises(ColumnKeyUnsafe, match="empty"):
        load_key(path)
    assert create_key(path).id == load_key(path).id


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"k" * size)
    path.chmod(0o600)
    with pytest.raises(ColumnKeyUnsafe):
        load_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o700, 0o620])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    path.chmod(mode)
    with pytest.raises(ColumnKeyUnsafe, match="mode") as raised:
        load_key(path)
    assert f"chmod 600 {path}" in raised.value.hint


def test_links_folders_and_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    (tmp_path / "soft").symlink_to(path)
    with pytest.raises(ColumnKeyUnsafe, match="symbolic link"):
        load_key(tmp_path / "soft")
    with pytest.raises(ColumnKeyUnsafe, match="not a regular file"):
        load_key(tmp_path)
    os.link(path, tmp_path / "hard")
    with pytest.raises(ColumnKeyUnsafe, match="2 hard links"):
        load_key(path)
    (tmp_path / "hard").unlink()
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)
    with pytest.raises(ColumnKeyUnsafe, match="belongs to user id 12345"):
        load_key(path)


def test_a_missing_key_is_never_made(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(ColumnKeyMissing, match="no key file"):
        load_key(path)
    assert list(tmp_path.iterdir()) == []


def test_loads_are_logged_without_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.key"
    create_key(path)
    caplog.set_level(logging.DEBUG)
    key = load_key(path)
    assert f"key {key.id} loaded from {path}" in caplog.text
    raw = path.read_bytes()
    for secret in (raw.hex(), repr(raw)[2:-1], key.sealing.secret.reveal().hex()):
        assert secret not in caplog.text + repr(key)


def test_known_answers_from_32_bytes() -> None:
    """HKDF-SHA-256 without salt; the formats page lists these."""
    raw = bytes(range(32))
    key = make_key(Path("k"), Secret(raw))

    def derived(purpose: str, size: int) -> bytes:
        return hkdf(raw, bytes(32), b"identitymesh/columns/1/" + purpose.encode(), size)

    assert key.id == derived("key-id", 4).hex() == "c44b7998"
    assert key.check == derived("key-check", 32).hex()
    assert key.sealing.keyset_id == derived("keyset-id", 16)
    assert key.sealing.secret.reveal() == derived("sealed-value", 32)
    assert key.fingerprinting.reveal() == derived("fingerprint", 32)
    assert key.raw.reveal() == raw
    assert keys.KEY_BYTES == 32
