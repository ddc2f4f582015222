"""What every kind of connector must do; a kind's tests inherit these classes and say where its objects are.

The objects are put there, and looked at, past the connector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import pytest

from identitymesh.connectors.contract import Modification, SyncOp
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.outcomes import Verdict
from identitymesh.errors import ConnectorMisconfigured, ObjectExists
from identitymesh.model.attributes import Attributes, same

AWKWARD = {
    "empty": "",
    "spaces": "  two before, two after  ",
    "lines": "first\nsecond\r\n\tthird",
    "quotes": 'O\'Brien "the" `great` \\ slash',
    "injection": "x'; DROP TABLE people; --",
    "filter": 'a" or userName pr or userName eq "b',
    "percent": "100% %s %(name)s :name $1 {0}",
    "right to left": "שלום עולם، مرحبا",
    "emoji": "👩‍👩‍👧‍👦 🇨🇭 🤷🏽‍♀️",
    "combining": "e\u0301 is not é",
    "astral": "\U00020000\U0001f600",
    "invisible": "a\u200bb\u202ec\ufeff",
    "number": "007",
    "boolean": "true",
    "null": "null",
    "large": "ä" * 50_000,
}


@dataclass(frozen=True)
class Names:
    """Attributes of this kind's objects: one that is unique, one of any text, and others if there are such."""

    unique: str
    text: str
    many: str | None = None
    flag: str | None = None
    binary: str | None = None
    empty: bool = True  # whether an attribute can have the empty text
    beside: Callable[[Attributes], Attributes] = lambda _: {}  # what an object must be created with, further to these

    def texts(self) -> dict[str, str]:
        """The awkward ones that this kind can hold."""
        return {name: text for name, text in AWKWARD.items() if text or self.empty}

    def new(self, attributes: Attributes) -> Attributes:
        """With everything that a new object needs."""
        return {**attributes, **self.beside(attributes)}


class World(Protocol):
    """A system with people, reached past the connector."""

    names: Names

    def add(self, people: Sequence[Attributes]) -> list[str]:
        """Put objects there; their keys in the same order."""

    def facade(self) -> Facade:
        """A connector for the object class ``user``; the world closes it."""


def read_all(facade: Facade, names: Sequence[str]) -> dict[str, Attributes]:
    pages = list(facade.read("user", names))
    assert [page.bad for page in pages if page.bad] == []
    assert pages[-1].incomplete == ""
    assert pages[-1].complete is not None
    assert all(page.complete is None for page in pages[:-1])
    found = {entry.key: entry.attributes for page in pages for entry in page.entries}
    assert pages[-1].complete.count == len(found)
    return found


