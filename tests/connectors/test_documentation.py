from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from identitymesh.connectors.catalogue import kind
from tests.connectors.doubles import Credentials, facade

ROOT = Path(__file__).parents[2]


def test_the_pages_of_the_connectors_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/document-connectors", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def examples() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every connector of every example: page, name, settings."""
    for page in sorted((ROOT / "docs" / "howto").glob("connector-*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for name, settings in (yaml.safe_load(block).get("connectors") or {}).items():
                yield page.name, name, settings


@pytest.mark.parametrize(("page", "name", "settings"), list(examples()))
def test_the_examples_of_the_pages_are_accepted(page: str, name: str, settings: Mapping[str, Any]) -> None:
    assert page
    kind(settings["type"]).settings.model_validate(settings)
    assert name


def test_the_example_of_a_file_is_read(tmp_path: Path) -> None:
    ((_, _, settings),) = [one for one in examples() if one[0] == "connector-csv.md"]
    found = kind("csv").settings.model_validate(settings).below(tmp_path)  # type: ignore[attr-defined]
    people = "".join(f"{number},Ann,Lee\n" for number in range(10))
    (tmp_path / "contractors.csv").write_text(f"id,forename,surname\n{people}")
    pages = list(facade(found.model_dump(), Credentials()).read("user", ["id", "forename"]))
    assert pages[-1].complete is not None
    assert pages[-1].complete.proof == "10 rows, at least 10 expected"
