"""The commands of the runbooks are carried out as they stand there, by a shell, one page after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.custody.conftest import CONNECTOR, Home
from tests.house_rules.repository import ROOT

HOWTO = ROOT / "docs/howto"


def blocks(page: str) -> list[str]:
    """The shell blocks of a page, also those inside of a list."""
    text = (HOWTO / page).read_text()
    found = re.findall(r"^( *)```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return ["".join(line.removeprefix(indent) for line in body.splitlines(keepends=True)) for indent, body in found]


def shell(commands: str, folder: Path, **more: str) -> str:
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "identitymesh"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from identitymesh.composition import main; main()" "$@"\n'
    )
    program.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.defpath}", "PYTHONPATH": str(ROOT / "src"), "LANG": "C.UTF-8", **more}
    done = subprocess.run(
        ["sh", "-eu", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def company(embedded: Home) -> Home:
    embedded.store("secret://hr/reader", "correct horse")
    embedded.ok("apply", str(embedded.define(CONNECTOR.format(url="postgresql+psycopg://hr@db.example.org/hr"))))
    (embedded.folder / "recovery-key.txt").write_text(embedded.recovery_key + "\n")
    return embedded


def test_disaster_recovery(company: Home, tmp_path: Path) -> None:
    backup, drill, restore, look, resume = blocks("disaster-recovery.md")
    shell(backup + drill, company.folder)
    blank = tmp_path / "blank"
    blank.mkdir()
    for name in ("mesh.backup", "recovery-key.txt"):
        shutil.copy(company.folder / name, blank)
    shutil.rmtree(company.folder)
    said = shell(restore + look + resume, blank, FINGERPRINT=company.fingerprint)
    assert "this host opens it" in said
    assert "1 version opened, 0 problems" in said
    assert "runs may start again" in said
    company.folder = blank
    assert company.ok("secrets", "get", "secret://hr/reader", "--force").out == "correct horse"


def test_leaving_the_product(company: Home) -> None:
    for program in ("age", "age-keygen", "unzip"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no program {program} here")
    shell("".join(blocks("leaving-the-product.md")), company.folder)
    assert "secret://hr/reader" in (company.folder / "secrets.json").read_text()
    assert "connectors:" in (company.folder / "mesh-export.yaml").read_text()
    assert (company.folder / "dump/tables/keyring.jsonl").is_file()