class ReadableContract:
    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    def test_an_empty_system_is_read_completely(self, world: World) -> None:
        pages = list(world.facade().read("user", [world.names.unique]))
        assert [entry for page in pages for entry in page.entries] == []
        assert pages[-1].complete is not None
        assert pages[-1].complete.count == 0
        assert pages[-1].complete.proof

    def test_everything_is_read_once(self, world: World) -> None:
        names = world.names
        keys = world.add([{names.unique: f"u{number}", names.text: f"t{number}"} for number in range(45)])
        found = read_all(world.facade(), [names.unique, names.text])
        assert sorted(found) == sorted(keys)
        assert found[keys[7]] == {names.unique: "u7", names.text: "t7"}

    def test_only_the_wanted_attributes_come(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "t1"}])
        facade = world.facade()
        assert read_all(facade, [names.text]) == {key: {names.text: "t1"}}
        got = facade.get("user", key, [names.text])
        assert got is not None
        assert got.attributes == {names.text: "t1"}

    def test_no_names_means_every_attribute(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "t1"}])
        facade = world.facade()
        got = facade.get("user", key)
        assert got is not None
        assert got.attributes.items() >= {names.unique: "u1", names.text: "t1"}.items()
        assert read_all(facade, []) == {key: got.attributes}

    def test_an_absent_attribute_is_not_an_empty_one(self, world: World) -> None:
        names = world.names
        people: list[Attributes] = [{names.unique: "u1"}]
        if names.empty:
            people.append({names.unique: "u2", names.text: ""})
        keys = world.add(people)
        found = read_all(world.facade(), [names.unique, names.text])
        assert found == dict(zip(keys, people, strict=True))

    def test_awkward_text_is_read_as_it_is(self, world: World) -> None:
        names = world.names
        texts = names.texts()
        keys = world.add([{names.unique: name, names.text: text} for name, text in texts.items()])
        facade = world.facade()
        found = read_all(facade, [names.unique, names.text])
        for key, (name, text) in zip(keys, texts.items(), strict=True):
            assert found[key] == {names.unique: name, names.text: text}
            got = facade.get("user", key, [names.unique, names.text])
            assert got is not None
            assert got.attributes == found[key]

    def test_awkward_values_are_looked_up_as_values(self, world: World) -> None:
        names = world.names
        wanted = {name: text for name, text in AWKWARD.items() if text and name != "large"}
        keys = world.add([{names.unique: name, names.text: text} for name, text in wanted.items()])
        facade = world.facade()
        for key, (name, text) in zip(keys, wanted.items(), strict=True):
            found = facade.lookup("user", names.text, text, [names.unique])
            assert [entry.key for entry in found] == [key], name
        assert facade.lookup("user", names.text, "nobody has this", [names.unique]) == []

    def test_booleans_and_bytes_keep_their_type(self, world: World) -> None:
        names = world.names
        person: Attributes = {names.unique: "u1"}
        if names.flag is not None:
            person[names.flag] = False
        if names.binary is not None:
            person[names.binary] = bytes(range(256))
        assert len(person) > 1, "every system so far has one of both"
        (key,) = world.add([person])
        assert read_all(world.facade(), list(person)) == {key: person}

    def test_what_is_not_there_is_none(self, world: World) -> None:
        facade = world.facade()
        for key in ("no such key", "../x", "%2e", "ü/'\"", "0"):
            assert facade.get("user", key) is None, key

    def test_the_test_of_the_connection_says_what_it_saw(self, world: World) -> None:
        report = world.facade().test()
        assert "user" in report.summary
        assert report.details

    def test_the_schema_has_the_attributes(self, world: World) -> None:
        described = {info.name: info for info in world.facade().schema("user")}
        names = world.names
        assert {names.unique, names.text} <= set(described)
        if names.many is not None:
            assert described[names.many].many
        if names.flag is not None:
            assert described[names.flag].type == "boolean"

    def test_an_unknown_object_class_is_named(self, world: World) -> None:
        facade = world.facade()
        for call in (
            lambda: facade.schema("ghost"),
            lambda: facade.get("ghost", "1"),
            lambda: list(facade.read("ghost", [])),
        ):
            with pytest.raises(ConnectorMisconfigured, match="ghost") as refused:
                call()
            assert refused.value.connector == "crm"

    def test_closing_twice_is_fine(self, world: World) -> None:
        facade = world.facade()
        facade.test()
        facade.close()
        facade.close()


