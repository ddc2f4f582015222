"""Resources as attributes and back: pure functions, checked by properties."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identitymesh.connectors.kinds.scim.flattening import flatten, merge, read_value
from identitymesh.connectors.kinds.scim.patching import operations
from identitymesh.connectors.kinds.scim.paths import Path, parse_path
from identitymesh.connectors.kinds.scim.shapes import ENTERPRISE, USER, ResourceShape, default_shape
from identitymesh.errors import ConnectorMisconfigured
from identitymesh.model.attributes import Attributes, Value, same

SHAPE = default_shape(USER)
TEXT = st.text(max_size=20)
LABELS = st.sampled_from(["work", "home", "other", 'the "odd" \\ one', "ünï ]."])


def elements(*parts: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A list with one element for each type at most."""
    element = st.fixed_dictionaries(
        {"type": LABELS, parts[0]: TEXT}, optional={**dict.fromkeys(parts[1:], TEXT), "primary": st.booleans()}
    )
    return st.lists(element, min_size=1, max_size=4, unique_by=lambda one: one["type"].casefold())


RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "userName": TEXT,
        "active": st.booleans(),
        "nickName": TEXT,
        "name": st.dictionaries(st.sampled_from(["givenName", "familyName", "formatted"]), TEXT, min_size=1),
        "emails": elements("value", "display"),
        "addresses": elements("locality", "country", "streetAddress"),
        "tags": st.lists(st.one_of(TEXT, st.integers(-(2**40), 2**40), st.booleans()), min_size=2, max_size=5),
        ENTERPRISE: st.fixed_dictionaries(
            {"department": TEXT}, optional={"manager": st.fixed_dictionaries({"value": TEXT, "displayName": TEXT})}
        ),
    },
)


def path(name: str) -> Path:
    return parse_path(name, SHAPE)


def paths(attributes: Attributes) -> dict[Path, Value]:
    return {path(name): value for name, value in attributes.items()}


def ordered(resource: dict[str, Any]) -> dict[str, Any]:
    """Without the order of elements, which says nothing."""
    return {
        name: sorted(value, key=lambda one: one["type"]) if name in {"emails", "addresses"} else value
        for name, value in resource.items()
        if name != "schemas"
    }


@given(RESOURCES)
def test_a_resource_survives_the_way_there_and_back(resource: dict[str, Any]) -> None:
    attributes = flatten(resource, SHAPE)
    assert ordered(merge({}, paths(attributes))) == ordered(resource)


@given(RESOURCES)
def test_each_name_reads_what_flattening_gave(resource: dict[str, Any]) -> None:
    for name, value in flatten(resource, SHAPE).items():
        assert same(read_value(resource, path(name)), value)
        assert str(path(name)) == name


