"""A world for each test: on SQLite always, on PostgreSQL too where the test is about what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from identitymesh.redaction import Secret

from .world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.apply()
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The same on either database."""
    if request.param == "sqlite":
        with World(tmp_path) as made:
            made.apply()
            yield made
        return
    database = request.getfixturevalue("postgres_url")
    with World(tmp_path, url=database.url, password=Secret(database.password)) as made:
        made.apply()
        yield made
