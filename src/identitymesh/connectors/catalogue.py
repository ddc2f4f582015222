"""Which kinds of connector there are: the modules below ``connectors/kinds``.

Adding one is adding a module there that has a ``KIND``. They are found by name and
imported when somebody asks, so that nobody depends on one and a start-up that needs
none imports none. A kind's module loads its driver late, in ``open``: the settings of
every kind can be checked on a machine that lacks some of the drivers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Final

from identitymesh.connectors.contract import Kind

_KINDS: Final = "identitymesh.connectors.kinds"


def kind_names() -> list[str]:
    """The names of all kinds, sorted; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(_KINDS).__path__))


def kinds() -> Mapping[str, Kind]:
    """Every kind under its name, as ``type`` in a definition says it."""
    return {name: kind(name) for name in kind_names()}


def kind(name: str) -> Kind:
    """One kind.

    Raises:
        KeyError: there is none of this name.
    """
    if name not in kind_names():
        raise KeyError(name)
    found = importlib.import_module(f"{_KINDS}.{name}").KIND
    if not isinstance(found, Kind):
        raise TypeError(f"KIND of {_KINDS}.{name} is not a Kind")
    return found
