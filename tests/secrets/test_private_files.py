"""Files that are replaced while they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from identitymesh.redaction import Secret
from identitymesh.secrets import private_files
from identitymesh.secrets.private_files import UnsafeFile, create_private, read_private, replace_private

MODE = 0o600


def test_a_file_replaced_between_its_opening_and_its_check_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "anchor"
    create_private(path, Secret(b"old"), mode=MODE)
    stat = os.fstat
    replaced: list[int] = []

    def replace_then_stat(handle: int) -> Any:
        if not replaced:
            replaced.append(handle)
            monkeypatch.setattr(os, "fstat", stat)
            replace_private(path, Secret(b"new"), mode=MODE)
        return stat(handle)

    monkeypatch.setattr(os, "fstat", replace_then_stat)

    assert read_private(path, modes=(MODE,), max_bytes=10).reveal() == b"new"
    assert replaced


def test_a_file_replaced_each_time_is_refused_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "anchor"
    create_private(path, Secret(b"old"), mode=MODE)
    opened = private_files._open

    def open_then_replace(named: Path) -> int:
        handle = opened(named)
        replace_private(path, Secret(b"new"), mode=MODE)
        return handle

    monkeypatch.setattr(private_files, "_open", open_then_replace)

    with pytest.raises(UnsafeFile, match="replaced again and again"):
        read_private(path, modes=(MODE,), max_bytes=10)
