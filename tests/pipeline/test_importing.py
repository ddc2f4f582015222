"""Which of what was read is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from identitymesh.connectors.contract import Entry
from identitymesh.model.attributes import Attributes, digest, digests, image
from identitymesh.pipeline.importing import UNSETTLED, Staged, stage

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
scalars = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.binary(max_size=5)
attributes = st.dictionaries(
    st.sampled_from(["mail", "phone", "photo", "title"]), scalars | st.lists(scalars, min_size=2)
)
names = frozenset({"mail", "photo", "title"})


def taken(of: Attributes) -> Attributes:
    return {name: value for name, value in of.items() if name in names}


@given(st.lists(attributes, max_size=5))
def test_the_digests_of_several_are_those_of_each(several: list[Attributes]) -> None:
    assert digests(several) == [digest(image(one)) for one in several]


@given(st.dictionaries(st.sampled_from("abcdef"), attributes), st.dictionaries(st.sampled_from("abcdef"), attributes))
def test_only_what_is_new_or_another_is_looked_at(stored: dict[str, Attributes], now: dict[str, Attributes]) -> None:
    known = {key: digest(image(taken(one))) for key, one in stored.items()}

    found = stage([Entry(key, one) for key, one in now.items()], known, names)

    before = {key: image(taken(one)) for key, one in stored.items()}
    wanted = {key: image(taken(one)) for key, one in now.items() if before.get(key) != image(taken(one))}
    assert {one.key: image(one.attributes) for one in found} == wanted
    assert [one.digest for one in found] == [digest(image(one.attributes)) for one in found]
    assert known.keys() == stored.keys() - now.keys(), "who was not seen is left"


def test_what_is_not_settled_is_looked_at_whatever_it_says() -> None:
    entry = Entry("a", {"mail": "x", "phone": "not asked for"})
    alone: Attributes = {"mail": "x"}

    assert stage([entry], {"a": UNSETTLED}, names) == [Staged("a", alone, digest(image(alone)))]
