"""database → Key Vault → OpenBao → database, each scrubbed, while others open and set: nothing is lost on the way."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from identitymesh.errors import MeshError
from identitymesh.secrets.references import parse
from tests.secrets.conftest import ACTOR
from tests.secrets.migration.conftest import Move, asks
from tests.secrets.providers.keyvault import Azure

WAY = ("database", "azure-key-vault", "openbao", "database")


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Azure]:
    folder = tmp_path / "azure"
    folder.mkdir()
    found = Azure.start(folder)
    yield found
    found.stop()


class Load:
    """Threads that open and set until they are stopped; what went wrong is kept."""

    def __init__(self, move: Move) -> None:
        self.move = move
        self.refs = sorted(move.values)
        self.wrong: list[str] = []
        self.opened = self.set = 0
        self._stop = threading.Event()
        tasks = [lambda: self.write(self.refs[0::2]), lambda: self.write(self.refs[1::2]), self.read]
        self._threads = [threading.Thread(target=self._guarded, args=(task,)) for task in tasks]

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            self.wrong.append(repr(error))

    def write(self, mine: list[str]) -> None:
        store = self.move.store()
        while not self._stop.is_set():
            ref = mine[self.set % len(mine)]
            value = f"{ref} {self.set}"
            self.move.put(ref, value, store)
            got = store.reveal(parse(ref), actor=ACTOR).reveal_text()
            if got != value:
                self.wrong.append(f"{ref}: {got} instead of {value}")
            self.set += 1
            time.sleep(0.02)

    def read(self) -> None:
        store = self.move.store()
        while not self._stop.is_set():
            answers = store.open_many([asks(parse(ref)) for ref in self.refs[::3]], actor=ACTOR).values()
            self.wrong += [repr(answer) for answer in answers if isinstance(answer, MeshError)]
            self.opened += len(answers)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_all_three_one_after_the_other_while_others_open_and_set(embedded_move: Move, azure: Azure) -> None:
    move = embedded_move
    move.means = replace(move.means, azure=azure.settings(azure.vault()))
    move.fill(12, allowed=True)
    with Load(move) as load:
        for source, target in itertools.pairwise(WAY):
            before = load.set
            move.migrations(writes_per_second=0.0).run(source, target)
            assert move.provider() == target
            move.migrations(writes_per_second=0.0).scrub(purge=True)
            assert load.set > before
    assert (load.wrong, move.wrong()) == ([], {})
    assert load.opened > 0
    assert (move.provider(), move.live(), move.server.kv) == ("database", set(), {})
