"""The page "a first synchronisation of your own directory", carried out as it stands there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house_rules.repository import ROOT
from tests.secrets.test_howto import blocks
from tests.servers.process import free_port, need


@pytest.fixture
def port() -> int:
    for program in ("/usr/sbin/slapd", "ldapsearch", "openssl"):
        need(program, "slapd, ldap-utils, openssl")
    return free_port()


def test_a_newcomer_follows_it_from_top_to_bottom(tmp_path: Path, port: int) -> None:
    *steps, stop = blocks("first-directory.md")
    assert len(steps) == 7
    script = "".join(f"echo '== {number}'\n{step}" for number, step in enumerate(steps, 1)) + stop
    assert script.count("6360") == 3, "the port of the page"
    program = tmp_path / "bin" / "identitymesh"
    program.parent.mkdir()
    start = "from identitymesh.composition import main; main()"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    try:
        done = subprocess.run(
            ["sh", "-euc", script.replace("6360", str(port))],
            cwd=tmp_path,
            env={
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "src"),
                "HOME": str(tmp_path),
                "COLUMNS": "120",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        with contextlib.suppress(OSError, ValueError):  # stopped by the page itself, unless it broke off
            os.kill(int((tmp_path / "first-directory" / "slapd.pid").read_text()), signal.SIGTERM)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told = done.stdout.split("== ")
    _, _, _, _, _, written, followed = (part.partition("\n")[2] for part in told[1:])
    entries = written[written.index("dn: ") :]
    assert entries.count("dn: uid=") == 3, entries
    assert "dn: uid=1001,ou=people,dc=example,dc=org" in entries
    assert "cn: Ada Lovelace" in entries
    assert "cn: Grace Hopper, Rear Admiral" in entries
    assert "employeeType" not in entries
    after = followed[followed.index("dn: ") :]
    assert after.count("dn: uid=") == 3
    assert after.count("employeeType: disabled") == 1
    assert "mail: hopper@example.org" in after
    assert "people-mail" in after, "explain names the rule"
    assert not (tmp_path / "first-directory" / "sync.txt").exists()
