"""Where `make test` keeps what tests write: a folder that takes files and programs, and the one that was asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.house_rules.repository import ROOT


def folder(**environment: str) -> Path:
    kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    done = subprocess.run(
        [ROOT / "scripts/folder-for-tests"], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return Path(done.stdout.removesuffix("\n"))


def test_it_takes_files_and_programs_and_keeps_nothing_of_the_probe() -> None:
    found = folder()
    assert os.access(found, os.W_OK | os.X_OK)
    if found != Path("/tmp"):
        assert not list(found.glob("identitymesh-probe-*"))


def test_who_asks_for_a_folder_gets_it(tmp_path: Path) -> None:
    assert folder(TMPDIR=str(tmp_path)) == tmp_path
