"""An empty database of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from identitymesh.redaction import Secret
from identitymesh.storage.database import Database, open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path / 'mesh.db'}")
    else:
        given = request.getfixturevalue("postgres_url")
        opened = open_database(given.url, password=Secret(given.password))
    yield opened
    opened.close()
