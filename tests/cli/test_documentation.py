"""What the pages say of the command line is what it does."""

import os
import re
import subprocess
import sys

from identitymesh.cli.documentation import page
from identitymesh.cli.main import BROKEN_PIPE, INTERRUPTED
from identitymesh.cli.overview import command_names
from identitymesh.connectors.catalogue import kinds
from identitymesh.definition.reading import read
from identitymesh.errors import ExitCode
from tests.house_rules.repository import ROOT


def test_the_page_of_commands_is_current() -> None:
    assert (ROOT / "docs/reference/cli.md").read_text() == page(), "run scripts/document-cli"


def test_the_page_is_the_same_wherever_it_is_written() -> None:
    before = (ROOT / "docs/reference/cli.md").read_bytes()
    environment = {**os.environ, "PYTHON": sys.executable}  # whatever it is where this runs
    subprocess.run([ROOT / "scripts/document-cli"], check=True, cwd="/", env=environment)
    assert (ROOT / "docs/reference/cli.md").read_bytes() == before


def test_the_definition_of_the_first_steps_is_a_definition() -> None:
    text = (ROOT / "docs/howto/first-sync.md").read_text()
    definition = read(text.split("```yaml\n")[1].split("```")[0], source="first-sync.md", kinds=kinds())
    assert definition.warnings == ()


def test_every_command_of_the_pages_exists() -> None:
    for page_name in ("README.md", "docs/howto/first-sync.md", "docs/reference/exit-codes.md"):
        for called in re.findall(r"identitymesh ((?:--home \S+ )?[a-z]+)", (ROOT / page_name).read_text()):
            assert called.split()[-1] in command_names(), f"{page_name}: {called}"


def test_every_exit_code_is_explained() -> None:
    text = (ROOT / "docs/reference/exit-codes.md").read_text()
    rows = {int(code): name.strip() for code, name in re.findall(r"^\| (\d+) \| ([a-z ]*)\|", text, re.MULTILINE)}
    assert rows == {int(code): code.name.lower() for code in ExitCode} | {INTERRUPTED: "", BROKEN_PIPE: ""}