@given(RESOURCES, RESOURCES)
def test_a_change_arrives_and_the_original_stays(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = flatten(before, SHAPE), flatten(after, SHAPE)
    untouched = copy.deepcopy(before)
    merged = merge(before, paths(new), [path(name) for name in old if name not in new])
    assert before == untouched
    for name, value in new.items():
        assert same(read_value(merged, path(name)), value), name


@given(RESOURCES, RESOURCES)
def test_carrying_out_the_patch_gives_what_merging_gives(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = flatten(before, SHAPE), flatten(after, SHAPE)
    clear = [path(name) for name in old if name not in new]
    patched = carry_out(before, operations(before, paths(new), clear))
    merged = merge(before, paths(new), clear)
    for name in {*old, *new}:
        assert same(read_value(patched, path(name)), read_value(merged, path(name))), name


@given(RESOURCES)
def test_nothing_to_change_is_no_operation(resource: dict[str, Any]) -> None:
    assert operations(resource, paths(flatten(resource, SHAPE)), [path("title"), path('ims[type eq "x"].value')]) == []


def carry_out(resource: dict[str, Any], asked: list[dict[str, Any]]) -> dict[str, Any]:
    """PATCH as RFC 7644 section 3.5.2 describes it, independent of the code under test where it matters."""
    done = copy.deepcopy(resource)
    for operation in asked:
        target = path(operation["path"])
        home = done if target.urn is None else done.setdefault(target.urn, {})
        value = copy.deepcopy(operation.get("value"))
        held = home.get(target.name)
        if target.only:
            assert isinstance(held, list), f"noTarget: {operation}"
            selected = [one for one in held if target.selects(one)]
            assert selected, f"noTarget: {operation}"
            for one in selected:
                if operation["op"] != "remove":
                    one[target.part] = value
                elif target.part is None:
                    held.remove(one)
                else:
                    del one[target.part]
        elif target.part is not None and operation["op"] != "remove":
            home.setdefault(target.name, {})[target.part] = value
        elif target.part is not None:
            del home[target.name][target.part]
        elif operation["op"] == "remove":
            del home[target.name]
        elif operation["op"] == "add" and isinstance(held, list):
            held.extend(value if isinstance(value, list) else [value])
        else:
            home[target.name] = value
    return done


WORK = 'emails[type eq "work"].value'
PERSON = {
    "id": "1",
    "userName": "u",
    "name": {"givenName": "A"},
    "emails": [{"type": "work", "value": "a@x", "primary": True}, {"type": "home", "value": "h@x"}],
    "roles": [{"value": "r1", "display": "One"}, {"value": "r2"}],
}


@pytest.mark.parametrize(
    ("put", "clear", "expected"),
    [
        ({"userName": "v"}, [], [{"op": "replace", "path": "userName", "value": "v"}]),
        ({"USERNAME": "v"}, [], [{"op": "replace", "path": "userName", "value": "v"}]),
        ({"nickName": ""}, [], [{"op": "add", "path": "nickName", "value": ""}]),
        ({"active": False}, [], [{"op": "add", "path": "active", "value": False}]),
        ({"name.givenName": "B"}, [], [{"op": "replace", "path": "name.givenName", "value": "B"}]),
        ({WORK: "b@x"}, [], [{"op": "replace", "path": WORK, "value": "b@x"}]),
        (
            {'emails[type eq "other"].value': "o@x"},
            [],
            [{"op": "add", "path": "emails", "value": [{"type": "other", "value": "o@x"}]}],
        ),
        (
            {'addresses[type eq "work"].locality': "Bern", 'addresses[type eq "work"].country': "CH"},
            [],
            [{"op": "add", "path": "addresses", "value": [{"type": "work", "locality": "Bern", "country": "CH"}]}],
        ),
        (
            {"roles.value": ["r2", "r3"]},
            [],
            [{"op": "replace", "path": "roles", "value": [{"value": "r2"}, {"value": "r3"}]}],
        ),
        ({}, [WORK], [{"op": "remove", "path": 'emails[type eq "work"]'}]),
        ({}, ['emails[type eq "work"].primary'], [{"op": "remove", "path": 'emails[type eq "work"].primary'}]),
        ({}, ["name.givenName"], [{"op": "remove", "path": "name.givenName"}]),
        ({}, ["roles.value"], [{"op": "remove", "path": "roles"}]),
        ({}, ["title", 'emails[type eq "other"].value'], []),
        (
            {f"{ENTERPRISE.upper()}:DEPARTMENT": "IT"},
            [],
            [{"op": "add", "path": f"{ENTERPRISE}:department", "value": "IT"}],
        ),
    ],
)
def test_the_patch_is_the_smallest(put: Attributes, clear: list[str], expected: list[Any]) -> None:
    assert operations(PERSON, paths(put), [path(name) for name in clear]) == expected


def test_an_extension_is_announced_when_it_begins_and_gone_when_it_ends() -> None:
    person = merge({"schemas": [USER]}, paths({f"{ENTERPRISE}:department": "IT"}))
    assert person == {"schemas": [USER, ENTERPRISE], ENTERPRISE: {"department": "IT"}}
    assert ENTERPRISE not in merge(person, {}, [path(f"{ENTERPRISE}:department")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("emails.value", ["a@x", "h@x"]),
        ("emails", ["a@x", "h@x"]),
        ("emails[primary eq true].value", "a@x"),
        ('emails[type eq "WORK"].value', "a@x"),
        ('EMAILS[TYPE eq "work" and primary eq true].VALUE', "a@x"),
        ('emails[type eq "work" and primary eq false].value', None),
        (f"{USER}:userName", "u"),
        ("name.middleName", None),
        ("name", None),
        ("userName.value", None),
        ("id", "1"),
    ],
)
def test_reading(name: str, value: Value | None) -> None:
    assert read_value(PERSON, path(name)) == value


def test_null_and_empty_lists_are_absent() -> None:
    resource = {"title": None, "emails": [], "name": {"givenName": None}, "roles": [None, {}, {"value": None}]}
    assert flatten(resource, SHAPE) == {}


def test_names_that_no_path_could_mean_are_left_out() -> None:
    resource = {"my key": 1, "a\0b": "x", "": "y", "1st": "z", "name": {"in law": "x", "givenName": "A"}, "title": "T"}
    assert flatten(resource, SHAPE) == {"name.givenName": "A", "title": "T"}


def test_an_attribute_that_no_schema_names_is_taken_as_it_is() -> None:
    unknown = ResourceShape("")
    written = merge({}, {parse_path("favouriteNumbers", unknown): [1, 2], parse_path("a.b", unknown): "c"})
    assert written == {"favouriteNumbers": [1, 2], "a": {"b": "c"}}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "emails[",
        "emails[]",
        "emails[type].value",
        'emails[type ne "x"].value',
        "1a",
        "a.b.c",
        "a.",
        ".a",
        "urn:x",
        'a[b eq "c" or d eq "e"]',
    ],
)
def test_what_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(ConnectorMisconfigured, match="not the name of a SCIM attribute"):
        path(name)
