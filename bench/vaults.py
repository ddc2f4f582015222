"""What a vault costs a run: fifty secrets of a vault that takes fifty milliseconds for each answer."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

from tests.secrets.conftest import ACTOR
from tests.secrets.providers.contract import asks
from tests.secrets.providers.keyvault import Azure

from bench.lines import Line, folder, seconds
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.store import SecretStore

SECRETS = 50
DELAY = 0.05
MOST = 0.5
ROUNDS = 7


def fifty_secrets_of_a_slow_vault() -> Line:
    """Wall time to prepare fifty secrets for a run, once a token is held; the vault waits before each answer."""
    with folder() as place:
        azure = Azure.start(place)
        world = azure.world()
        refs = [parse(f"secret://hr/{number}") for number in range(SECRETS)]
        writer = world.store()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda ref: writer.put(ref, Secret(ref.text), actor=ACTOR), refs))
        for ref in refs:
            writer.audience.allow(ref, "hr", ["db.example:5432"], ACTOR)
        store = world.store()
        with world.vault.when(delay=DELAY):
            store.reveal(refs[0], actor=ACTOR)  # brings the token
            times = [seconds(lambda: _open_all(store, refs)) for _ in range(ROUNDS)]
        azure.stop()
    middle = statistics.median(times)
    figures = f"median of {ROUNDS}: {middle * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms, for {SECRETS} secrets"
    return Line("50 secrets of a vault that answers in 50 ms: seconds", middle, figures, most=MOST)


def _open_all(store: SecretStore, refs: list[SecretReference]) -> None:
    opened = store.open_many(asks(*refs), actor=ACTOR)
    if sum(isinstance(one, Secret) for one in opened.values()) != SECRETS:
        raise RuntimeError("not all of them were opened")
