"""All functions of the language, by family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from identitymesh.rules.expressions.function import Function
from identitymesh.rules.expressions.functions import conversions, dates, directory, lists, logic, once, text


def families() -> Mapping[str, tuple[Function, ...]]:
    """The functions of each family, in the order of the reference."""
    return {
        "Text": text.FUNCTIONS,
        "Directory names": directory.FUNCTIONS,
        "Conditions and choices": logic.FUNCTIONS,
        "Several values": lists.FUNCTIONS,
        "Dates": dates.FUNCTIONS,
        "Conversions": conversions.FUNCTIONS,
        "Given once": once.FUNCTIONS,
    }


@cache
def catalogue() -> Mapping[str, Function]:
    """Each function by its canonical name."""
    return MappingProxyType({function.name: function for family in families().values() for function in family})
