"""The commands of the runbooks are carried out as they stand there, by a shell."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house_rules.repository import ROOT

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Host:
    """A folder of an installation, and a shell in it that has the command."""

    folder: Path

    def __call__(self, script: str, **variables: str) -> str:
        program = self.folder.parent / "bin" / "identitymesh"
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            start = "from identitymesh.composition import main; main()"
            program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
            program.chmod(0o755)
        environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), **variables}
        done = subprocess.run(
            ["sh", "-euc", script], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@dataclass
class Place:
    """An installation, and what is on its recovery sheet."""

    first: Host
    recovery: str
    fingerprint: str

    def new_host(self, name: str) -> Host:
        folder = self.first.folder.parent / name
        folder.mkdir()
        url = f"sqlite:///{self.first.folder}/identitymesh.db"
        (folder / "identitymesh.toml").write_text(f'[database]\nurl = "{url}"\n')
        (folder / "recovery-key.txt").write_text(f"{self.recovery}\n")
        return Host(folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "first"
    folder.mkdir()
    host = Host(folder)
    lines = host("identitymesh init").splitlines()
    host("printf 'hunter2' | identitymesh secrets set secret://hr/reader")
    return Place(host, lines[0], lines[2].rpartition(" ")[2])


def blocks(page: str) -> list[str]:
    found = BLOCK.findall((ROOT / "docs/howto" / page).read_text())
    assert found, page
    return found


def opens(host: Host) -> bool:
    return "hunter2" in host("identitymesh secrets get secret://hr/reader --force")


def test_a_new_host(place: Place) -> None:
    host = place.new_host("second")
    (script,) = blocks("new-host.md")
    output = host(script, FINGERPRINT=place.fingerprint)
    assert "joined installation" in output
    assert "compared" in output
    assert opens(host)


def test_rotation(place: Place) -> None:
    (script,) = blocks("rotation.md")
    assert "data key 3 is the only one" in place.first(script)
    assert opens(place.first)


def test_an_evicted_host(place: Place) -> None:
    old = place.new_host("old")
    old("identitymesh keys join --label old-host < recovery-key.txt")
    (script,) = blocks("evicted-host.md")
    assert "removed slot" in place.first(script, OLD_HOST="old-host")
    assert opens(place.first)
    with pytest.raises(AssertionError, match="opens none of its slots"):
        opens(old)


def test_a_leaked_key(place: Place) -> None:
    recovery, slot, data_key = blocks("leaked-key.md")
    place.first("identitymesh keys slots add --type passphrase --label desk")
    place.first(recovery)
    place.first(slot, SLOT="desk")
    place.first(data_key)
    assert opens(place.first)
    new = (place.first.folder / "new-recovery-key.txt").read_text().splitlines()[0]
    other = place.new_host("other")
    with pytest.raises(AssertionError):
        other("identitymesh keys join < recovery-key.txt")
    (other.folder / "recovery-key.txt").write_text(new)
    other("identitymesh keys join < recovery-key.txt")
    assert opens(other)
