"""New entries, several under way at once on one connection to a real slapd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from identitymesh.connectors.contract import Entry
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.kinds.ldap import pipelining
from identitymesh.errors import ConnectionLost, MeshError, ObjectExists, ObjectRefused
from identitymesh.model.attributes import Attributes
from tests.servers.proxy import Proxy
from tests.servers.slapd import Branch

from .test_ldap_awkward import new
from .test_ldap_contract import ldap_facade

LEVELS = 12


@pytest.fixture
def opened(branch: Branch) -> Iterator[Facade]:
    with ldap_facade(branch) as made:
        yield made


def through(proxy: Proxy, branch: Branch) -> Facade:
    return ldap_facade(branch, url=f"ldap://127.0.0.1:{proxy.port}", allow_cleartext=True)


def create(opened: Facade, wanted: Sequence[Attributes]) -> list[Entry | MeshError]:
    return list(opened.create_many("user", iter(wanted)))


def test_many_are_made_and_answered_in_order(branch: Branch, opened: Facade) -> None:
    names = [f"u{number:03}" for number in range(150)]

    made = create(opened, [new(branch, name, meshFlag=True, mail=[f"{name}@x.org", "all@x.org"]) for name in names])

    assert [one.attributes["uid"] for one in made if isinstance(one, Entry)] == names
    assert {one.attributes["meshFlag"] for one in made if isinstance(one, Entry)} == {True}
    there = branch.entries("uid", "entryUUID")
    assert {one["uid"][0]: one["entryUUID"][0] for one in there.values()} == {
        str(one.attributes["uid"]): one.key for one in made if isinstance(one, Entry)
    }


def test_what_is_refused_is_refused_in_its_turn(branch: Branch, opened: Facade) -> None:
    branch.add("there")
    wanted = [new(branch, name) for name in ("a", "b", "there", "c", "d", "e")]
    wanted[3]["dn"] = "no name at all"
    wanted[4]["dn"] = f"uid=d,ou=nowhere,{branch.people}"

    made = create(opened, wanted)

    assert [type(one) for one in made] == [Entry, Entry, ObjectExists, ObjectRefused, ObjectRefused, Entry]
    assert "invalid dn" in str(made[3])
    assert "the entry above it does not exist" in str(made[4])
    assert {one.connector for one in made if isinstance(one, MeshError)} == {"crm"}  # type: ignore[attr-defined]
    assert len(branch.entries()) == 4


def test_an_entry_and_those_below_it_may_come_one_after_the_other(branch: Branch, opened: Facade) -> None:
    """The server is free to begin with the second: what comes back as homeless is sent again."""
    wanted, above = [new(branch, "first")], branch.people
    for level in range(LEVELS):
        entry = new(branch, f"l{level}")
        entry["dn"] = above = f"uid=l{level},{above}"
        wanted.append(entry)

    made = create(opened, wanted)

    assert [one for one in made if isinstance(one, MeshError)] == []
    assert f"uid=l{LEVELS - 1}" in max(branch.entries(), key=len)


def test_a_homeless_entry_is_sent_a_second_time_and_no_third(
    branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    original = pipelining.Pipeline._answer

    def answer(self: Any, change: Any, asked: int) -> Any:
        class Counted:
            def send(self, connection: Any) -> int:
                sent.append(change.dn)
                return int(change.send(connection))

        return original(self, Counted(), asked)  # type: ignore[arg-type]

    monkeypatch.setattr(pipelining.Pipeline, "_answer", answer)
    homeless = new(branch, "x")
    homeless["dn"] = f"uid=x,ou=nowhere,{branch.people}"

    made = create(opened, [new(branch, "first"), homeless, new(branch, "last")])

    assert [type(one) for one in made] == [Entry, ObjectRefused, Entry]
    assert sent == [homeless["dn"]]


@pytest.mark.parametrize("delivered", [True, False])
def test_a_break_loses_the_answers_of_those_under_way_and_no_others(branch: Branch, delivered: bool) -> None:
    names = [f"u{number:02}" for number in range(40)]
    with Proxy(branch.server.port) as proxy, through(proxy, branch) as opened:
        create(opened, [new(branch, "warm")])
        proxy.cut_at(b"uid=u20", delivered=delivered, times=1)

        made = create(opened, [new(branch, name) for name in names])

        assert proxy.cuts == 1
        lost = [name for name, one in zip(names, made, strict=True) if isinstance(one, ConnectionLost)]
        assert "u20" in lost
        assert len({id(one) for one in made if isinstance(one, ConnectionLost)}) == 1
        assert len(lost) <= 32
        assert all(isinstance(one, Entry) for name, one in zip(names, made, strict=True) if name not in lost)
        there = {one["uid"][0] for one in branch.entries("uid").values()} - {"warm"}
        assert set(names) - set(lost) <= there
        for name in lost:  # each can be looked up, and made if it is not there
            if not opened.lookup("user", "uid", name, ["uid"]):
                assert opened.create("user", new(branch, name)).attributes["uid"] == name
        assert {one["uid"][0] for one in branch.entries("uid").values()} == {"warm", *names}


def test_a_call_in_between_uses_the_same_connection(branch: Branch) -> None:
    with Proxy(branch.server.port) as proxy, through(proxy, branch) as opened:
        opened.lookup("user", "uid", "nobody", ["uid"])
        before = proxy.connections
        found: list[Entry] = []
        for one in opened.create_many("user", (new(branch, f"u{number}") for number in range(20))):
            assert isinstance(one, Entry)
            found += opened.lookup("user", "uid", one.attributes["uid"], ["uid"])
        assert len(found) == 20
        assert proxy.connections == before


def test_large_entries_wait_for_each_other(branch: Branch, opened: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    original = pipelining.Pipeline._send

    def send(self: Any, change: Any) -> None:
        nonlocal most
        original(self, change)
        most = max(most, len(self._under_way))

    monkeypatch.setattr(pipelining.Pipeline, "_send", send)

    made = create(opened, [new(branch, f"u{number}", meshBlob=bytes(50_000)) for number in range(12)])

    assert [type(one) for one in made] == [Entry] * 12
    assert most == 2
