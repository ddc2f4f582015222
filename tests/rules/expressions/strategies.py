"""Random trees that make sense, and random values."""

from collections.abc import Sequence

from hypothesis import strategies as st

from identitymesh.model.attributes import Scalar, Value
from identitymesh.rules.expressions.catalogue import catalogue
from identitymesh.rules.expressions.function import Function
from identitymesh.rules.expressions.kinds import ANY, BOOLEAN, INTEGER, NUMBER, TEXT, Kinds
from identitymesh.rules.expressions.tree import (
    And,
    Attribute,
    Call,
    Comparison,
    Constant,
    Negative,
    Node,
    Not,
    Operator,
    Or,
)

NAMES = ("a", "b", "c", "d", 'e[type eq "x"].v')

texts = st.sampled_from(["", " ", "a", "A", "b", " ab ", "äß", "a,b", "2026-11-22", "7", "true", "x\ny\t\\"])
integers = st.integers(0, 4)
decimals = st.sampled_from([0.0, 0.5, 1.0, 2.25, 1e-7, 1e22])
scalars: st.SearchStrategy[Scalar] = st.one_of(
    texts, st.integers(-2, 4), decimals, st.booleans(), st.binary(max_size=1)
)
values: st.SearchStrategy[Value] = st.one_of(
    scalars, scalars, st.lists(scalars, max_size=3), st.lists(texts, min_size=2, max_size=3)
)
people = st.dictionaries(st.sampled_from(NAMES), values)

attributes = st.sampled_from(NAMES).map(Attribute)
orderings: Sequence[Operator] = ("<", "<=", ">", ">=")
equalities: Sequence[Operator] = ("==", "!=")


def constants(kinds: Kinds) -> st.SearchStrategy[Node]:
    fitting: list[st.SearchStrategy[Node]] = []
    if kinds & TEXT:
        fitting.append(texts.map(Constant))
    if kinds & INTEGER:
        fitting.append(integers.map(Constant))
    if kinds & NUMBER == NUMBER:
        fitting.append(decimals.map(Constant))
    if kinds & BOOLEAN:
        fitting.append(st.booleans().map(Constant))
    return st.one_of(*fitting)


def trees(depth: int = 4, kinds: Kinds = ANY) -> st.SearchStrategy[Node]:
    """Trees whose values can be of these kinds; most pass the checker."""
    leaf = st.one_of(attributes, attributes, constants(kinds), st.just(Constant(None)))
    return leaf if depth == 0 else st.one_of(leaf, calls(depth, kinds), st.deferred(lambda: operations(depth, kinds)))


def operations(depth: int, kinds: Kinds) -> st.SearchStrategy[Node]:
    if kinds & BOOLEAN:
        condition, anything = trees(depth - 1, BOOLEAN), trees(depth - 1)
        ordered = trees(depth - 1, TEXT), trees(depth - 1, NUMBER)
        several = st.lists(condition, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            condition.map(Not),
            several.map(And),
            several.map(Or),
            st.builds(Comparison, st.sampled_from(equalities), anything, anything),
            *(st.builds(Comparison, st.sampled_from(orderings), side, side) for side in ordered),
        )
    if kinds & NUMBER:
        return trees(depth - 1, NUMBER).map(Negative)
    return calls(depth, kinds)


@st.composite
def calls(draw: st.DrawFn, depth: int, kinds: Kinds) -> Node:
    fitting = [one for one in catalogue().values() if gives(one) & kinds]
    function = draw(st.sampled_from(fitting))
    least = sum(not parameter.optional for parameter in function.parameters)
    count = draw(st.integers(least, len(function.parameters)))
    if function.repeats:
        count += function.repeats * draw(st.sampled_from([0, 1, 2, 10 if depth < 3 else 0]))
    arguments = []
    for index in range(count):
        parameter = function.parameter(index)
        wanted = kinds if parameter.gives else parameter.kinds
        arguments.append(draw(trees(depth - 1 if count < 10 else 0, wanted)))
    return Call(function.name, tuple(arguments))


def gives(function: Function) -> Kinds:
    return function.result or ANY
