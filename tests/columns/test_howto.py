"""The walk through docs/howto/encrypt-columns.md is carried out as it stands there, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.columns.test_patch_manager import EXAMPLE, PatchManager, manager  # noqa: F401 - a fixture
from tests.house_rules.repository import ROOT
from tests.servers.postgresql import _debian_places
from tests.servers.process import need

PAGE = ROOT / "docs/howto/encrypt-columns.md"
PAIR = re.compile(r"^```sh\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
FOLDER = "/etc/patch-manager"


def alike(output: str) -> str:
    """Without what differs each time: key ids, times, who and where."""
    output = re.sub(r"\bkey [0-9a-f]{8}\b", "key ID", output)
    output = re.sub(r"in \d+\.\d s", "in TIME", output)
    output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by \S+", "MOMENT by WHO", output)
    done = "encrypted|verified|decrypted|rotated|upgraded"
    output = re.sub(rf"^\S+(?=: (?:{done}) with)", "WHERE", output, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in output.splitlines() if line.strip())


def carry_out(manager: PatchManager) -> list[tuple[str, str]]:  # noqa: F811 - the fixture's value
    """What the page says that each block prints, and what it prints."""
    program = manager.folder / "bin" / "identitymesh"
    program.parent.mkdir()
    start = "from identitymesh.composition import main; main()"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    text = (EXAMPLE / "plan.yaml").read_text()
    text = re.sub(r"postgresql\+psycopg://\S+", manager.database.url, text).replace(FOLDER, str(manager.folder))
    manager.plan.write_text(text)
    psql = need("psql", "postgresql-client", places=_debian_places())
    environment = {
        "PATH": f"{program.parent}:{Path(psql).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PGHOST": manager.database.host,
        "PGPORT": str(manager.database.port),
        "PGUSER": manager.database.user,
        "PGDATABASE": manager.database.name,
        "PGPASSWORD": manager.database.password,
    }
    found = []
    for script, said in PAIR.findall(PAGE.read_text()):
        done = subprocess.run(
            ["sh", "-euc", script.replace(FOLDER, str(manager.folder))],
            cwd=manager.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        found.append((said, done.stdout.replace(str(manager.folder), FOLDER)))
    return found


def test_the_walk_prints_what_the_page_says(manager: PatchManager) -> None:  # noqa: F811 - a fixture
    found = carry_out(manager)
    assert len(found) > 8
    for said, printed in found:
        if said:
            assert alike(printed) == alike(said)
    assert "totp_secret" in manager.columns("users")
    assert not {"totp_secret_encrypted", "totp_secret_nonce"} & set(manager.columns("users"))


def test_the_plan_of_the_page_is_that_of_the_example() -> None:
    (plan,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert plan == (EXAMPLE / "plan.yaml").read_text()
