"""A place for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation.place import Place
from tests.programs import Programs
from tests.servers.scim import ScimServer


@pytest.fixture(scope="package")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Both programs, ready to run."""
    ready = Programs(tmp_path_factory.mktemp("programs"))
    yield ready
    ready.stop()


@pytest.fixture
def place(tmp_path: Path, scim_server: ScimServer, programs: Programs) -> Place:
    return Place(tmp_path, scim_server, programs)
