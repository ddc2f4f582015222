"""A world for each test: on SQLite always, on PostgreSQL too where the test is about what is stored."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from identitymesh.definition.positions import parse
from identitymesh.redaction import Secret
from identitymesh.runs import imports

from .directory import PAGE
from .world import World


@pytest.fixture(scope="package", autouse=True)
def _each_text_is_parsed_once() -> Iterator[None]:
    """The same few definitions are read by every run: how YAML is read is tested in `tests/definition`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("identitymesh.definition.reading.parse", functools.lru_cache(maxsize=64)(parse))
        yield


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a page of :mod:`~tests.engine.directory` has: each page is stored, while the next is read."""
    monkeypatch.setattr(imports, "BATCH", PAGE)


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
    database = request.getfixturevalue("migrated_postgres")
    with World(tmp_path, url=database.url, password=Secret(database.password)) as made:
        made.apply()
        yield made