class ChangesContract:
    """For kinds that read since a watermark; the world's objects have one that grows with each that is added."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    def test_a_delta_continues_where_the_complete_read_ended(self, world: World) -> None:
        names = world.names
        world.add([{names.unique: f"u{number}"} for number in range(30)])
        facade = world.facade()
        assert facade.offers(SyncOp)
        last = list(facade.read("user", [names.unique]))[-1]
        assert last.watermark is not None
        added = world.add([{names.unique: "new"}])
        pages = list(facade.read_since("user", [names.unique], last.watermark))
        keys = [entry.key for page in pages for entry in page.entries]
        assert set(added) <= set(keys)
        assert len(keys) == 2  # and the one that had the last value, which may not have been alone
        assert all(page.complete is None for page in pages)
        assert len(next(iter(facade.read_since("user", [], pages[-1].watermark))).entries) == 1

    def test_a_delta_without_watermark_reads_everything(self, world: World) -> None:
        keys = world.add([{world.names.unique: f"u{number}"} for number in range(5)])
        pages = list(world.facade().read_since("user", [], None))
        assert sorted(entry.key for page in pages for entry in page.entries) == sorted(keys)


class WritableContract(ReadableContract):
    def test_what_is_created_can_be_read(self, world: World) -> None:
        names = world.names
        facade = world.facade()
        for name, text in names.texts().items():
            person = names.new({names.unique: name, names.text: text})
            created = facade.create("user", person)
            assert created.attributes == person
            got = facade.get("user", created.key, [names.unique, names.text])
            assert got is not None
            assert got.attributes == {names.unique: name, names.text: text}

    def test_a_second_one_with_the_same_identity_is_refused(self, world: World) -> None:
        facade = world.facade()
        person = world.names.new({world.names.unique: "u1"})
        facade.create("user", person)
        with pytest.raises(ObjectExists):
            facade.create("user", person)

    def test_a_write_changes_what_it_names_and_nothing_else(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "old"}])
        facade = world.facade()
        for old, new in (("old", "new"), ("new", AWKWARD["emoji"]), (AWKWARD["emoji"], AWKWARD["quotes"])):
            outcome = facade.write(
                "user", key, Modification({names.text: new}), expected={names.text: old}, desired={names.text: new}
            )
            assert outcome.verdict is Verdict.WRITTEN
            assert read_all(facade, [names.unique, names.text]) == {key: {names.unique: "u1", names.text: new}}

    def test_an_attribute_is_cleared(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "old"}])
        facade = world.facade()
        change = Modification({}, [names.text])
        assert facade.write("user", key, change, expected={names.text: "old"}, desired={}).verdict is Verdict.WRITTEN
        assert read_all(facade, [names.unique, names.text]) == {key: {names.unique: "u1"}}
        assert facade.write("user", key, change, expected={}, desired={}).verdict is Verdict.DONE

    def test_what_is_as_wanted_is_not_written(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "new"}])
        facade = world.facade()
        before = facade.get("user", key)
        change = Modification({names.text: "new"})
        outcome = facade.write("user", key, change, expected={names.text: "old"}, desired={names.text: "new"})
        assert outcome.verdict is Verdict.DONE
        after = facade.get("user", key)
        assert before is not None
        assert after is not None
        assert before.tag == after.tag

    def test_what_somebody_else_changed_is_left_alone(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1", names.text: "by somebody else"}])
        facade = world.facade()
        change = Modification({names.text: "new"})
        outcome = facade.write("user", key, change, expected={names.text: "old"}, desired={names.text: "new"})
        assert outcome.verdict is Verdict.STALE
        assert outcome.entry is not None
        assert outcome.entry.attributes == {names.text: "by somebody else"}
        assert facade.remove("user", key, expected={names.text: "old"}).verdict is Verdict.STALE
        assert read_all(facade, [names.text]) == {key: {names.text: "by somebody else"}}

    def test_what_is_gone_is_missing(self, world: World) -> None:
        names = world.names
        (key,) = world.add([{names.unique: "u1"}])
        facade = world.facade()
        assert facade.remove("user", key, expected={names.unique: "u1"}).verdict is Verdict.WRITTEN
        assert facade.get("user", key) is None
        assert facade.remove("user", key, expected={names.unique: "u1"}).verdict is Verdict.DONE
        change = Modification({names.text: "new"})
        outcome = facade.write("user", key, change, expected={}, desired={names.text: "new"})
        assert outcome.verdict is Verdict.MISSING
        assert not outcome.settled


class SeveralValuesContract:
    """For systems with attributes of several values, in addition to :class:`ReadableContract`."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    def test_several_values_are_a_list(self, world: World) -> None:
        names = world.names
        assert names.many is not None
        people: list[Attributes] = [
            {names.unique: "one", names.many: "a"},
            {names.unique: "two", names.many: ["b", "ü"]},
            {names.unique: "many", names.many: [f"value {number}" for number in range(500)]},
        ]
        keys = world.add(people)
        found = read_all(world.facade(), [names.unique, names.many])
        for key, person in zip(keys, people, strict=True):
            assert same(found[key][names.many], person[names.many])


class SeveralValuesWritableContract(SeveralValuesContract):
    def test_several_values_are_replaced_as_a_whole(self, world: World) -> None:
        names = world.names
        assert names.many is not None
        (key,) = world.add([{names.unique: "u1", names.many: ["a", "b", "c"]}])
        facade = world.facade()
        steps: list[list[str]] = [["a", "b", "c"], ["c", "d"], ["e"], ["f", "g"]]
        for old, new in pairwise(steps):
            known: Attributes = {names.many: list(old) if len(old) > 1 else old[0]}
            wanted: Attributes = {names.many: list(new) if len(new) > 1 else new[0]}
            outcome = facade.write("user", key, Modification(wanted), expected=known, desired=wanted)
            assert outcome.verdict is Verdict.WRITTEN
            assert same(read_all(facade, [names.many])[key][names.many], wanted[names.many])
