"""Documents: canonical, exact about types, and back as they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from identitymesh.model.accounts import differences, picture
from identitymesh.model.attributes import Attributes, dump, image, load, same, values_of

scalars = st.one_of(
    st.text(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.binary(),
)
values = st.one_of(scalars, st.lists(scalars, min_size=2, max_size=4))
documents = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name != "$bytes"), values, max_size=5)


@given(documents)
def test_what_was_dumped_loads_as_it_was(document: Attributes) -> None:
    loaded = load(dump(document))

    assert loaded == document
    assert [type(value) for value in loaded.values()] == [type(document[name]) for name in loaded]


@given(documents, st.randoms())
def test_an_image_does_not_know_the_order_of_several_values(document: Attributes, random: object) -> None:
    shuffled = {}
    for name, value in reversed(document.items()):
        several = list(values_of(value))
        random.shuffle(several)  # type: ignore[attr-defined]
        shuffled[name] = several if isinstance(value, list) else value

    assert image(shuffled) == image(document)


@given(values, values)
def test_same_is_what_images_say(left: object, right: object) -> None:
    assert same(left, right) == (image({"x": left}) == image({"x": right}))  # type: ignore[arg-type,dict-item]


def test_types_are_told_apart() -> None:
    assert not same(1, True)
    assert not same("1", 1)
    assert not same(None, "")
    assert same(["b", "a"], ["a", "b"])
    assert not same(["a", "a"], ["a"])


def test_differences_are_of_managed_attributes_alone() -> None:
    known = picture({"a": "1", "b": ["x", "y"], "own": "theirs"}, {"a", "b", "c"})
    desired = picture({"b": ["y", "x"], "c": ""}, {"a", "b", "c"})

    assert [(one.name, one.before, one.after) for one in differences(known, desired)] == [
        ("a", "1", None),
        ("c", None, ""),
    ]
