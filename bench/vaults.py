"""What a vault costs a run: fifty secrets of one that takes fifty milliseconds for each answer; ten minutes without."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests.engine.vaulted import vaulted_world, watermarks
from tests.secrets.conftest import ACTOR
from tests.secrets.providers.contract import asks
from tests.secrets.providers.keyvault import Azure

from bench.lines import folder, seconds
from identitymesh.cli.measuring import Line
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.store import SecretStore

SECRETS = 50
DELAY = 0.05
MOST = 0.5
ROUNDS = 7
MINUTES = 10


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


def ten_minutes_without_a_vault() -> Line:
    """One run a minute by a clock that is set forward, delta and full in turn, with a joiner and a leaver waiting."""
    with folder() as place, vaulted_world(place) as world:
        world.run(delta=True)
        before, people = watermarks(world), world.accounts()
        world.hire("p9999", "New", "Comer")
        world.fire("p0003")
        errors = []
        with world.vault.when(cut_after=0):
            for minute in range(MINUTES):
                world.ahead += timedelta(minutes=1)
                world.engine = world.another_engine()  # each run is a process of its own
                report = world.run(delta=minute % 2 == 0)
                errors.append(len([one for one in report.issues if one.code.startswith("provider-")]))
        moved = len(set(watermarks(world)) ^ set(before))
        left = sum(world.accounts().get(key) != account for key, account in people.items())
        if errors != [1] * MINUTES:
            raise RuntimeError(f"not one error for each run, but {errors}")
        world.ahead += timedelta(minutes=1)
        world.engine = world.another_engine()
        world.run()
        if "p9999" not in world.accounts() or world.accounts()["p0003"] == people["p0003"]:
            raise RuntimeError("the first run after it did not recover by itself")
    figures = f"{MINUTES} runs, {sum(errors)} errors, one each; the first run after it brings the joiner and the leaver"
    return Line("ten minutes without the vault: watermarks moved and people changed", moved + left, figures, most=0)
