"""Many creates through the facade: one outcome for each, in order, whatever becomes of the connection."""

# ruff: noqa: ARG002  the double has the signatures of the contract, and looks at none of its arguments
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from identitymesh.connectors.contract import Entry
from identitymesh.connectors.facade import Facade
from identitymesh.errors import (
    ConnectionLost,
    ConnectorError,
    CredentialRefused,
    KeyringMissing,
    MeshError,
    ObjectExists,
    Throttled,
    Unreachable,
)
from identitymesh.model.attributes import Attributes
from tests.connectors.doubles import Clock

from .test_facade import facade

BROKEN = ConnectionLost("the line broke")


class Alone:
    """Creates one by one; an error in ``script`` under a name is raised once instead."""

    def __init__(self, **script: MeshError) -> None:
        self.script = script
        self.calls: list[str] = []

    def close(self) -> None: ...

    def create(self, object_class: str, attributes: Attributes) -> Entry:
        name = str(attributes["uid"])
        self.calls.append(f"alone {name}")
        error = self.script.pop(f"alone_{name}", None)
        if error is not None:
            raise error
        return Entry(name, attributes)


class Together(Alone):
    """Three under way at once; an error in ``script`` is answered, a lost connection breaks, others are raised."""

    def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]:
        under_way: list[Attributes] = []
        ended = False
        while True:
            while not ended and len(under_way) < 3:
                one = next(wanted, None)
                ended = one is None
                under_way += [] if one is None else [one]
            if not under_way:
                return
            attributes = under_way.pop(0)
            name = str(attributes["uid"])
            self.calls.append(f"together {name}")
            error = self.script.pop(name, None)
            if isinstance(error, ConnectionLost):
                yield from [error] * (len(under_way) + 1)
                return
            if error is not None and not isinstance(error, ConnectorError):
                raise error
            yield Entry(name, attributes) if error is None else error


def outcomes(opened: Facade, names: Sequence[str], given: list[str] | None = None) -> list[Any]:
    """Keys of what was made, and errors as they are."""

    def wanted() -> Iterator[Attributes]:
        for name in names:
            if given is not None:
                given.append(name)
            yield {"uid": name}

    made = opened.create_many("user", wanted())
    return [one.key if isinstance(one, Entry) else one for one in made]


def test_a_connector_that_cannot_makes_one_after_the_other() -> None:
    taken = ObjectExists("there is one")
    connector = Alone(alone_b=taken)

    assert outcomes(facade(connector), "abc") == ["a", taken, "c"]
    assert connector.calls == ["alone a", "alone b", "alone c"]
    assert taken.connector == "hr"


def test_the_first_goes_alone_and_each_answer_comes_in_its_turn() -> None:
    taken = ObjectExists("there is one")
    connector = Together(c=taken)

    assert outcomes(facade(connector), "abcdef") == ["a", "b", taken, "d", "e", "f"]
    assert connector.calls == ["alone a", *(f"together {name}" for name in "bcdef")]
    assert taken.connector == "hr"


def _noted(given: list[str]) -> Callable[[str], str]:
    def note(name: str) -> str:
        given.append(name)
        return name

    return note


def test_no_more_is_asked_for_than_can_be_under_way() -> None:
    given: list[str] = []
    wanted: Iterator[Attributes] = ({"uid": name} for name in map(_noted(given), "abcdefgh"))
    made = facade(Together()).create_many("user", wanted)
    assert [next(made), next(made)] == [Entry("a", {"uid": "a"}), Entry("b", {"uid": "b"})]
    assert given == list("abcd")


def test_a_break_is_one_error_for_all_under_way_and_the_rest_goes_on() -> None:
    connector = Together(c=BROKEN)

    assert outcomes(facade(connector), "abcdefgh") == ["a", "b", BROKEN, BROKEN, BROKEN, "f", "g", "h"]
    assert connector.calls == ["alone a", "together b", "together c", "alone f", "together g", "together h"]


def test_what_the_server_has_no_time_for_is_made_alone_in_its_turn() -> None:
    clock = Clock()
    connector = Together(c=Throttled("later", retry_after=7.0), d=Unreachable("going down"))

    assert outcomes(facade(connector, clock=clock), "abcde") == list("abcde")
    assert connector.calls[2:] == ["together c", "alone c", "together d", "alone d", "together e"]


def test_a_connection_that_cannot_be_opened_is_tried_alone_each_time() -> None:
    refused = CredentialRefused("no")
    assert outcomes(facade(Together(alone_a=refused, alone_b=refused)), "abc") == [refused, refused, "c"]


def test_a_secret_that_cannot_be_had_is_the_outcome_of_the_one_that_needed_it() -> None:
    missing = KeyringMissing("no keyring")
    assert outcomes(facade(Together(alone_a=missing)), "ab") == [missing, "b"]


@pytest.mark.parametrize("error", [KeyringMissing("gone"), ValueError("a fault of ours")])
def test_a_connector_that_fails_in_the_middle_leaves_nobody_without_an_outcome(error: Exception) -> None:
    found = outcomes(facade(Together(c=error)), "abcdef")  # type: ignore[arg-type]

    assert found[:2] == ["a", "b"]
    assert len(set(map(id, found[2:5]))) == 1
    assert isinstance(found[2], MeshError)
    assert found[5] == "f"


@pytest.mark.parametrize("error", [KeyringMissing("gone"), CredentialRefused("no"), Unreachable("down")])
def test_what_was_under_way_when_a_connector_failed_may_have_been_made(error: MeshError) -> None:
    class Failing(Together):
        def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]:
            yield Entry("b", next(wanted))
            next(wanted)
            next(wanted)
            raise error

    found = outcomes(facade(Failing()), "abcde")

    assert found[:2] == ["a", "b"]
    assert [type(one) for one in found[2:4]] == [ConnectionLost, ConnectionLost]
    assert str(error) in str(found[2])
    assert found[4] == "e"


def test_answers_that_are_missing_are_lost_ones() -> None:
    class Forgetful(Together):
        def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]:
            next(wanted)
            yield Entry("b", next(wanted))

    found = outcomes(facade(Forgetful()), "abcd")

    assert found[:2] == ["a", "b"]
    assert isinstance(found[2], ConnectionLost)
    assert found[3] == "d"


def test_an_entry_that_cannot_be_taken_over_was_made_all_the_same() -> None:
    class Odd(Together):
        def create_many(self, object_class: str, wanted: Iterator[Attributes]) -> Iterator[Entry | ConnectorError]:
            for attributes in wanted:
                yield Entry("", attributes)

    found = outcomes(facade(Odd()), "ab")

    assert found[0] == "a"
    assert isinstance(found[1], ConnectionLost)
    assert "gave an object that cannot be taken over" in str(found[1])
