"""A rotation in a vault that is given up while somebody else carries it on, or stores another value."""

from __future__ import annotations

from typing import Any

import pytest

from identitymesh.errors import KeyringConflict, ProviderUnavailable
from identitymesh.redaction import Secret
from identitymesh.secrets.references import SecretReference, parse
from identitymesh.secrets.rotation import RotationRow, Rotations
from identitymesh.secrets.stores.openbao.provider import OpenBaoProvider
from tests.secrets.conftest import ACTOR
from tests.secrets.migration.conftest import Move

REF = parse("secret://hr/reader")


@pytest.fixture
def vault(embedded_move: Move) -> Move:
    """Its secrets are in OpenBao; one of them is ``old``."""
    embedded_move.migrations().run("database", "openbao")
    embedded_move.put(REF.text, "old")
    return embedded_move


def begin(vault: Move) -> RotationRow:
    return vault.rotations().begin(REF, Secret("new"), at_server=False, retire_days=7, actor=ACTOR)


def value(vault: Move, ref: SecretReference = REF) -> str:
    return vault.store().reveal(ref, actor=ACTOR).reveal_text()


def versions(vault: Move) -> list[tuple[Any, ...]]:
    return vault.mesh.sql("SELECT current_version, pending_version FROM secret_ledger")


def before_it_is_restored(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    restored = Rotations._restored

    def late(self: Rotations, *arguments: Any) -> Any:
        happens()
        return restored(self, *arguments)

    monkeypatch.setattr(Rotations, "_restored", late)


def test_what_was_switched_to_is_not_destroyed_by_who_gives_up(vault: Move) -> None:
    rotation = begin(vault)
    vault.rotations().switch(rotation, ACTOR)
    with pytest.raises(KeyringConflict, match="carried its rotation on"):
        vault.rotations().drop(rotation, "abandoned", ACTOR)
    assert value(vault) == "new"
    assert versions(vault) == [(rotation.new_version, None)]
    entry = vault.server.kv["identitymesh/hr/reader"]
    assert not any(one.destroyed for one in entry.versions.values())


def test_what_is_switched_to_at_the_last_moment_is_not_destroyed(vault: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = begin(vault)
    before_it_is_restored(monkeypatch, lambda: vault.rotations().switch(rotation, ACTOR))
    with pytest.raises(KeyringConflict, match="carried its rotation on"):
        vault.rotations().drop(rotation, "abandoned", ACTOR)
    assert value(vault) == "new"
    assert versions(vault) == [(rotation.new_version, None)]


def test_what_is_given_up_is_destroyed_and_the_old_one_is_the_newest(vault: Move) -> None:
    rotation = begin(vault)
    vault.rotations().drop(rotation, "abandoned", ACTOR)
    assert value(vault) == "old"
    assert versions(vault) == [("3", None)]  # set once more, so that the vault's operators see the right one
    entry = vault.server.kv["identitymesh/hr/reader"]
    assert [number for number, one in entry.versions.items() if one.destroyed] == [2]


def test_a_value_stored_meanwhile_is_not_replaced_by_the_restored_one(
    vault: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = begin(vault)
    before_it_is_restored(monkeypatch, lambda: vault.store().put(REF, Secret("a third one"), actor=ACTOR))
    vault.rotations().drop(rotation, "abandoned", ACTOR)
    assert value(vault) == "a third one"
    assert versions(vault) == [("3", None)]
    entry = vault.server.kv["identitymesh/hr/reader"]
    assert [number for number, one in entry.versions.items() if one.destroyed] == [2, 4]


def test_a_vault_that_stops_answering_leaves_one_version_too_many(vault: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = begin(vault)

    def stops(_self: object, _ref: SecretReference, _versions: list[str]) -> None:
        raise ProviderUnavailable("openbao does not answer", hint="Try again later.")

    with monkeypatch.context() as patched:
        patched.setattr(OpenBaoProvider, "retire", stops)
        with pytest.raises(ProviderUnavailable):
            vault.rotations().drop(rotation, "abandoned", ACTOR)
    assert vault.rotations().find(REF) is None
    assert value(vault) == "old"
    (retired,) = vault.rotations().retire(REF, ACTOR)
    assert retired.versions == ("1", rotation.new_version)
    assert value(vault) == "old"
