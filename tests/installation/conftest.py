"""A place for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installation.place import Place
from tests.servers.scim import ScimServer


@pytest.fixture
def place(tmp_path: Path, scim_server: ScimServer) -> Place:
    return Place(tmp_path, scim_server)
