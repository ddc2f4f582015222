"""The page of settings is what the settings say, and complete."""

from __future__ import annotations

import subprocess
import sys

from identitymesh.fields import described
from identitymesh.settings import parts
from tests.house_rules.repository import ROOT


def test_the_page_of_settings_is_current() -> None:
    command = [sys.executable, "scripts/document-settings", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_setting_stands_on_the_page_with_its_variable() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    for part, settings in parts().items():
        for name, *_rest in described(settings):
            assert f"`{part}.{name}`" in page
            assert f"`IDENTITYMESH_{part.upper()}__{name.upper()}`" in page
