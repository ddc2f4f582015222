"""The contract of connectors, kept by ``csv`` in several dialects."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from identitymesh.connectors.facade import Facade
from identitymesh.model.attributes import Attributes, values_of
from tests.connectors.contract import Names, ReadableContract, SeveralValuesContract, World, read_all
from tests.connectors.doubles import Credentials, facade

COLUMNS = ("no", "login", "note", "phones")
ABSENT = r"\N"


class CsvWorld:
    names = Names(unique="login", text="note", many="phones")

    def __init__(self, path: Path, **format_: Any) -> None:
        self.path = path
        self.format = {"delimiter": ",", "encoding": "utf-8", **format_}
        self._rows: list[dict[str, str]] = []
        self._open: list[Facade] = []
        self._write()

    def add(self, people: Sequence[Attributes]) -> list[str]:
        before = len(self._rows)
        for person in people:
            cells = {name: "|".join(str(one) for one in values_of(value)) for name, value in person.items()}
            self._rows.append({"no": str(len(self._rows) + 1), **cells})
        self._write()
        return [row["no"] for row in self._rows[before:]]

    def facade(self) -> Facade:
        user = {"path": str(self.path), "key": "no", "absent": ABSENT, "several": {"phones": "|"}, **self.format}
        opened = facade({"type": "csv", "objects": {"user": {**user, "final_newline": True}}}, Credentials())
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()

    def _write(self) -> None:
        with self.path.open("w", encoding=self.format["encoding"], newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval=ABSENT, delimiter=self.format["delimiter"])
            writer.writeheader()
            writer.writerows(self._rows)


class TestCsv(ReadableContract, SeveralValuesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = CsvWorld(tmp_path / "people.csv")
        yield made
        made.close()

    def test_booleans_and_bytes_keep_their_type(self, world: World) -> None:
        """A file has neither: everything is text, also what looks like something else."""
        people: list[Attributes] = [{"login": text} for text in ("true", "0", "1.50", "2026-11-22", "0x00")]
        keys = world.add(people)
        assert read_all(world.facade(), ["login"]) == dict(zip(keys, people, strict=True))


class TestSemicolonsInUtf16(TestCsv):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = CsvWorld(tmp_path / "people.csv", delimiter=";", encoding="utf-16")
        yield made
        made.close()


class TestTabsWithMark(TestCsv):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = CsvWorld(tmp_path / "people.csv", delimiter="\t", encoding="utf-8-sig")
        yield made
        made.close()
