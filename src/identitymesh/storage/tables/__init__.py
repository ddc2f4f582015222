"""The schema, one module for each area; all on one ``MetaData`` (see :mod:`.base`)."""

from __future__ import annotations

import importlib
import pkgutil

from sqlalchemy import MetaData

from identitymesh.storage.tables.base import metadata


def every_table() -> MetaData:
    """The metadata with the tables of every module of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return metadata
